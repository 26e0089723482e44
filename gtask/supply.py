"""Keeps the workers supplied: fetches what they handle, tells Redis of what they have finished, gives back what they do
not get to, and joins anew when Redis does not know this task any more."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event

from gtask.exceptions import NotMember, Trouble
from gtask.hand import Hand
from gtask.membership import Membership
from gtask.outage import Line
from gtask.pace import HORIZON, BatchSize, Clock
from gtask.recovery import Recovery
from gtask.store import Store
from gtask.turn import Turn

STALE = 2 * HORIZON  # seconds: what was not started by then goes back, because other tasks may be free


class Supply:
    """Owner of the hand. The present one is `hand`; whoever wants to talk to Redis about it has to wait for the
    turn."""

    def __init__(
        self, kind: type[Hand], line: Line, membership: Membership, recovery: Recovery, clock: Clock = monotonic
    ) -> None:
        """`kind`: the way of delivery. `recovery`: whose business is what may still come to a former id."""
        self.hand: Hand = kind(membership.member, clock)
        self.stopped = Event()  # this task takes no messages; at first it has no role
        self.stopped.set()
        self.busy = Event()  # there may be something that `maintain` has to do
        self.waiting = False  # a worker waits in Redis for the next message
        self._membership = membership
        self._recovery = recovery
        self._clock = clock
        self._turn = Turn()
        self._line = line
        self._waiting_line = line.of("waiting", self.stopped)
        self._batch_size = BatchSize()
        self._measured_from = (0.0, 0)  # time, processed
        self._told_at = 0.0  # when Redis last learned what is finished

    # -- for workers

    def fetch(self, processed: int) -> None:
        """Acknowledges what is finished and takes the next batch, unless another worker just did. `processed`: how many
        messages were handled so far."""
        with self._turn:
            if not self.hand.ready and not self.stopped.is_set():  # that may have come while this worker waited
                now = self._clock()
                since, before = self._measured_from
                self._batch_size.measured(processed - before, now - since)
                self._measured_from = (now, processed)
                self._take(self._batch_size.want())

    def wait(self, processed: int) -> None:
        """Waits in Redis for the next message. One worker does so for all."""
        hand = self.hand
        self.waiting = True
        try:
            with suppress(Trouble):  # no messages are taken any more
                hand.wait(self._waiting_line)
        finally:
            self.waiting = False
        if hand is not self.hand:
            self._recovery.look_after(hand.member.task_id)  # a message that came now was too late for the reaper
        if not hand.ready:
            self._batch_size.idle()
        if self.hand.ready or self.hand.owes:
            self.busy.set()
        self._measured_from = (self._clock(), processed)

    def give_back(self) -> None:
        """Returns what was not started: this process is slower than it seemed, or ends."""
        with self._turn:
            self._batch_size.idle()
            self._with_hand(lambda hand: hand.give_back(self._line))

    # -- beside them

    @property
    def stale(self) -> bool:
        """Whether what is ready should have been started by now."""
        return bool(self.hand.ready) and self._clock() - self.hand.newest > STALE

    @property
    def silent_for(self) -> float:
        """Seconds since Redis last learned what is finished."""
        return self._clock() - self._told_at

    def tell(self) -> None:
        """Acknowledges what is finished, and takes nothing."""
        with self._turn:
            self._take(0)

    def leave(self) -> None:
        """Tells what is finished, gives back the rest, ends the membership."""
        with self._turn:
            self._with_hand(lambda hand: hand.leave(self._line))

    def stop_taking(self, deadline: float = inf) -> None:
        """No more are taken. Ends a wait that goes on; returns when it has ended, or at the `deadline` on the clock."""
        self.stopped.set()
        # The waiting command may not have reached Redis yet. Then the first of these calls comes too early.
        while self.waiting and self.stopped.is_set():
            with suppress(Trouble):
                self._line.store.unblock()
            gevent.sleep(0.02)
            if self._clock() >= deadline:
                break

    # -- for the native thread, while the event loop is held

    @property
    def has_unstarted(self) -> bool:
        """Whether there are messages in hand which others could have."""
        return bool(self.hand.ready) or self.hand.returning

    def give_back_from_outside(self, store: Store) -> None:
        """Returns what was not started, unless a greenlet's call is on its way. One attempt, by connections of that
        thread's own: raises Trouble or NotMember; bears repeating."""
        if self.has_unstarted and self._turn.take_if_free():
            try:
                self._batch_size.idle()
                self.hand.give_back(Line(store))
            finally:
                self._turn.give_up()

    def leave_from_outside(self, store: Store) -> None:
        """The same as `leave`, when the time is over and the loop is still held. A greenlet's call that is on its way
        is made again here, which its number allows."""
        mine = self._turn.take_if_free()
        try:
            self.hand.leave(Line(store))
        finally:
            if mine:
                self._turn.give_up()

    # -- the membership

    def renew(self) -> None:
        """The task has a new id: the hand is one of the present membership."""
        old, old_id = self.hand, self.hand.member.task_id
        if old.member is not self._membership.member:
            self.hand = old.under(self._membership.member)
            if self.hand is not old and old_id:
                self._recovery.look_after(old_id)

    def _with_hand(self, do: Callable[[Hand], Any]) -> None:
        """Does it, and again as a new member where Redis does not know the old one; not where the end has come."""
        with suppress(Trouble, NotMember):  # the end has come: without Redis, or as no member with nothing to lose
            while True:
                hand = self.hand
                member = hand.member
                try:
                    do(hand)
                    return
                except NotMember:
                    to_store = not hand.kept_in_redis and bool(hand.ready or hand.owes)
                self._line.retry(partial(self._membership.join, instead_of=member, to_store=to_store))
                self.renew()

    def _take(self, want: int) -> None:
        self._with_hand(lambda hand: hand.take(want, self._line))
        self._told_at = self._clock()
        if self.hand.ready:
            self.busy.set()
