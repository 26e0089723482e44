"""When Redis is away: ask again with backoff, say it once, say how long it was (sidekiq's habit)."""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from gevent.event import Event

from gtask.exceptions import Trouble
from gtask.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)


class Outage:
    """Knows whether Redis is away, for all greenlets of a process."""

    def __init__(self, address: str, backoff: Callable[[int], float]) -> None:
        """`backoff(failures)` gives the seconds to the next try."""
        self._address = address
        self._backoff = backoff
        self._since = 0.0
        self._without: set[str] = set()  # who waits for Redis

    def retry(self, who: str, attempt: Callable[[], T], give_up: Event) -> T:
        """The result of the first attempt that Redis answers; attempts must bear repeating.

        Raises Trouble, the last one, once `give_up` is set.
        """
        failures = 0
        since = 0.0
        while True:
            try:
                result = attempt()
            except Trouble as trouble:
                failures += 1
                # The first failure may be a connection that an outage has broken of which others were the first
                # to know: Redis is back already, and the second attempt connects anew.
                if failures == 1:
                    since = monotonic()
                else:
                    self._lost(who, trouble, since)
                if give_up.wait(self._backoff(failures)):
                    self._without.discard(who)
                    raise
            except BaseException:  # who asked does not wait for Redis any more
                self._without.discard(who)
                raise
            else:
                if self._without:
                    self._found(who)
                return result

    def _lost(self, who: str, trouble: Trouble, since: float) -> None:
        if not self._without:
            self._since = since
            log.warning("lost Redis at %s: %s; trying again", self._address, trouble)
        self._without.add(who)

    def _found(self, who: str) -> None:
        self._without.discard(who)
        if not self._without:
            log.warning("Redis is back after %.1f s", monotonic() - self._since)


class Line:
    """How somebody asks Redis: by which connections, and again until when; or once, without an `outage`."""

    def __init__(self, store: Store, outage: Outage | None = None, who: str = "", give_up: Event | None = None) -> None:
        """`who`: as whom the outage knows who asks; `give_up`: set when it is in vain."""
        self.store = store
        self._outage = outage
        self._who = who
        self._give_up = give_up or Event()

    def of(self, who: str, give_up: Event | None = None) -> "Line":
        """The same for somebody else."""
        return Line(self.store, self._outage, who, give_up or self._give_up)

    def ask(self, attempt: Callable[[Store], T]) -> T:
        """The result of `attempt(store)`. Raises Trouble when there was no answer, or none until it was in vain."""
        return self.retry(partial(attempt, self.store))

    def retry(self, attempt: Callable[[], T]) -> T:
        """The same for an attempt that has its store."""
        return attempt() if self._outage is None else self._outage.retry(self._who, attempt, self._give_up)
