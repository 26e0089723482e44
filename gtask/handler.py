"""Handles: a fixed crew of greenlets works off what is in hand and fetches more when that is used up.

No greenlet is made for a message, and none stands between fetching and handling: the worker that finds nothing in
hand fetches the next batch itself, and that call also acknowledges what is finished. A worker that starts a message
while more are in hand rouses one idle colleague, so a message that blocks holds up none of its neighbours.
"""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic, perf_counter
from traceback import format_exception_only
from typing import TypeVar

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from gtask import forks, strays
from gtask.breath import SLICE, breathe
from gtask.delivery import Delivery
from gtask.exceptions import GtaskError, NotMember, Trouble
from gtask.functions import Handle, check_result
from gtask.outage import Outage
from gtask.pace import HORIZON, Pace
from gtask.places import place_of
from gtask.report import Totals
from gtask.store import Store
from gtask.text import failure_record, printable
from gtask.turn import Turn

log = logging.getLogger(__name__)

STALE = 2 * HORIZON  # seconds: what could not be started by then goes back, others may be free
BLOCKED_FOR = 1.0  # seconds: until it is asked again whether there is nothing for hands that are not empty
FAILURES_LOG_INTERVAL = 10.0

T = TypeVar("T")


class Handler:
    """Owner of the messages in this process's hands."""

    def __init__(
        self,
        handle: Handle,
        delivery: Delivery,
        *,
        outage: Outage,
        totals: Totals,
        unblock: Callable[[], None],
        expired: Event,
    ) -> None:
        """`unblock` ends a `delivery.wait` that goes on; `expired`: when set, give up on Redis."""
        self._handle = handle
        self._delivery = delivery
        self._outage = outage
        self._totals = totals
        self._unblock = unblock
        self._expired = expired
        self._task_id = 0
        self._pace = Pace()
        self._in_hand: deque[str] = deque()  # taken, not started
        self._running: list[str | None] = []  # for each worker: the message that it has started and not finished
        self._turn = Turn()
        self._fetched_at = 0.0  # when the newest message in hand came
        self._settled_at = 0.0  # when Redis last learned what is finished
        self._log_at = 0.0
        self._measured_from = (0.0, 0)  # time, processed
        self._yield_at = 0.0
        self._breathing = False  # a worker lets the others run, and goes on after that
        self._taking = Event()
        self._not_taking = Event()
        self._not_taking.set()
        self._ending = False
        self._waiting = False  # a worker waits in Redis for the next message
        self._idle = 0  # workers that wait to be roused
        self._rouse = Semaphore(0)
        self._rousing = False
        self._busy = Event()  # there may be something for `tend`
        self._change = Event()  # for `finish`: a worker has ended

    # -- what the task tells it

    def resume(self) -> None:
        """This task is a handler: takes messages (again)."""
        self._not_taking.clear()
        self._taking.set()
        self._rouse_all()

    def pause(self, deadline: float = inf) -> None:
        """This task generates: takes no more, finishes what it has in hand, and ends a wait that goes on (it
        returns when that has ended, or at the `deadline` on the monotonic clock)."""
        self._taking.clear()
        self._not_taking.set()
        # The command that waits may not have reached Redis yet, so one call may come too early.
        while self._waiting and not self._taking.is_set():
            try:
                self._unblock()
            except Trouble as trouble:
                log.debug("cannot end the wait early: %s", trouble)
            gevent.sleep(0.02)
            if monotonic() >= deadline:
                break

    def rejoined(self, task_id: int) -> None:
        """The task has a new id; what is in hand may belong to the queue again."""
        self._task_id = task_id
        if not self._delivery.rejoined():
            self._in_hand.clear()

    @property
    def taking(self) -> bool:
        """Whether this task is a handler now."""
        return bool(self._taking.is_set())

    def start_no_more(self) -> None:
        """From now on no message is started. A signal's handler may call this: it only sets a flag, so it holds even
        while the workers compute one after the other and no other greenlet comes to its turn."""
        self._ending = True

    def forked(self) -> None:
        """This is a forked child: the worker that comes back from `handle` here ends it."""
        self._yield_at = 0.0

    def finish(self, deadline: float) -> int:
        """Takes no more, gives back what was not started, and finishes the rest until the `deadline` on the
        monotonic clock. Returns how many messages are not finished then."""
        self.start_no_more()
        self._rouse_all()
        self.pause(deadline)
        self._give_back()
        while self._unfinished and (left := deadline - monotonic()) > 0:
            self._change.clear()
            self._change.wait(left)
        return len(self._unfinished)

    def leave(self, grace: float) -> None:
        """After `finish`: stores what is finished, gives back the rest, ends the membership. What at-most-once
        delivery cannot give back becomes a failure, "not finished within --grace"; `grace` in seconds."""
        self._fail_unfinished(grace)
        with self._turn, suppress(Trouble):
            unstarted = list(self._in_hand)
            self._insist(lambda: self._delivery.leave(unstarted))

    def _fail_unfinished(self, grace: float) -> None:
        for message in self._delivery.lost_with(self._unfinished):
            self._totals.errors += 1
            self._totals.processed += 1
            record = failure_record(message, f"not finished within --grace {grace:g}", self._task_id)
            self._delivery.failed(message, record, self._delivery.batch)

    @property
    def _unfinished(self) -> list[str]:
        """The messages that are being handled."""
        return [message for message in self._running if message is not None]

    # -- what the native thread does instead, while the event loop is held

    @property
    def has_unstarted(self) -> bool:
        """Whether there are messages in hand which others could have."""
        return bool(self._in_hand or self._delivery.returning)

    def speak_through(self, store: Store) -> None:
        """The calling thread has connections of its own."""
        self._delivery.speak_through(store)

    def give_back_from_outside(self) -> None:
        """Returns what was not started, unless a greenlet's call is on its way. One attempt: raises Trouble or
        NotMember; bears repeating."""
        if self.has_unstarted and self._turn.take_if_free():
            unstarted = self._take_unstarted()
            self._pace.idle()
            try:
                self._delivery.give_back(unstarted, self._delivery.batch)
            except (Trouble, NotMember):
                if not self._delivery.returning:  # not even tried: there was an older call to repeat
                    self._in_hand.extendleft(reversed(unstarted))
                raise
            finally:
                self._turn.give_up()

    def leave_from_outside(self, grace: float) -> None:
        """The same as `leave`, when the time is over and the loop is still held. A greenlet's call that is on its way
        is made again here, which its number allows."""
        self.start_no_more()
        mine = self._turn.take_if_free()
        try:
            self._fail_unfinished(grace)
            self._delivery.leave(self._take_unstarted())
        finally:
            if mine:
                self._turn.give_up()

    def _take_unstarted(self) -> list[str]:
        """Out of the workers' hands, though they may run at the same time: each message goes to one of both."""
        taken: list[str] = []
        with suppress(IndexError):
            while True:
                taken.append(self._in_hand.pop())
        return taken[::-1]

    # -- workers

    def work(self) -> None:
        """One worker: handles messages until the end.

        What the user's code leaves behind may reach it anywhere: a gevent.Timeout that was started in `handle` and
        not cancelled is thrown into the greenlet that started it, wherever that waits by then.
        """
        number = len(self._running)
        self._running.append(None)
        while True:
            try:
                return self._handle_on(number)
            except GtaskError:  # ours, and the end of this task
                raise
            except BaseException as error:
                strays.say(error)

    def _handle_on(self, number: int) -> None:
        function, new_context, running = self._handle.function, self._handle.new_context, self._running
        in_hand, delivery, totals = self._in_hand, self._delivery, self._totals
        while (in_hand and not self._ending) or self._refill():
            try:
                message = in_hand.popleft()
            except IndexError:  # the native thread has just returned it
                continue
            batch = delivery.batch
            if self._idle and not (self._rousing or self._breathing) and (in_hand or not self._waiting):
                self._rouse_one()
            running[number] = message
            try:
                result = new_context().run(function, message)
                if result is not None:
                    check_result(result)
            except BaseException as error:  # SystemExit, gevent.Timeout: no less a failure of this message
                if forks.happened:
                    forks.end(error)
                totals.errors += 1
                delivery.failed(message, self._record(message, error), batch)
            else:
                delivery.done(message, batch)
            running[number] = None
            totals.processed += 1
            if perf_counter() >= self._yield_at:
                self._breathe()
        self._change.set()

    def _breathe(self) -> None:
        if forks.happened:
            forks.end()
        if self._in_hand and perf_counter() - self._fetched_at > STALE:
            self._give_back()
        if self._breathing:
            self._be_idle()  # one that goes on is enough: in one turn of the loop all of them would take a slice each
            return
        self._breathing = True
        try:
            breathe()
        finally:
            self._breathing = False
        self._yield_at = perf_counter() + SLICE

    def _refill(self) -> bool:
        """Returns True as soon as a message is in hand, False at the end."""
        while not self._ending:
            if self._taking.is_set():
                self._fetch()
            if self._ending:  # it has come while this worker waited for its turn or for Redis
                break
            if self._in_hand:
                return True
            if not self._taking.is_set() or self._waiting or (self._delivery.blocked and self._unfinished):
                self._be_idle()
            elif self._delivery.blocked:
                gevent.sleep(SLICE)
            else:
                self._wait()
        return False

    def _fetch(self) -> None:
        """Acknowledges what is finished and takes the next batch, unless another worker just did."""
        with self._turn:
            if not self._in_hand:
                now, processed = perf_counter(), self._totals.processed
                since, before = self._measured_from
                self._pace.measured(processed - before, now - since)
                self._measured_from = (now, processed)
                self._take(self._pace.want())

    def _take(self, want: int) -> None:
        with suppress(Trouble):  # the end has come without Redis
            self._receive(self._insist(lambda: self._delivery.take(want)))
        self._settled_at = perf_counter()

    def _receive(self, messages: list[str]) -> None:
        if messages:
            self._in_hand.extend(messages)
            self._fetched_at = perf_counter()
            self._busy.set()

    def _wait(self) -> None:
        """Waits in Redis for the next message. One worker does so for all."""
        self._waiting = True
        try:
            messages = self._outage.insist("waiting", self._delivery.wait, self._not_taking)
        except Trouble:
            messages = []
        finally:
            self._waiting = False
        if not messages:
            self._pace.idle()
        self._receive(messages)
        if self._delivery.unsettled:
            self._busy.set()
        self._measured_from = (perf_counter(), self._totals.processed)

    def _give_back(self) -> None:
        """Returns what was not started: this process is slower than it seemed, or ends."""
        with self._turn:
            unstarted, batch = list(self._in_hand), self._delivery.batch
            self._in_hand.clear()
            self._pace.idle()
            if unstarted:
                with suppress(Trouble):  # then it goes with `leave`
                    self._insist(lambda: self._delivery.give_back(unstarted, batch))

    def _insist(self, attempt: Callable[[], T]) -> T:
        return self._outage.insist("handler", attempt, self._expired)

    def _be_idle(self) -> None:
        self._idle += 1
        try:
            self._rouse.acquire()
        finally:
            self._idle -= 1
            self._rousing = False

    def _rouse_one(self) -> None:
        self._rousing = True
        self._rouse.release()

    def _rouse_all(self) -> None:
        for _ in range(self._idle):
            self._rouse.release()

    # -- beside the workers

    def tend(self) -> None:
        """While messages are in hand: acknowledges what was finished when no worker comes to it because all
        are held up or this task generates, gives back what was not started in time, and has a worker ask again when
        this task gets nothing before its hands are empty. Later, too, it looks for what may have come late."""
        while True:
            self._busy.wait(self._delivery.next_look)
            gevent.sleep(HORIZON)
            now = perf_counter()
            if self._in_hand and now - self._fetched_at > STALE:
                self._give_back()
            elif self._delivery.unsettled and now - self._settled_at > HORIZON:
                with self._turn:
                    self._take(0)
                if self._in_hand and self._idle:
                    self._rouse_one()
            elif self._delivery.blocked and self._idle and now - self._settled_at > BLOCKED_FOR:
                self._rouse_one()
            if not (self._in_hand or self._unfinished or self._delivery.unsettled):
                self._busy.clear()

    def _record(self, message: str, error: BaseException) -> str:
        """The failure as `errors` keeps it. Bytes that are no UTF-8 become surrogate escapes."""
        reason = "".join(format_exception_only(error)).strip()
        if place := place_of(error):
            reason += f" ({place})"
        log.debug("message failed", exc_info=error)
        if monotonic() >= self._log_at:
            self._log_at = monotonic() + FAILURES_LOG_INTERVAL
            log.info("%d messages failed so far, the last with %s (gtask getErrors shows them)",
                     self._totals.errors, printable(reason))  # fmt: skip
        return failure_record(message, reason, self._task_id)
