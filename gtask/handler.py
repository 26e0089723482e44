"""Handles: a fixed crew of greenlets works off what is in hand and fetches more when that is used up.

No greenlet is made for a message, and none stands between fetching and handling. The worker that finds nothing in hand
fetches the next batch itself, and that call also acknowledges what is finished. A worker that starts a message while
more are in hand wakes one idle worker. So a message that blocks holds up none of its neighbours.
"""

import logging
from contextlib import suppress
from contextvars import Context
from math import inf
from time import monotonic, perf_counter
from types import GeneratorType

import gevent
from gevent import getcurrent
from gevent.event import Event
from gevent.lock import Semaphore

from gtask import forks, strays
from gtask.exceptions import GtaskError, Trouble
from gtask.functions import Handle
from gtask.hand import Hand
from gtask.items import check_result, drained
from gtask.outcome import DONE, NO_RETRIES, Outcome, Policy, decide
from gtask.pace import HORIZON
from gtask.protocol import Totals
from gtask.store import Store
from gtask.supply import Supply
from gtask.text import printable
from gtask.workers import At, TimeLimit, Worker
from gtask.yielding import SLICE, let_others_run

log = logging.getLogger(__name__)

BLOCKED_FOR = 1.0  # seconds until a task that gets nothing before its hands are empty asks again
FAILURES_LOG_INTERVAL = 10.0  # seconds


class Idle:
    """The workers that wait until there is something to do."""

    def __init__(self) -> None:
        self.count = 0
        self.waking = False  # one of them has been woken and has not run yet
        self._wake = Semaphore(0)

    def wait(self) -> None:
        """Until this worker is woken."""
        self.count += 1
        try:
            self._wake.acquire()
        finally:
            self.count -= 1
            self.waking = False

    def wake_one(self) -> None:
        """There is something to do for one more."""
        self.waking = True
        self._wake.release()

    def wake_all(self) -> None:
        """All are to look what there is now."""
        for _ in range(self.count):
            self._wake.release()


class Handler:
    """The workers, and what they are at."""

    def __init__(
        self,
        handle: Handle,
        supply: Supply,
        totals: Totals,
        *,
        concurrency: int = 1,
        policy: Policy = NO_RETRIES,
        timeout: float = 0.0,
        long: float = inf,
    ) -> None:
        """`supply`: where the messages come from. `concurrency`: how many workers there are. `timeout`: seconds that a
        message may take, 0: no bound. `long`: seconds after which it takes so long that `gtask status` shows it."""
        self._handle = handle
        self.supply = supply
        self._totals = totals
        self._policy = policy
        self._workers = [Worker(handle, lambda: supply.hand.member.task_id) for _ in range(concurrency)]
        self.time_limit = TimeLimit(self._workers, timeout or inf)
        self._long = long
        self._told_longest = False  # that is in Redis now, as far as is known
        self._postponed = 0  # attempts after which the message comes again
        self._idle = Idle()
        self._yield_at = 0.0
        self._yielding = False  # a worker is letting the others run, and will go on after that
        self._ending = False
        self._change = Event()  # for `finish`: a worker has ended
        # Attempts that failed and are made again, and those that were the last one, are logged each at their own pace.
        self._log_at = {True: 0.0, False: 0.0}

    # -- what the task tells it

    def resume(self) -> None:
        """This task is a handler: takes messages (again)."""
        self.supply.stopped.clear()
        self._idle.wake_all()

    def tell_longest(self, store: Store) -> None:
        """Tells Redis which message is handled for longest, if one takes long, and when that is over. This belongs to
        each heartbeat, and any thread may call it. When it fails it is only not told."""
        now = perf_counter()
        message, since = min((at for at in self._at if at[1] < inf), key=lambda at: at[1], default=("", now))
        long = now - since >= self._long
        if long or self._told_longest:
            with suppress(Trouble):
                store.tell_longest(self.supply.hand.member, (message, now - since) if long else None)
                self._told_longest = long

    def start_no_more(self) -> None:
        """From now on no message is started. This only sets a flag, so any thread may call it, and it holds even while
        the workers compute one after the other and no other greenlet runs."""
        self._ending = True

    def forked(self) -> None:
        """Makes a forked child end when its worker comes back from `handle`."""
        self._yield_at = 0.0

    def finish(self, deadline: float) -> int:
        """Takes no more, gives back what was not started, and finishes the rest until the `deadline` on the
        monotonic clock. Returns how many messages are not finished then."""
        self.start_no_more()
        self._idle.wake_all()
        ending = gevent.spawn(self._handle.end, deadline)
        self.supply.stop_taking(deadline)
        self.supply.give_back()
        while self._unfinished and (left := deadline - monotonic()) > 0:
            self._change.clear()
            self._change.wait(left)
        ending.join()  # before others can get what is not finished
        return len(self._unfinished)

    def leave(self, why: str) -> None:
        """After `finish`: stores what is finished, gives back the rest, ends the membership. `why`: the reason with
        which fails what is not finished and cannot be given back (at-most-once)."""
        self._give_up_unfinished(why)
        self.supply.leave()

    def leave_from_outside(self, store: Store, why: str) -> None:
        """The same, from a native thread with connections of its own, when the time is over and the event loop is still
        held. Raises Trouble or NotMember; bears repeating, and `leave` may come after it."""
        self.start_no_more()
        self._handle.kill()  # before others can get what is not finished
        self._give_up_unfinished(why)
        self.supply.leave_from_outside(store)

    def _give_up_unfinished(self, why: str) -> None:
        count = self.supply.hand.give_up(self._unfinished, why)
        self._totals.errors += count
        self._totals.processed += count

    @property
    def _unfinished(self) -> list[str]:
        """The messages that are being handled."""
        return [message for message, _ in self._at]

    @property
    def _at(self) -> list[At]:
        return [at for worker in self._workers if (at := worker.at) is not None]

    @property
    def _handled(self) -> int:
        """How many attempts have ended, however that was."""
        return self._totals.processed + self._postponed

    # -- workers

    def work(self, number: int) -> None:
        """Worker `number`, from 0 on: handles messages until the end.

        What the user's code leaves behind may reach it anywhere: a gevent.Timeout that was started in `handle` and
        not cancelled is thrown into the greenlet that started it, wherever that waits by then.
        """
        self._workers[number].greenlet = getcurrent()
        while True:
            try:
                while hand := self._refill():
                    self.work_off(hand, number)
                self._change.set()
                return
            except GtaskError:  # an error of ours, which ends the task
                raise
            except BaseException as error:
                strays.say(error)

    def work_off(self, hand: Hand, number: int) -> None:
        """Handles, as worker `number`, what is ready in this hand, until nothing is: perhaps because it is not the
        task's hand any more."""
        worker = self._workers[number]
        worker.hand = hand
        function, new_context = self._handle.function, worker.new_context
        ready, finished, totals = hand.ready, hand.finished, self._totals
        idle, supply = self._idle, self.supply
        now = perf_counter()
        while ready and not self._ending:
            try:
                message = ready.popleft()
            except IndexError:  # the native thread has just given the last one back
                break
            if idle.count and not (idle.waking or self._yielding) and (ready or not supply.waiting):
                idle.wake_one()
            worker.at = message, now
            outcome = DONE
            context = new_context()
            try:
                result = context.run(function, message)
                if result is not None or worker.interrupted is not None:
                    outcome = _outcome_of(result, context, worker)
            except BaseException as error:  # SystemExit and gevent.Timeout are failures of this message too
                if forks.happened:
                    forks.end(error)
                outcome = self._outcome_of_error(worker, hand, message, error)
            del context  # and not only when this worker gets its next message
            finished(message, outcome)
            worker.at = None
            if outcome.later is None:
                totals.processed += 1
            else:
                self._postponed += 1
            now = perf_counter()
            if now >= self._yield_at:
                self._let_others_run()
                now = perf_counter()

    def _outcome_of_error(self, worker: Worker, hand: Hand, message: str, error: BaseException) -> Outcome:
        worker.at = message, inf  # from here on this is code of ours, and no time limit may interrupt it
        worker.interrupted = None
        outcome = decide(
            message, error, hand.member.task_id, hand.tried(message), self._policy, again=hand.kept_in_redis
        )
        if outcome.later is None:
            self._totals.errors += 1
        self._log(outcome, error)
        return outcome

    def _let_others_run(self) -> None:
        if forks.happened:
            forks.end()
        if self.supply.stale:
            self.supply.give_back()
        if self._yielding:
            # Only one worker may continue after a yield. If all of them did, each would use a full slice within one
            # turn of the loop, and the heartbeat would starve.
            self._idle.wait()
            return
        self._yielding = True
        try:
            let_others_run()
        finally:
            self._yielding = False
        self._yield_at = perf_counter() + SLICE

    def _refill(self) -> Hand | None:
        """Returns the hand as soon as a message is ready in it; None at the end."""
        supply = self.supply
        while not self._ending:
            if not supply.stopped.is_set():
                supply.fetch(self._handled)
            if self._ending:  # the end has come while this worker waited for its turn or for Redis
                break
            hand = supply.hand
            if hand.ready:
                return hand
            if supply.stopped.is_set() or supply.waiting or (hand.blocked and self._unfinished):
                self._idle.wait()
            elif hand.blocked:
                gevent.sleep(SLICE)
            else:
                supply.wait(self._handled)
        return None

    def _log(self, outcome: Outcome, error: BaseException) -> None:
        later = outcome.later
        log.debug("message failed" if later is None else "an attempt failed", exc_info=error)
        if monotonic() < self._log_at[later is not None] or (later is not None and not later.failed):
            return
        self._log_at[later is not None] = monotonic() + FAILURES_LOG_INTERVAL
        if later is None:
            failures = self._totals.errors
            log.info("%d %s failed so far, the last with %s (gtask getErrors shows them)",
                     failures, "message" if failures == 1 else "messages", _headline(outcome.reason))  # fmt: skip
        else:
            log.info("an attempt failed with %s; its message comes again in %.1f s",
                     _headline(outcome.reason), later.after)  # fmt: skip

    # -- beside the workers

    def maintain(self) -> None:
        """While messages are in hand, and later when something may have come late: looks after them."""
        supply = self.supply
        while True:
            supply.busy.wait(supply.hand.next_look)
            gevent.sleep(HORIZON)
            self.look_after()

    def look_after(self) -> None:
        """Acknowledges what was finished when no worker comes to it because all are held up or this task generates,
        gives back what was not started in time, and has a worker ask again when this task gets nothing before its hands
        are empty."""
        supply = self.supply
        if supply.stale:
            supply.give_back()
        elif supply.hand.owes and supply.silent_for > HORIZON:
            supply.tell()
            if supply.hand.ready and self._idle.count:
                self._idle.wake_one()
        elif supply.hand.blocked and self._idle.count and supply.silent_for > BLOCKED_FOR:
            self._idle.wake_one()
        if not (supply.hand.ready or self._unfinished or supply.hand.owes):
            supply.busy.clear()


def _headline(reason: str) -> str:
    """The first line of a reason: that of a command goes on with what it wrote, which is in the log already."""
    return printable(reason.partition("\n")[0])


def _outcome_of(result: object, context: Context, worker: Worker) -> Outcome:
    """What it means that `handle` has returned this, or that it has returned though it was interrupted. A handle with a
    yield runs only here. Raises what it raises."""
    followups: tuple[bytes, ...] = ()
    if isinstance(result, GeneratorType):
        followups = tuple(context.run(drained, result))
    else:
        check_result(result)
    if worker.interrupted is not None:
        raise worker.interrupted  # it has caught the time-out, so what it was at may be half done
    return Outcome(followups=followups) if followups else DONE
