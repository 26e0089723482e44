"""Numbered calls: how a task tells Redis of the messages in its hands.

Redis remembers the number of a task's last call, so one of which no reply came is made again without harm, as long as
it is the same call and no other one comes between. So each is built once, as an object, and repeated as that object.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gtask.exceptions import Full, NotMember, Rejected, Trouble, Unanswered
from gtask.outcome import Outcome, Tried, shorter
from gtask.store import NOTHING_CAME, Came, Member, Postponed, Settled, Store

ONE_CALL = 1 << 20  # bytes: so much of what came of messages is told in one call
EACH = 64  # bytes: what a message takes beside itself, so that many small ones are not too many for one call


class Ended(NamedTuple):
    """A message that was handled, and something came of it; `tried` before."""

    message: str
    outcome: Outcome
    tried: Tried

    @property
    def grows(self) -> bool:
        """Whether it takes room that Redis may not have. That is what follow-ups do: failures, and messages that come
        again, it takes in any case."""
        return bool(self.outcome.followups)


def size(ended: Iterable[Ended]) -> int:
    """About how many bytes their follow-ups are, and those that come again."""
    return sum(
        sum(len(message) + EACH for message in one.outcome.followups)
        + (len(one.message) + EACH if one.outcome.later else 0)
        for one in ended
    )


def fitting(ended: Sequence[Ended]) -> int:
    """How many of the first ones one call tells: at least one."""
    room = ONE_CALL
    for count, one in enumerate(ended):
        room -= size([one])
        if room < 0 and count:
            return count
    return len(ended)


def came_of(ended: Sequence[Ended]) -> Came:
    """What Redis is told of them."""
    if not ended:
        return NOTHING_CAME
    return Came(
        failed=[one.outcome.record for one in ended if one.outcome.record],
        followups=[message for one in ended for message in one.outcome.followups],
        later=[
            Postponed(
                one.message,
                round(1000 * later.after),
                one.tried.attempts + 1,
                one.tried.failures + later.failed,
            )
            for one in ended
            if (later := one.outcome.later)
        ],
    )


@dataclass(kw_only=True)
class Call(ABC):
    """One numbered call. `done` is called with its reply, `refused` when Redis does not know the member (any more).

    `hold_back` is called when Redis is full, with those of which more came than it has room for. It says whether a
    later call tells of them instead.
    """

    member: Member
    seq: int
    done: Callable[[Any], None] = lambda reply: None
    refused: Callable[[], None] = lambda: None
    hold_back: Callable[[list[Ended]], bool] = lambda ended: False
    ended: list[Ended] = field(default_factory=list)  # what is told with it
    _open: int = 0  # attempts that may still arrive, for no answer has come

    def attempt(self, store: Store) -> Any:
        """Makes it, and returns the reply. After Trouble the same call is to be made again. Raises NotMember."""
        self._open += 1
        try:
            return self._ask(store)
        except (Trouble, Rejected) as error:
            if not isinstance(error, Unanswered):
                self._open -= 1
            smaller = self._shrink(error)
            if smaller and isinstance(error, Full):
                return self.attempt(store)  # at once, for Redis has answered
            if smaller and isinstance(error, Rejected):
                raise Trouble(str(error)) from error  # the next attempt is smaller
            raise

    @abstractmethod
    def _ask(self, store: Store) -> Any:
        """One attempt."""

    def _shrink(self, error: Trouble | Rejected) -> bool:
        """Says less where its size may be what is wrong. Whether it does now."""
        before = list(self.ended)
        if isinstance(error, Full):
            # Only a call of which no other attempt may still arrive becomes another one under the same number.
            growing = [one for one in before if one.grows]
            if growing and not self._open and self.hold_back(growing):
                self.ended[:] = [one for one in before if not one.grows]
        else:
            self.ended[:] = [one._replace(outcome=shorter(one.message, one.outcome)) for one in before]
        return before != self.ended


@dataclass(kw_only=True)
class Claim(Call):
    """At-least-once: tells what is finished and takes `want` messages more."""

    want: int
    turn: bool
    settled: Callable[[list[Ended]], Settled]  # what to say when these have ended
    reply_bytes: int
    lost: Callable[[], int]  # to be called when a reply was lost: how large a one to ask for instead

    def _ask(self, store: Store) -> Any:
        return store.claim(
            self.member, self.seq, self.want, self.settled(self.ended), came_of(self.ended), turn=self.turn,
            reply_bytes=self.reply_bytes,
        )  # fmt: skip

    def _shrink(self, error: Trouble | Rejected) -> bool:
        if isinstance(error, Unanswered):
            self.reply_bytes = self.lost()
        return super()._shrink(error)


@dataclass(kw_only=True)
class Settle(Call):
    """At-most-once: tells what came of messages."""

    def _ask(self, store: Store) -> None:
        store.settle(self.member, self.seq, came_of(self.ended))


@dataclass(kw_only=True)
class GiveBack(Call):
    """Returns messages that were not started to the head of the queue: at-least-once the last `count` of those on the
    task's list, at-most-once these `messages`."""

    count: int = 0
    messages: Sequence[str] = ()

    def _ask(self, store: Store) -> None:
        store.give_back(self.member, self.seq, leave=False, unstarted=self.count, messages=self.messages)


@dataclass(kw_only=True)
class Leave(Call):
    """Returns them and ends the membership. At-least-once, all that is on the task's list goes back."""

    astray: bool = False  # a BLMOVE of this task may still be served
    messages: Sequence[str] = ()
    _lost: bool = False  # an attempt was not answered

    def _ask(self, store: Store) -> None:
        try:
            store.give_back(self.member, self.seq, leave=True, astray=self.astray, messages=self.messages)
        except Trouble:
            self._lost = True
            raise
        except NotMember:
            # Either an attempt of ours has arrived, and ended the membership; or this task was taken for dead, and only
            # then is something lost.
            if self.messages and not self._lost:
                raise
