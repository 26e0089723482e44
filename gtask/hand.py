"""What a task has in hand, whichever way messages come there and leave. The workers know no more than this.

A hand belongs to one membership. Redis is told of what is in it by numbered calls (calls.py), one after the other: who
calls the methods that take a `line` sees to it that nobody else does at the same time (turn.py).

Each way of delivery is a subclass in a file of its own, and a row of the table HANDS in task.py.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any

from gtask.calls import ONE_CALL, Call, Ended, GiveBack, fitting, size
from gtask.exceptions import NotMember
from gtask.outage import Line
from gtask.outcome import NEVER, Outcome, Tried
from gtask.pace import Clock
from gtask.store import Member

log = logging.getLogger(__name__)

FULL_FOR = 1.0  # seconds until a full Redis is asked again whether it has room
SAY_FULL = 60.0  # seconds


class Hand(ABC):
    """What a task holds under one membership. Methods with a `line` talk to Redis over it. They raise Trouble when it
    did not answer, and then bear repeating; and NotMember when it does not know the member: see `under`."""

    kept_in_redis: bool  # what is in hand stands in a list of Redis', too, so it is not lost with this process
    blocked = False  # this task gets nothing before its hands are empty

    def __init__(self, member: Member, clock: Clock = monotonic) -> None:
        """Empty."""
        self.member = member
        self.ready: deque[str] = deque()  # taken, not started
        self.newest = 0.0  # when the last of them came
        self._clock = clock
        self._seq = 0
        self._ended: list[Ended] = []  # something came of them, and Redis has not been told
        self._kept: list[Ended] = []  # the same, but Redis had no room for it
        self._room_at = 0.0  # when it is asked again
        self._say_full_at = 0.0
        self._unanswered: Call | None = None  # made, perhaps in vain: it is made again before any other

    @abstractmethod
    def take(self, want: int, line: Line) -> None:
        """Tells Redis what is finished and takes up to `want` messages, without waiting."""

    @abstractmethod
    def wait(self, line: Line) -> None:
        """Waits up to `--wait` seconds for a message, which is ready then, or after the next `take`."""

    @abstractmethod
    def finished(self, message: str, outcome: Outcome) -> None:
        """The message, once ready, was handled. Redis learns it with the next call."""

    def give_up(self, messages: list[str], why: str) -> int:
        """These are handled still, and the end does not wait for them: returns how many of them fail because of that,
        for this reason. The others go back to the queue when the task leaves."""
        return 0

    def tried(self, message: str) -> Tried:
        """What is known of earlier attempts at a message in hand. Equal messages share it."""
        return NEVER

    @property
    @abstractmethod
    def owes(self) -> bool:
        """Whether a `take(0)` is owed: something is finished, or came without being ready."""

    @property
    def next_look(self) -> float | None:
        """Seconds until a `take(0)` is owed for what may have come late; None: never."""
        return None

    def give_back(self, line: Line) -> None:
        """Returns what is ready to the head of the queue, in its order."""
        self._repeat(line)
        if unstarted := self._unstarted():
            self._make(self._giving_back(unstarted), line)

    @property
    def returning(self) -> bool:
        """Whether such a call has not been answered."""
        return isinstance(self._unanswered, GiveBack)

    @abstractmethod
    def _giving_back(self, unstarted: list[str]) -> Call:
        """The call that does it."""

    @abstractmethod
    def leave(self, line: Line) -> None:
        """The same at the end of the task, together with its membership."""

    @abstractmethod
    def under(self, member: Member) -> "Hand":
        """The hand of the next membership, for this one's is over. From now on this one is not to be used; what workers
        who still have it say to it does no harm."""

    def _unstarted(self) -> list[str]:
        """Out of the workers' hands, though they may run at the same time (in another thread): each message goes to one
        of both."""
        taken: list[str] = []
        with suppress(IndexError):
            while True:
                taken.append(self.ready.pop())
        return taken[::-1]

    def _to_tell(self) -> list[Ended]:
        """Takes out what the next call is to tell: not too much, and not while Redis has no room for it."""
        ended = emptied(self._ended)
        growing = [one for one in ended if one.grows]
        if self._kept and self._clock() < self._room_at and size([*self._kept, *growing]) <= ONE_CALL:
            self._kept += growing
            ended = [one for one in ended if not one.grows]
        else:
            ended, self._kept = [*self._kept, *ended], []
        count = fitting(ended)
        self._ended[:0] = ended[count:]
        return ended[:count]

    def _hold_back(self, growing: list[Ended]) -> bool:
        """Redis has no room for what came of these. All else goes on without them, as that makes room; but not for
        ever, because what is held back takes memory here."""
        if size([*self._kept, *growing, *(one for one in self._ended if one.grows)]) > ONE_CALL:
            return False
        now = self._clock()
        self._kept += growing
        self._room_at = now + FULL_FOR
        if now >= self._say_full_at:
            self._say_full_at = now + SAY_FULL
            log.warning("Redis is full (maxmemory): the follow-ups of %d messages wait for room", len(self._kept))
        return True

    def _next(self) -> int:
        # No number may be skipped. Redis takes a gap as a sign that it has itself gone back in time, and refuses the
        # call.
        self._seq += 1
        return self._seq

    def _make(self, call: Call, line: Line) -> None:
        self._unanswered = call
        self._repeat(line)

    def _repeat(self, line: Line) -> None:
        """Makes the call that has not been answered, if there is one, until it is."""
        call = self._unanswered
        if call is None:
            return
        # A call of the membership before may be refused. That says nothing about the present one.
        older = call.member is not self.member
        try:
            reply = line.ask(call.attempt)
        except NotMember:
            if self._unanswered is call:
                self._unanswered = None
                call.refused()
            if not older:
                raise
            return
        # Otherwise the native thread has made the call again meanwhile, and has dealt with the same reply.
        if self._unanswered is call:
            self._unanswered = None
            call.done(reply)


def emptied(items: list[Any]) -> list[Any]:
    """Empties the list and returns what it held. Another thread may append to it at the same time."""
    taken = items[:]
    del items[: len(taken)]
    return taken
