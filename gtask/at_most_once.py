"""At-most-once delivery: BLPOP, and batches of the same kind."""

import logging
from functools import partial
from time import monotonic
from typing import Any

from gtask.calls import Call, Ended, GiveBack, Leave, Settle
from gtask.exceptions import Unanswered
from gtask.hand import Hand
from gtask.outage import Line
from gtask.outcome import DONE, NEVER, Outcome, failed
from gtask.pace import Clock, ReplySize
from gtask.store import REPLY_BYTES, Member, Store

log = logging.getLogger(__name__)


class AtMostOnce(Hand):
    """The source's BLPOP: what is taken is out of Redis, and is lost with the process.

    So it stays this task's own whatever becomes of the membership. The same hand serves under the next one, and what
    Redis has not been told yet it learns from the new member.
    """

    kept_in_redis = False

    def __init__(self, member: Member, clock: Clock = monotonic) -> None:
        super().__init__(member, clock)
        self._reply_size = ReplySize(REPLY_BYTES)
        self._given_up = False  # what was handled still has failed

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
        if outcome is not DONE and not self._given_up:
            self._ended.append(Ended(message, outcome, NEVER))

    def give_up(self, messages: list[str], why: str) -> int:
        # The native thread may have done it, and then the event loop has turned again and the end goes on: here, and in
        # `handle` too, which may even fail now. Each message has one record all the same.
        if self._given_up:
            return 0
        self._given_up = True
        self._ended += [Ended(message, failed(message, why, self.member.task_id), NEVER) for message in messages]
        return len(messages)

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
