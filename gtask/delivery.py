"""The two ways in which messages come into a task's hands and leave them. The handler knows neither.

Calls that change Redis are numbered. One of which no reply came is repeated as it was before any other, and
the scripts recognise it by its number; so every method here bears repeating after Trouble.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from gevent.monkey import get_original

from gtask.exceptions import NotMember, Rejected, Trouble, Unanswered
from gtask.membership import Membership
from gtask.pace import Reach, Turns
from gtask.store import REPLY_BYTES, Member, Settled, Store, Suspects
from gtask.text import printable, read_record

log = logging.getLogger(__name__)

NEAR = 16  # messages in the list beside which an acknowledgement is as quick as without them

ASTRAY = 3600.0  # seconds: a BLMOVE of which no answer came is not served later than this (reap.lua)

LARGE = 1 << 19  # characters: a failure record that is longer may be longer than what Redis takes

Call = Callable[[Member], None]
Failure = tuple[str, str]  # a message and the record for `errors`

_thread_ident = get_original("_thread", "get_ident")


class Delivery(ABC):
    """One way. `batch` changes when what is in hand is not this task's any more: pass to `done`, `failed` and
    `give_back` what it was when the message was started, or was to be given back."""

    batch = 0
    blocked = False  # this task gets nothing before its hands are empty

    def __init__(self, store: Store, membership: Membership) -> None:
        """Talks to Redis as the member that `membership` names at the time."""
        self._greenlets_store = store
        self._stores: dict[int, Store] = {}  # of native threads
        self._membership = membership
        self._seq = 0
        self._reach = Reach(REPLY_BYTES)

    def speak_through(self, store: Store) -> None:
        """In the thread that calls this, which is not the greenlets' own, calls go by `store`: connections belong to a
        thread. There, NotMember is raised, because joining anew is the greenlets' business."""
        self._stores[_thread_ident()] = store

    @property
    def _store(self) -> Store:
        return self._stores.get(_thread_ident(), self._greenlets_store) if self._stores else self._greenlets_store

    @abstractmethod
    def take(self, want: int) -> list[str]:
        """Tells Redis what is finished and takes up to `want` messages, without waiting."""

    @abstractmethod
    def wait(self) -> list[str]:
        """Waits up to `--wait` seconds for a message, which is returned or comes with the next `take`."""

    @abstractmethod
    def done(self, message: str, batch: int) -> None:
        """The message was handled."""

    @abstractmethod
    def failed(self, message: str, record: str, batch: int) -> None:
        """Its handling failed; `record` belongs into `errors`."""

    @abstractmethod
    def lost_with(self, running: Iterable[str]) -> Sequence[str]:
        """Those of the messages that are being handled which nobody would handle again if this task ended now."""

    @property
    @abstractmethod
    def unsettled(self) -> bool:
        """Whether a `take(0)` is owed: something is finished, or came without being handed out."""

    @property
    def next_look(self) -> float | None:
        """Seconds until a `take(0)` is owed for what may have come late; None: never."""
        return None

    @abstractmethod
    def give_back(self, unstarted: Sequence[str], batch: int) -> None:
        """Returns messages that were not started to the head of the queue, in their order. The same sequence given
        again is the same call, repeated."""

    @property
    @abstractmethod
    def returning(self) -> bool:
        """Whether such a call is on its way: the next one that changes Redis repeats it first."""

    @abstractmethod
    def leave(self, unstarted: Sequence[str]) -> None:
        """The same at the end of the task, together with its membership."""

    @abstractmethod
    def rejoined(self) -> bool:
        """The task has a new id. Whether the unstarted messages in hand are still its own."""


class AtMostOnce(Delivery):
    """The source's BLPOP: what is taken is out of Redis, and lost with the process."""

    def __init__(self, store: Store, membership: Membership) -> None:
        super().__init__(store, membership)
        self._failed: list[Failure] = []
        self._call: Call | None = None  # on its way, repeated until its reply has come
        self._back: Call | None = None  # it, if it gives back or leaves
        self._returned: Sequence[str] | None = None  # what the newest `_back` gives back
        self._leaving = False

    def take(self, want: int) -> list[str]:
        self._settle()
        reach = self._reach.bytes(monotonic())
        want = want * reach // REPLY_BYTES  # small messages too: it is not known what was too large
        # One message is what BLPOP is for; only a batch is worth a call that may find nothing.
        if want <= 1:
            return []
        try:
            return self._store.pop(want, reach)
        except Unanswered:
            self._reach.lost(monotonic())
            log.warning("an answer of Redis was lost, and with it up to %d messages (at-most-once); the next requests "
                        "are for less", want)  # fmt: skip
            raise

    def wait(self) -> list[str]:
        message = self._store.blpop()
        return [] if message is None else [message]

    def done(self, message: str, batch: int) -> None:
        pass

    def failed(self, message: str, record: str, batch: int) -> None:
        self._failed.append((message, record))

    def lost_with(self, running: Iterable[str]) -> Sequence[str]:
        return list(running)

    @property
    def unsettled(self) -> bool:
        return bool(self._failed or self._call)

    def give_back(self, unstarted: Sequence[str], batch: int) -> None:
        if self._returned is not unstarted:
            self._settle()
            seq = self._next()
            self._back = lambda me: self._store.give_back(me, seq, leave=False, messages=unstarted)
            self._returned = unstarted
        if self._back is not None:
            self._complete(self._back)

    def leave(self, unstarted: Sequence[str]) -> None:
        if not self._leaving:
            self._settle()
            self._leaving, self._back = True, self._leave(unstarted)
        if self._back is not None:
            self._complete(self._back)

    def _leave(self, unstarted: Sequence[str]) -> Call:
        seq, lost = self._next(), False

        def leave(me: Member) -> None:
            nonlocal lost
            try:
                self._store.give_back(me, seq, leave=True, messages=unstarted)
            except Trouble:
                lost = True
                raise
            except NotMember:
                # Either the attempt before has arrived, and ended the membership; or this task was taken for dead.
                if unstarted and not lost:
                    raise

        return leave

    @property
    def returning(self) -> bool:
        return self._back is not None

    def rejoined(self) -> bool:
        return True

    def _settle(self) -> None:
        self._complete(self._call)
        if self._failed:
            storing = self._storing(self._next(), self._failed)
            self._failed = []
            self._complete(storing)

    def _storing(self, seq: int, failed: list[Failure]) -> Call:
        def store(me: Member) -> None:
            nonlocal failed
            try:
                self._store.fail(me, seq, [record for _, record in failed])
            except (Trouble, Rejected) as error:
                before, failed = failed, _shorter(failed)
                if failed != before and isinstance(error, Rejected):
                    raise Trouble(str(error)) from error  # the next attempt is smaller
                raise

        return store

    def _complete(self, call: Call | None) -> None:
        """Makes the call until it is done, as another member if need be; after Trouble it is still to be made."""
        self._call = call
        while self._call is not None:
            member = self._membership.member
            try:
                self._call(member)
                if self._back is self._call:
                    self._back = None
                self._call = None
            except NotMember:
                self._membership.join(instead_of=member, to_store=True)

    def _next(self) -> int:
        self._seq += 1
        return self._seq


class AtLeastOnce(Delivery):
    """BLMOVE and the claim script: a message is in this task's in-flight list until its handler returned.

    Redis forgets the list only with the acknowledgement; when this task dies, others return what it holds.
    """

    def __init__(self, store: Store, membership: Membership) -> None:
        super().__init__(store, membership)
        self._turns = Turns()
        self._moved: int | None = None  # the id to whose list BLMOVE may have brought what was not handed out yet
        self._anew()

    def _anew(self) -> None:
        # Handed out to this task and not acknowledged: those in its list, and those that take long (call.lua).
        self._near: list[str] = []
        self._long: Counter[str] = Counter()
        self._suspects = Suspects.NONE
        self._done: list[str] = []
        self._failed: list[Failure] = []
        self._claim: _Claim | None = None
        self._back: tuple[int, int] | None = None  # a give_back on its way: its number, how many
        self._waiting = False  # a BLMOVE is on its way
        # One of which no answer came may be served however late: its time, and the time of the next look.
        self._astray: tuple[float, float] | None = None
        self._returned: Sequence[str] | None = None  # what the newest one gives back
        self.blocked = False

    def take(self, want: int) -> list[str]:
        self._complete_back()
        if self._moved not in (None, self._membership.member.task_id):
            self._store.reap(self._moved)  # taken for dead meanwhile: it came too late for the reaper
            self._moved = None
        if self._claim is None:
            self._seq += 1
            turn = self._turns.mine(monotonic(), waiting=self._suspects is not Suspects.NONE)
            reach = self._reach.bytes(monotonic())
            self._claim = _Claim(self._seq, want, reach, turn, self._settle(want), self._failed)
            self._done, self._failed = [], []
        claim, batch, member = self._claim, self.batch, self._membership.member
        moved, self._moved = self._moved, None
        try:
            suspects, messages = self._store.claim(
                member, claim.seq, claim.want, replace(claim.settled, failed=[record for _, record in claim.failed]),
                turn=claim.turn, reply_bytes=claim.reply_bytes,
            )  # fmt: skip
        except (Trouble, Rejected) as error:
            self._moved = self._moved or moved
            if batch == self.batch:
                smaller = replace(claim, failed=_shorter(claim.failed))
                if isinstance(error, Unanswered):
                    smaller = replace(smaller, reply_bytes=self._reach.lost(monotonic()))
                self._claim = smaller
                if isinstance(error, Rejected) and smaller != claim:
                    raise Trouble(str(error)) from error
            raise
        except NotMember:
            self._moved = self._moved or moved
            self._membership.join(instead_of=member)
            return []
        if batch != self.batch:
            return []  # taken for dead between claim and reply: these messages are the queue's again
        self._claim, self._suspects = None, suspects
        self.blocked = suspects in (Suspects.WAIT_FOR_US, Suspects.IN_HAND)
        if messages and self.blocked:
            self._turns.served()
        self._near = self._near + messages
        self._looked()
        return messages

    def _settle(self, want: int) -> Settled:
        """What to tell of the messages in hand: what stays or what is finished, whichever is shorter."""
        done = self._done
        if len(done) == len(self._near) + self._long.total():
            self._near, self._long = [], Counter()
            return Settled(all=True)
        # Of equal messages the oldest one counts as finished: those behind it may be given back as not started.
        long, near = [], []
        for message in done:
            if message in self._long:
                self._long[message] -= 1
                if not self._long[message]:
                    del self._long[message]
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
        self._near = stay
        # Whoever wants more has begun all that is in hand: what is not finished by now takes long.
        away = want > 0 and len(stay) > NEAR
        if away:
            self._long.update(stay)
            self._near = []
        if sum(map(len, stay)) > sum(map(len, done)):
            return Settled(finished=done, away=away)
        return Settled(stay=stay, finished=long, away=away)

    def wait(self) -> list[str]:
        task_id = self._membership.member.task_id
        self._waiting = True
        try:
            moved = self._store.blmove(task_id)
        except Trouble:
            self._moved = task_id  # perhaps: only the reply may be lost
            self._astray = (monotonic(), monotonic())
            raise
        finally:
            self._waiting = False
        if moved:
            self._moved = task_id
        return []  # the list is the truth: the next take hands out what came, even if this reply is lost

    def done(self, message: str, batch: int) -> None:
        if batch == self.batch:
            self._done.append(message)

    def failed(self, message: str, record: str, batch: int) -> None:
        if batch == self.batch:
            self._done.append(message)
            self._failed.append((message, record))

    def lost_with(self, running: Iterable[str]) -> Sequence[str]:
        return []  # they are on this task's list, and `leave` gives them back

    @property
    def unsettled(self) -> bool:
        return bool(self._done or self._claim or self._moved is not None or self.next_look == 0)

    @property
    def next_look(self) -> float | None:
        return None if self._astray is None else max(0.0, self._astray[1] - monotonic())

    def _looked(self) -> None:
        """Each look at what may have come late is twice as late as the one before."""
        if self._astray is not None:
            lost, now = self._astray[0], monotonic()
            self._astray = (lost, now + (now - lost)) if now - lost < ASTRAY else None

    def give_back(self, unstarted: Sequence[str], batch: int) -> None:
        if batch != self.batch:
            return  # taken for dead since then: they are the queue's again
        if self._returned is not unstarted:
            self._complete_back()
            self._seq += 1
            self._back, self._returned = (self._seq, len(unstarted)), unstarted
        self._complete_back()

    def _complete_back(self) -> None:
        if self._back is None:
            return
        (seq, count), batch, member = self._back, self.batch, self._membership.member
        try:
            self._store.give_back(member, seq, leave=False, unstarted=count)
        except NotMember:
            self._membership.join(instead_of=member)
        if batch == self.batch:
            self._back = None
            if count > len(self._near):
                self._near, self._long = [*self._long.elements(), *self._near], Counter()
            del self._near[len(self._near) - count :]

    @property
    def returning(self) -> bool:
        return self._back is not None

    def leave(self, unstarted: Sequence[str]) -> None:
        if self.unsettled:
            self.take(0)  # what this might bring is still on the list and goes back with the rest
        self._seq += 1
        with suppress(NotMember):  # then it was done already, here or by whoever took this task for dead
            astray = self._waiting or self._astray is not None
            self._store.give_back(self._membership.member, self._seq, leave=True, astray=astray)

    def rejoined(self) -> bool:
        self.batch += 1
        self._anew()
        return False


@dataclass(frozen=True)
class _Claim:
    """A claim on its way: repeated as it is until its reply has come."""

    seq: int
    want: int
    reply_bytes: int
    turn: bool
    settled: Settled  # but for the failures
    failed: list[Failure]


def _shorter(failed: list[Failure]) -> list[Failure]:
    """The failures after a call that Redis did not take, perhaps because of their size: for large ones the message as
    it is, which Redis took once; the log says why it failed."""
    kept = []
    for message, record in failed:
        if record != message and len(record) > LARGE:
            log.warning(
                "a failed message of %d characters stands in errors as it is, for Redis did not take its record: %s",
                len(message), printable(str(read_record(record)["error"])),
            )  # fmt: skip
            record = message  # noqa: PLW2901
        kept.append((message, record))
    return kept
