"""The heartbeat of a task: says in time that it lives, and tells the task's loop what Redis answers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import gevent
from gevent.event import Event

from gtask import signals
from gtask.distance import Distance
from gtask.election import Election, Term
from gtask.exceptions import Forbidden, Trouble
from gtask.log import keep_speaking
from gtask.membership import Membership
from gtask.outage import Line
from gtask.store import Store

log = logging.getLogger(__name__)

RELISTEN = 1.0  # seconds until notices are listened for again
REASK = 60.0  # the same after this was refused


@dataclass(frozen=True)
class Beaten:
    """A beat was answered: this task is the generator, in this term, or a handler (None); these tasks look dead."""

    term: Term | None
    dead: Sequence[int] = ()


Post = Callable[[Beaten], object]


class Heartbeat:
    """Joins, and beats until it is told to stop."""

    def __init__(
        self,
        line: Line,
        membership: Membership,
        election: Election,
        heartbeat: float,
        post: Post,
        beside: Callable[[Store], None] = lambda store: None,
    ) -> None:
        """`heartbeat`: T in seconds. `post`: where the answers go. `beside`: what is told with each beat."""
        self._line = line
        self._membership = membership
        self._election = election
        self._distance = Distance(heartbeat)
        self._post = post
        self._beside = beside
        self._due = Event()  # the next beat is due now
        self._stopping = False

    def run(self) -> None:
        """Until `stop`. Raises Trouble when Redis does not answer until the end."""
        self.join()
        while not self._stopping:
            wait = self.step()
            self._due.wait(wait)
            self._due.clear()

    def join(self) -> None:
        """Takes this process's first id."""
        self._line.retry(self._membership.first_join)

    def step(self) -> float:
        """One beat, and what goes with it. Returns the seconds until the next one."""
        wait = self._line.retry(self._election.step)
        # Told first, because what follows may wait for Redis. The next beat is no later for that.
        self._post(Beaten(self._election.term, self._election.dead))
        due = monotonic() + wait
        self._beside(self._line.store)
        if advice := self._distance.advice(self._line.store.round_trip):
            log.warning("%s", advice)
        keep_speaking()  # what users' code has taken away since the last time
        signals.keep()
        return max(0.0, due - monotonic())

    def hurry(self) -> None:
        """The next beat is due now."""
        self._due.set()

    def stop(self) -> None:
        """Makes `run` return."""
        self._stopping = True
        self._due.set()

    def listen(self) -> None:
        """An accelerator: after a clean end of the generator the next beat is due at once."""
        while True:
            wait = RELISTEN
            try:
                for _ in self._line.store.notices():
                    self.hurry()
            except Forbidden:
                wait = REASK  # it works without, but rights can come back
            except Trouble:
                pass
            gevent.sleep(wait)
