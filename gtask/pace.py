"""How much to take at once, and when to turn to suspects. Nothing here knows a clock: who asks says what time it is."""

import math
from collections.abc import Callable

Clock = Callable[[], float]  # says how many seconds it is now; it never goes back

HORIZON = 0.05  # seconds of work in hand: fair to other tasks, few duplicates after a crash
LARGEST = 1000  # beyond it a round trip costs less than 1 % of the batch
GROWTH = 4  # one batch tells little about the next: grow step by step
MEMORY = 0.1  # seconds of work after which a measurement has faded


class BatchSize:
    """How many messages: as many as this process starts in 50 ms, as measured. A handler's first one comes alone."""

    def __init__(self) -> None:
        self.idle()

    def idle(self) -> None:
        """Nothing came for a while, or too much: what was measured says nothing about what comes next."""
        self._rate = 0.0  # messages a second
        self._want = 1

    def measured(self, messages: int, seconds: float) -> None:
        """`messages` were finished within `seconds` in which there was work in hand."""
        if seconds > 0:
            keep = math.exp(-seconds / MEMORY)
            self._rate = self._rate * keep + messages / seconds * (1 - keep)

    def want(self) -> int:
        """How many messages to take now."""
        self._want = max(1, min(int(self._rate * HORIZON), self._want * GROWTH, LARGEST))
        return self._want


class SuspectTurns:
    """When a busy task turns to the suspects (reap.lua), which need a task with empty hands.

    While its hands run empty it takes nothing else, so its turns are at most a fifth of its time. One in which its
    hands did not get empty is followed by one that is twice as long.
    """

    SHORTEST = 1.0  # seconds
    REST = 4  # times as long as the turn before it

    def __init__(self) -> None:
        self._began: float | None = None
        self._not_before = 0.0
        self._patience = self.SHORTEST
        self._served = False

    def mine(self, now: float, *, waiting: bool) -> bool:
        """Whether it is this task's turn. `waiting`: there are suspects that wait."""
        if self._began is None:
            if waiting and now >= self._not_before:
                self._began, self._served = now, False
        elif not waiting or now - self._began >= self._patience:
            self._not_before = now + self.REST * (now - self._began)
            self._patience = self.SHORTEST if self._served else 2 * self._patience
            self._began = None
        return self._began is not None

    def served(self) -> None:
        """The task has got suspects."""
        self._served = True


class ReplySize:
    """How large a reply to ask for, in bytes.

    One that was lost may have been thrown away by Redis together with the connection (client-output-buffer-limit), and
    the next one of that size would be, too: so each loss halves it. It grows again when all has been quiet for a while,
    each time a longer one.
    """

    QUIET = 10.0  # seconds, at first
    LONGEST = 3600.0

    def __init__(self, most: int) -> None:
        self._most = self._bytes = most
        self._quiet = self.QUIET
        self._grows_at = 0.0

    def bytes(self, now: float) -> int:
        """At this time."""
        if self._bytes < self._most and now >= self._grows_at:
            self._bytes = min(2 * self._bytes, self._most)
            self._grows_at = now + self._quiet
        return self._bytes

    def lost(self, now: float) -> int:
        """A reply was lost. How much to ask for instead."""
        self._bytes = max(1, self._bytes // 2)
        self._grows_at = now + self._quiet
        self._quiet = min(2 * self._quiet, self.LONGEST)
        return self._bytes
