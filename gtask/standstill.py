"""Waits with a time limit, in a process that may stand still: somebody stops it, or its machine sleeps.

A clock goes on meanwhile. Whoever looked at it once, at the end, would take for late what had no chance to come: a
Redis that was not even asked, a generate that could not run. So these limits are waited for in steps, and a time for
which the whole process stood still counts as one of them.
"""

from collections.abc import Callable

from gevent import Greenlet

STEP = 0.25  # seconds


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
