"""A task's workers as others see them: at which message each of them is, since when, and for how long it may be."""

from collections.abc import Callable, Sequence
from time import perf_counter

import gevent
from gevent import get_hub

from gtask.functions import Handle
from gtask.hand import Hand
from gtask.inside import Current, TimedOut, enter
from gtask.places import place_in

PATIENCE = 5.0  # seconds that a handler has to clean up after its time-out, or as long as `--timeout` if that is less

At = tuple[str, float]  # a message, and since when it is handled, on the clock of `perf_counter`


class Worker:
    """One of the greenlets that handle."""

    __slots__ = ("at", "greenlet", "hand", "interrupted", "new_context")

    def __init__(self, handle: Handle, task_id: Callable[[], int]) -> None:
        """`task_id`: says the task's present one."""
        self.greenlet: gevent.Greenlet | None = None  # None: it has not begun
        self.hand: Hand | None = None  # from which the message comes
        self.at: At | None = None  # what it has started and not finished
        self.interrupted: TimedOut | None = None  # thrown into it at this message
        # What `current` answers is set once in a context of the worker's own, of which each message gets a copy.
        context = handle.new_context()
        context.run(enter, Current(task_id=task_id, attempt=self._attempt))
        self.new_context = context.copy

    def _attempt(self) -> int:
        at, hand = self.at, self.hand
        if at is None or hand is None:
            raise RuntimeError("gtask.current().attempt: handle has returned, so nothing is attempted")
        return hand.tried(at[0]).attempts + 1


class TimeLimit:
    """Interrupts workers whose `handle` takes longer than `--timeout`, where they wait. Who computes waits nowhere."""

    def __init__(self, workers: Sequence[Worker], seconds: float) -> None:
        """`seconds`: that a message may take."""
        self._workers = workers
        self._seconds = seconds
        self._thrown: dict[Worker, tuple[At, float]] = {}  # at which message each was interrupted last, and when

    def run(self) -> None:
        """For ever. Who starts a message while this sleeps is not due before it looks again."""
        while True:
            gevent.sleep(self.step())

    def step(self) -> float:
        """Interrupts those whose time is over, and again those who have caught that and go on. Returns the seconds
        until the next look."""
        now, wait = perf_counter(), self._seconds
        for worker in self._workers:
            at = worker.at
            if at is None:
                continue
            thrown_at, thrown = self._thrown.get(worker, (None, 0.0))
            due = thrown + min(PATIENCE, self._seconds) if thrown_at is at else at[1] + self._seconds
            if due <= now:
                self._thrown[worker] = at, now
                get_hub().loop.run_callback(self._interrupt, worker, at)
                due = now + min(PATIENCE, self._seconds)
            wait = min(wait, due - now)
        return wait

    def _interrupt(self, worker: Worker, at: At) -> None:
        """Runs in the hub, because from there an error can be thrown into a greenlet that waits. By then the worker may
        have finished the message, and what it does after that must not be interrupted."""
        if worker.at is at and worker.greenlet is not None and not worker.greenlet.dead:
            worker.interrupted = TimedOut(self._seconds, place_in(worker.greenlet.gr_frame))
            worker.greenlet.throw(worker.interrupted)
