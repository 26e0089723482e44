"""The two ways in which messages come into a task's hands and leave them. The workers know neither.

A hand belongs to one membership. Redis is told of what is in it by numbered calls (calls.py), one after the other: who
calls the methods that take a `line` sees to it that nobody else does at the same time (turn.py).
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter, deque
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from gtask.calls import ONE_CALL, Call, Claim, Ended, GiveBack, Leave, Settle, fitting, size
from gtask.exceptions import NotMember, Trouble, Unanswered
from gtask.outage import Line
from gtask.outcome import DONE, NEVER, Outcome, Tried
from gtask.pace import Clock, ReplySize, SuspectTurns
from gtask.store import LATEST_BLMOVE, REPLY_BYTES, Claimed, Member, Settled, Store, Suspects

log = logging.getLogger(__name__)

FULL_FOR = 1.0  # seconds until a full Redis is asked again whether it has room
SAY_FULL = 60.0  # seconds
NEAR = 16  # so many unfinished messages may stay in the list, for beside them an acknowledgement is still quick


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
        ended = _emptied(self._ended)
        if self._kept and self._clock() < self._room_at and size([*self._kept, *ended]) <= ONE_CALL:
            self._kept += [one for one in ended if one.grows]
            ended = [one for one in ended if not one.grows]
        else:
            ended, self._kept = [*self._kept, *ended], []
        count = fitting(ended)
        self._ended[:0] = ended[count:]
        return ended[:count]

    def _hold_back(self, growing: list[Ended]) -> bool:
        """Redis has no room for what came of these. All else goes on without them, as that makes room; but not for
        ever, because what is held back takes memory here."""
        if size([*self._kept, *growing, *self._ended]) > ONE_CALL:
            return False
        now = self._clock()
        self._kept += growing
        self._room_at = now + FULL_FOR
        if now >= self._say_full_at:
            self._say_full_at = now + SAY_FULL
            log.warning("Redis is full (maxmemory): what came of %d messages (follow-ups, retries) waits for room",
                        len(self._kept))  # fmt: skip
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


class AtMostOnce(Hand):
    """The source's BLPOP: what is taken is out of Redis, and is lost with the process.

    So it stays this task's own whatever becomes of the membership. The same hand serves under the next one, and what
    Redis has not been told yet it learns from the new member.
    """

    kept_in_redis = False

    def __init__(self, member: Member, clock: Clock = monotonic) -> None:
        super().__init__(member, clock)
        self._reply_size = ReplySize(REPLY_BYTES)

    def take(self, want: int, line: Line) -> None:
        self._repeat(line)
        self._settle(self._to_tell(), line, hold_back=self._hold_back)
        line.ask(partial(self._pop, want))

    def _pop(self, want: int, store: Store) -> None:
        """One request. When its reply is lost, so are its messages, which this way of delivery permits. The attempt
        after it is not a repeat: it takes other messages, and asks for less because the reply may have been too
        large."""
        reply_bytes = self._reply_size.bytes(self._clock())
        want = want * reply_bytes // REPLY_BYTES  # small messages get fewer too, for nobody knows what was too large
        # One message is what BLPOP is for; only a batch is worth a call that may find nothing.
        if want <= 1:
            return
        try:
            messages = store.pop(want, reply_bytes)
        except Unanswered:
            self._reply_size.lost(self._clock())
            log.warning("an answer of Redis was lost, and with it up to %d messages (at-most-once); the next requests "
                        "are for less", want)  # fmt: skip
            raise
        if messages:
            self.ready.extend(messages)
            self.newest = self._clock()

    def wait(self, line: Line) -> None:
        message = line.ask(Store.blpop)
        if message is not None:
            self.ready.append(message)
            self.newest = self._clock()

    def finished(self, message: str, outcome: Outcome) -> None:
        if outcome is not DONE:
            self._ended.append(Ended(message, outcome, NEVER))

    @property
    def owes(self) -> bool:
        return bool(self._ended or self._kept or self._unanswered)

    def _settle(self, ended: list[Ended], line: Line, **how: Any) -> None:
        if ended:
            untold = partial(self._untold, ended)
            self._make(Settle(member=self.member, seq=self._next(), ended=ended, refused=untold, **how), line)

    def _untold(self, ended: list[Ended]) -> None:
        self._ended[:0] = ended

    def _giving_back(self, unstarted: list[str]) -> Call:
        back = partial(self.ready.extendleft, unstarted[::-1])
        return GiveBack(member=self.member, seq=self._next(), messages=unstarted, refused=back)

    def leave(self, line: Line) -> None:
        self.take(0, line)  # this tells what a full Redis takes, too
        self.give_back(line)
        self._room_at = 0.0
        while ended := self._to_tell():  # and this waits for room, because nobody tells it later
            self._settle(ended, line)
        unstarted = self._unstarted()
        back = partial(self.ready.extendleft, unstarted[::-1])
        self._make(Leave(member=self.member, seq=self._next(), messages=unstarted, refused=back), line)

    def under(self, member: Member) -> Hand:
        self.member = member
        return self


class AtLeastOnce(Hand):
    """BLMOVE and the claim script: a message is in this task's in-flight list until its handler returned.

    Redis forgets the list only with the acknowledgement; when this task dies, others return what it holds.
    """

    kept_in_redis = True

    def __init__(
        self,
        member: Member,
        clock: Clock = monotonic,
        *,
        turns: SuspectTurns | None = None,
        reply_size: ReplySize | None = None,
    ) -> None:
        """`turns` and `reply_size`: those of the hand before."""
        super().__init__(member, clock)
        self._turns = turns or SuspectTurns()
        self._reply_size = reply_size or ReplySize(REPLY_BYTES)
        self._over = False  # the membership is
        # Handed out to this task and not acknowledged: those in its list, and those that take long (call.lua).
        self._near: list[str] = []
        self._long: Counter[str] = Counter()
        self._suspects = Suspects.NONE
        self._then: tuple[list[str], Counter[str]] = ([], Counter())  # what these two are after the next reply
        self._tried: dict[str, Tried] = {}  # of what is in hand
        self._finished: list[str] = []  # nothing came of these
        self._moved = False  # a BLMOVE may have brought something into the list which was not handed out yet
        self._waiting = False  # one is on its way
        # One of which no answer came may be served however late: its time, and the time of the next look.
        self._astray: tuple[float, float] | None = None

    def take(self, want: int, line: Line) -> None:
        self._repeat(line)
        now = self._clock()
        turn = self._turns.mine(now, waiting=self._suspects is not Suspects.NONE)
        self._moved = False
        claim = Claim(
            member=self.member, seq=self._next(), want=want, turn=turn, ended=self._to_tell(),
            settled=partial(self._settled, _emptied(self._finished), want), reply_bytes=self._reply_size.bytes(now),
            done=self._claimed, lost=lambda: self._reply_size.lost(self._clock()), hold_back=self._hold_back,
        )  # fmt: skip
        self._make(claim, line)

    def _claimed(self, reply: Claimed) -> None:
        if self._over:
            return  # taken for dead between claim and reply: these messages are the queue's again
        self._near, self._long = self._then
        self._suspects, messages, tried = reply
        if tried or self._tried:
            # Of what it has just handed out Redis has told all that it knows. It forgets the attempts at a message when
            # an equal one is finished for good, and what was known here must not outlive that.
            told = {message: Tried(*numbers) for message, numbers in tried.items()}
            known = {**self._tried, **dict.fromkeys(messages, NEVER), **told}
            in_hand = {*self._near, *self._long, *messages}
            self._tried = {m: numbers for m, numbers in known.items() if numbers is not NEVER and m in in_hand}
        self.blocked = self._suspects in (Suspects.WAIT_FOR_US, Suspects.IN_HAND)
        if messages:
            if self.blocked:
                self._turns.served()
            self._near = self._near + messages
            self.ready.extend(messages)
            self.newest = self._clock()
        if self._astray is not None:  # each look at what may have come late is twice as late as the one before
            lost, now = self._astray[0], self._clock()
            self._astray = (lost, now + (now - lost)) if now - lost < LATEST_BLMOVE else None

    def _settled(self, finished: list[str], want: int, ended: list[Ended]) -> Settled:
        """What to tell of the messages in hand: what stays or what is finished, whichever is shorter."""
        if ended:
            finished = [*finished, *(one.message for one in ended)]
        if len(finished) == len(self._near) + self._long.total():
            self._then = [], Counter()
            return Settled(all=True)
        # Of equal messages the oldest one counts as finished: those behind it may be given back as not started.
        still_long = self._long.copy()
        long, near = [], []
        for message in finished:
            if message in still_long:
                still_long[message] -= 1
                if not still_long[message]:
                    del still_long[message]
                long.append(message)
            else:
                near.append(message)
        stay = []
        if near != self._near:
            left = Counter(near)
            for message in self._near:
                if left[message]:
                    left[message] -= 1
                else:
                    stay.append(message)
        # A task asks for more only when it has begun all that is in hand. So what is not finished by now takes long.
        away = want > 0 and len(stay) > NEAR
        if away:
            still_long.update(stay)
        self._then = [] if away else stay, still_long
        if sum(map(len, stay)) > sum(map(len, finished)):
            return Settled(finished=finished, away=away)
        return Settled(stay=stay, finished=long, away=away)

    def wait(self, line: Line) -> None:
        self._waiting = True
        try:
            line.ask(self._wait)
        finally:
            self._waiting = False

    def _wait(self, store: Store) -> None:
        if self._over:
            return
        try:
            moved = store.blmove(self.member.task_id)
        except Trouble:
            self._moved = True  # perhaps: only the reply may be lost
            self._astray = (self._clock(), self._clock())
            raise
        if moved:
            self._moved = True  # the list is the truth: the next `take` hands out what came, even if this reply is lost

    def finished(self, message: str, outcome: Outcome) -> None:
        if outcome is DONE:
            self._finished.append(message)
        else:
            self._ended.append(Ended(message, outcome, self.tried(message)))

    def tried(self, message: str) -> Tried:
        return self._tried.get(message, NEVER)

    @property
    def owes(self) -> bool:
        return bool(self._finished or self._ended or self._unanswered or self._moved or self.next_look == 0)

    @property
    def next_look(self) -> float | None:
        at = min(self._room_at if self._kept else inf, self._astray[1] if self._astray else inf)
        return None if at == inf else max(0.0, at - self._clock())

    def _giving_back(self, unstarted: list[str]) -> Call:
        count = len(unstarted)
        return GiveBack(member=self.member, seq=self._next(), count=count, done=partial(self._given_back, count))

    def _given_back(self, count: int, reply: Any) -> None:
        if count > len(self._near):
            self._near, self._long = [*self._long.elements(), *self._near], Counter()
        del self._near[len(self._near) - count :]

    def leave(self, line: Line) -> None:
        if self.owes:
            self.take(0, line)  # should this bring a message, it is still on the list and goes back with the rest
        while self._ended:
            self.take(0, line)
        self.ready.clear()
        astray = self._waiting or self._astray is not None
        self._make(Leave(member=self.member, seq=self._next(), astray=astray), line)

    def under(self, member: Member) -> Hand:
        self._over = True
        self.ready.clear()  # they are the queue's again
        return AtLeastOnce(member, self._clock, turns=self._turns, reply_size=self._reply_size)


def _emptied(items: list[Any]) -> list[Any]:
    """Empties the list and returns what it held. Another thread may append to it at the same time."""
    taken = items[:]
    del items[: len(taken)]
    return taken
