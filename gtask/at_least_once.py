"""At-least-once delivery: BLMOVE, and the script that acknowledges and claims."""

from collections import Counter
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from gtask.calls import Call, Claim, Ended, GiveBack, Leave
from gtask.exceptions import Full, Trouble
from gtask.hand import FULL_FOR, Hand, emptied
from gtask.outage import Line
from gtask.outcome import DONE, NEVER, Outcome, Tried
from gtask.pace import Clock, ReplySize, SuspectTurns
from gtask.store import LATEST_BLMOVE, REPLY_BYTES, Claimed, Member, Settled, Store, Suspects

NEAR = 16  # so many unfinished messages may stay in the list, for beside them an acknowledgement is still quick


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
            settled=partial(self._settled, emptied(self._finished), want), reply_bytes=self._reply_size.bytes(now),
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
            waited = line.ask(self._wait)
        finally:
            self._waiting = False
        if not waited:
            line.pause(FULL_FOR)

    def _wait(self, store: Store) -> bool:
        """False when a full Redis has refused. A claim it does not refuse, so what comes by then is found by the next
        one."""
        if self._over:
            return True
        try:
            moved = store.blmove(self.member.task_id)
        except Full:
            return False
        except Trouble:
            self._moved = True  # perhaps: only the reply may be lost
            self._astray = (self._clock(), self._clock())
            raise
        if moved:
            self._moved = True  # the list is the truth: the next `take` hands out what came, even if this reply is lost
        return True

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
