"""Waits with a time limit, in a process that may stand still: somebody stops it, or its machine sleeps.

A clock goes on meanwhile. Whoever looked at it once, at the end, would take for late what had no chance to come: a
Redis that was not even asked, a generate that could not run. So these limits are waited for in steps, and a time for
which the whole process stood still counts as one of them. A thread that waits for nothing but the clock can even see
for how long that was.
"""

import sys
from collections.abc import Callable
from resource import RUSAGE_THREAD, getrusage
from time import monotonic

from gevent import Greenlet

STEP = 0.25  # seconds
NOTED = 0.5  # seconds: a thread of a process that runs may come too late by less


def within(seconds: float, wait: Callable[[float], object]) -> bool:
    """Calls `wait` with the seconds of each step until it returns something true, or until `seconds` of them are over.
    Returns whether it did."""
    while seconds > 0:
        if wait(min(seconds, STEP)):
            return True
        seconds -= STEP
    return False


def joined(greenlet: Greenlet, seconds: float) -> bool:
    """Waits for its end. Returns whether it has ended."""

    def join(step: float) -> bool:
        greenlet.join(timeout=step)
        return bool(greenlet.ready())

    return join(0) or within(seconds, join)


class Running:
    """A clock that goes only while the process runs. It is kept by a thread that waits for nothing but the time: when
    that thread is late, the whole process stood still.

    Or C code kept Python's lock (the GIL) from the thread, and that counts as running. The two can be told apart,
    because Python wakes a thread that waits for the lock at each switch interval, so that it asks for the lock again.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._stood_still = 0.0
        self._due = clock()  # when the thread is to be here again
        self._woken = 0  # how often the thread was woken until its last look

    def now(self) -> float:
        """For any thread, in seconds."""
        return self._clock() - self._stood_still

    def look(self) -> float:
        """The same for the thread that keeps this clock, after it has waited."""
        now = self._clock()
        late = now - self._due
        woken, self._woken = self._woken, _times_woken()
        if late >= NOTED and self._woken - woken < 0.1 * late / sys.getswitchinterval():
            self._stood_still += late
        self._due = now
        return now - self._stood_still

    def wait(self, seconds: float) -> float:
        """Notes that it is going to wait for so long after its look, and returns that."""
        self._due += seconds
        return seconds


def _times_woken() -> int:
    """How often the calling thread has waited and was woken."""
    return getrusage(RUSAGE_THREAD).ru_nvcsw
