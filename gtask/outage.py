"""While Redis is away, or full: calls are retried with backoff. The log says so once, and in the end for how long."""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from gevent.event import Event

from gtask.exceptions import Full, Trouble
from gtask.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)


class Outage:
    """Knows whether Redis is away, for all greenlets of a process."""

    def __init__(self, address: str, backoff: Callable[[int], float]) -> None:
        """`backoff(failures)` gives the seconds until the next attempt."""
        self._address = address
        self._backoff = backoff
        self._since = 0.0
        self._full = False  # it answers, but has no room
        self._without: set[str] = set()  # who waits for Redis

    def retry(self, who: str, attempt: Callable[[], T], give_up: Event) -> T:
        """Returns the result of the first attempt that Redis answers. An attempt must be such that it may be repeated.

        `who`: the name of the caller, for counting who waits. Raises the last Trouble once `give_up` is set.
        """
        failures = 0
        since = 0.0
        while True:
            try:
                result = attempt()
            except Trouble as trouble:
                failures += 1
                # The first failure says little. An outage that is over, and of which others have told, may have broken
                # this connection too; then the second attempt connects anew and succeeds.
                if failures == 1:
                    since = monotonic()
                else:
                    self._lost(who, trouble, since)
                if give_up.wait(self._backoff(failures)):
                    self._without.discard(who)
                    raise
            except BaseException:  # an error that no retry helps; so this caller does not wait for Redis any more
                self._without.discard(who)
                raise
            else:
                if self._without:
                    self._found(who)
                return result

    def _lost(self, who: str, trouble: Trouble, since: float) -> None:
        full = isinstance(trouble, Full)
        if not self._without:
            self._since = since
        if not self._without or (self._full and not full):
            self._full = full
            if full:
                log.warning("%s; trying again", trouble)
            else:
                log.warning("lost Redis at %s: %s; trying again", self._address, trouble)
        self._without.add(who)

    def _found(self, who: str) -> None:
        self._without.discard(who)
        if not self._without:
            news = "has room again" if self._full else "is back"
            log.warning("Redis %s after %.1f s", news, monotonic() - self._since)


class Line:
    """How a part of the task asks Redis: over which connections, and how long it retries; without an `outage`,
    never."""

    def __init__(self, store: Store, outage: Outage | None = None, who: str = "", give_up: Event | None = None) -> None:
        """`who`: the name under which the outage knows the caller. `give_up`: when set, it retries no more."""
        self.store = store
        self._outage = outage
        self._who = who
        self._give_up = give_up or Event()

    def of(self, who: str, give_up: Event | None = None) -> "Line":
        """The same for another caller."""
        return Line(self.store, self._outage, who, give_up or self._give_up)

    def ask(self, attempt: Callable[[Store], T]) -> T:
        """The result of `attempt(store)`. Raises Trouble when there was no answer, or none until it gave up."""
        return self.retry(partial(attempt, self.store))

    def pause(self, seconds: float) -> None:
        """Waits so long, or until it is time to give up."""
        self._give_up.wait(seconds)

    def retry(self, attempt: Callable[[], T]) -> T:
        """The same for an attempt that has its store already."""
        return attempt() if self._outage is None else self._outage.retry(self._who, attempt, self._give_up)
