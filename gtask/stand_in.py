"""Acts for the greenlets of a task while users' code holds its event loop, because it computes or waits in C.

No greenlet runs then. There is no heartbeat, and the messages in hand wait although other tasks are idle. So a native
thread talks to Redis for them, over connections of its own. It may have to wait for Redis, which is why another thread
says when it is due (watch.py): that one waits for nothing.
"""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

from gevent.monkey import get_original

from gtask import log
from gtask.election import Election
from gtask.exceptions import GtaskError, NotMember, Trouble
from gtask.handler import Handler
from gtask.membership import Membership
from gtask.places import where_in
from gtask.standstill import within
from gtask.store import Store, backoff

logger = logging.getLogger(__name__)

KEPT_FOR = 10  # heartbeats: a generate that holds the loop for longer loses the flag
# Heartbeats since the last one after which the thread sends one: while the loop is held, and while it turns.
BEAT_WHEN_HELD, BEAT_WHEN_LATE = 0.75, 1.5

_start_thread = get_original("_thread", "start_new_thread")


class StandIn:
    """Acts for the greenlets of a task, in a thread of its own. Where it fails, it leaves the matter to them."""

    def __init__(
        self,
        make_store: Callable[[], Store],
        membership: Membership,
        election: Election,
        handler: Handler,
        *,
        heartbeat: float,
        why: str,
    ) -> None:
        """`heartbeat`: T in seconds. `why`: the reason with which fails what is not finished in time and cannot be
        given back."""
        self._make_store = make_store
        self._membership = membership
        self._election = election
        self._handler = handler
        self._heartbeat = heartbeat
        self._why = why
        self._beaten = monotonic()
        self._failures = 0  # in a row
        self._again = 0.0  # when the thread acts again after a failure
        self._let_go = 0  # the number of the term whose flag is not kept any more; 0: none
        self._left = False
        self._busy = False
        self._store: Store | None = None
        self._jobs: Any = get_original("queue", "SimpleQueue")()

    def beaten(self) -> None:
        """A heartbeat has just been sent by the greenlet, or this thread tries to send one. What came of that does not
        matter here: a thread that began anew at once would double the attempts while Redis is away."""
        self._beaten = monotonic()

    @property
    def urgent(self) -> bool:
        """Whether messages would have to wait for a loop that is held."""
        return self._handler.supply.has_unstarted

    def abandon(self) -> None:
        """Closes the thread's sockets in a forked child, which has copies of them but not the thread."""
        if self._store is not None:
            self._store.abandon()

    def leave_at_once(self, seconds: float, why: str) -> None:
        """Stores what is finished and gives back what was not started, after the event loop has broken. `why`: the
        reason with which fails what cannot be given back.

        That happens in a thread and over connections made for this alone, because the standing-in thread may be in the
        middle of something. Returns when it is done, or after `seconds`.
        """
        left = get_original("_thread", "allocate_lock")()
        left.acquire()

        def leave() -> None:
            self._try(lambda: self._handler.leave_from_outside(self._make_store(), why))
            left.release()

        _start_thread(leave, ())
        within(seconds, lambda step: left.acquire(timeout=step))

    def start(self) -> None:
        """Starts the thread."""
        _start_thread(self._run, ())

    def late(self, held: float, holder: FrameType | None, *, ending: bool, over: bool) -> None:
        """Makes the thread do what is due, unless it is doing so already.

        `held`: for how many seconds the loop has been held (0: it turns), and `holder`: by whom. `ending`: the end was
        asked for. `over`: the time for a graceful end is over.
        """
        now = monotonic()
        since = (now - self._beaten) / self._heartbeat
        if not self._busy and (over or now >= self._again) and (held or since >= BEAT_WHEN_LATE):
            self._busy = True
            self._jobs.put(partial(self._act, held, holder, ending, over))

    def _run(self) -> None:
        while True:
            self._failures = 0 if self._try(self._jobs.get()) else self._failures + 1
            self._again = monotonic() + backoff(self._failures) if self._failures else 0.0
            self._busy = False

    def _act(self, held: float, holder: FrameType | None, ending: bool, over: bool) -> None:
        store = self._store
        if store is None:
            store = self._store = self._make_store()
        if over:
            if not self._left:
                self._handler.leave_from_outside(store, self._why)
                self._left = True
            return
        self._beat(store, held, holder, ending)
        if held:
            self._handler.supply.give_back_from_outside(store)

    def _try(self, what: Callable[[], None]) -> bool:
        """Does it once, and says whether it could be done. The greenlets deal with what goes wrong here, as soon as
        they run again."""
        try:
            what()
        except (Trouble, NotMember, GtaskError) as error:
            logger.debug("while the event loop is held: %s", error)
        except Exception:  # the next attempt may succeed, and without this thread nobody would make one
            logger.exception("a bug in gtask (standing in for the event loop)")
        else:
            return True
        return False

    def _beat(self, store: Store, held: float, holder: FrameType | None, ending: bool) -> None:
        """Keeps the membership, and the flag too if it is generate that holds the loop.

        The flag is not kept for ever, because a generate that hangs would keep all other tasks from generating. It is
        not kept at all while a handler holds the loop: another task can generate meanwhile.
        """
        term = self._election.term
        keep = False
        if term is not None and term.number != self._let_go:
            keep = not ending and _draws(holder) and held < KEPT_FOR * self._heartbeat
            if ending:
                self._let_go = term.number
                store.release(term.member, term.number)
            elif _draws(holder) and not keep:
                self._let_go = term.number
                why = f"generate held the event loop for {held:.1f} s at {where_in(holder)}"
                log.say(f"term {term.number} lost: {why}")
                store.release_failed(term.member, term.number, why)
        if self._membership.member.task_id and monotonic() - self._beaten >= BEAT_WHEN_HELD * self._heartbeat:
            self.beaten()
            asked = monotonic()
            beat = store.beat(self._membership.member, term=term.number if keep and term else 0)
            self._election.server_clock.told(beat.time, asked, monotonic())
            self._handler.tell_longest(store)


def _draws(frame: FrameType | None) -> bool:
    """Whether it is the users' generate that runs in this frame."""
    while frame is not None and frame.f_globals.get("__name__") != "gtask.generator":
        frame = frame.f_back
    return frame is not None
