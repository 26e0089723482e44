"""Numbered calls: how a task tells Redis of the messages in its hands.

Redis remembers the number of a task's last call, so one of which no reply came is made again without harm, as long as
it is the same call and no other one comes between. So each is built once, as an object, and repeated as that object.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gtask.exceptions import NotMember, Rejected, Trouble, Unanswered
from gtask.outcome import Failure, shorter
from gtask.store import Member, Settled, Store


@dataclass(kw_only=True)
class Call(ABC):
    """One numbered call. `done` is called with its reply, `refused` when Redis does not know the member (any more)."""

    member: Member
    seq: int
    done: Callable[[Any], None] = lambda reply: None
    refused: Callable[[], None] = lambda: None
    failures: list[Failure] = field(default_factory=list)  # which are told with it

    def attempt(self, store: Store) -> Any:
        """Makes it, and returns the reply. After Trouble the same call is to be made again. Raises NotMember."""
        try:
            return self._ask(store)
        except (Trouble, Rejected) as error:
            if self._shrink(error) and isinstance(error, Rejected):
                raise Trouble(str(error)) from error  # the next attempt is smaller
            raise

    @abstractmethod
    def _ask(self, store: Store) -> Any:
        """One attempt."""

    def _shrink(self, error: Trouble | Rejected) -> bool:
        """Says less where its size may be what is wrong. Whether it does now."""
        before, self.failures = self.failures, shorter(self.failures)
        return before != self.failures


@dataclass(kw_only=True)
class Claim(Call):
    """At-least-once: tells what is finished and takes `want` messages more."""

    want: int
    turn: bool
    settled: Settled  # but for the failures
    reply_bytes: int
    lost: Callable[[], int]  # to be called when a reply was lost: how large a one to ask for instead

    def _ask(self, store: Store) -> Any:
        settled = replace(self.settled, failed=[record for _, record in self.failures])
        return store.claim(self.member, self.seq, self.want, settled, turn=self.turn, reply_bytes=self.reply_bytes)

    def _shrink(self, error: Trouble | Rejected) -> bool:
        if isinstance(error, Unanswered):
            self.reply_bytes = self.lost()
        return super()._shrink(error)


@dataclass(kw_only=True)
class Fail(Call):
    """At-most-once: stores failures."""

    def _ask(self, store: Store) -> None:
        store.fail(self.member, self.seq, [record for _, record in self.failures])


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
