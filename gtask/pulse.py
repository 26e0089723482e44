"""Keeps a task a member while its own code holds up every greenlet.

A handler that computes for long starves the heartbeat; the others would take the task for dead and run its messages
again. This beats from a native thread, only while the heartbeat is late, and only for the membership: the flag may
pass to another task, which is what one wants of a generator that stands still. One C call that keeps the GIL stops
this thread too.
"""

from collections.abc import Callable
from time import monotonic

from gevent import get_hub
from gevent.monkey import get_original

from gtask.exceptions import NotMember, Trouble
from gtask.membership import Membership
from gtask.store import Store

LATE = 1.5  # heartbeats


class Pulse:
    """The thread. `beaten` is called after each regular heartbeat."""

    def __init__(self, make_store: Callable[[], Store], membership: Membership, heartbeat: float) -> None:
        """`make_store`: connections of its own, they belong to a thread. `heartbeat`: T in seconds."""
        self._make_store = make_store
        self._membership = membership
        self._heartbeat = heartbeat
        self._last = monotonic()
        self._stopped = False
        self._store: Store | None = None

    def start(self) -> None:
        """Starts the thread."""
        get_hub().threadpool.spawn(self._run)

    def beaten(self) -> None:
        """The regular heartbeat has just come."""
        self._last = monotonic()

    def abandon(self) -> None:
        """In a forked child, where the thread is not: closes its sockets."""
        if self._store is not None:
            self._store.abandon()

    def stop(self) -> None:
        """Ends the thread soon."""
        self._stopped = True

    def _run(self) -> None:
        sleep = get_original("time", "sleep")
        while not self._stopped:
            sleep(self._heartbeat / 2)
            if monotonic() - self._last < LATE * self._heartbeat:
                continue
            store = self._store = self._store or self._make_store()
            try:
                store.beat(self._membership.member)
            except (Trouble, NotMember):
                continue  # the regular heartbeat deals with both
