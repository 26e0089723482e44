"""How much to take at once, and when to turn to suspects. Nothing here looks at a clock: whoever asks says the time."""

import math
from collections.abc import Callable

Clock = Callable[[], float]  # says how many seconds it is now; it never goes back

# Seconds of work that a task takes at once: little enough to be fair to other tasks, and to repeat little after a
# crash.
HORIZON = 0.05
LARGEST = 1000  # messages: beyond this a round trip costs less than 1 % of its batch, so more would gain nothing
GROWTH = 4  # a batch is at most so many times as large as the one before, which tells little about the next
MEMORY = 0.1  # seconds of work after which a measurement counts for little


class BatchSize:
    """How many messages to take: as many as this process handles in 50 ms, as measured. The first one comes alone."""

    def __init__(self) -> None:
        self.idle()

    def idle(self) -> None:
        """Forgets what was measured. Nothing came for a while, or too much, so it says nothing about what comes
        next."""
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

    During its turn it takes nothing else, so that its hands run empty; therefore turns are at most a fifth of its time.
    When its hands did not get empty within a turn, the next one is twice as long.
    """

    SHORTEST = 1.0  # seconds
    REST = 4  # times as long as the turn before it

    def __init__(self) -> None:
        self._began: float | None = None
        self._not_before = 0.0
        self._patience = self.SHORTEST
        self._served = False

    def mine(self, now: float, *, waiting: bool) -> bool:
        """Whether it is this task's turn `now`. `waiting`: there are suspects that wait."""
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

    A reply may be lost because of its size: Redis closes a connection whose reply does not fit into its buffers
    (client-output-buffer-limit), and would do so again with the next one. So each loss halves the size. It doubles
    after a time without losses, and that time gets longer with each loss.
    """

    QUIET = 10.0  # seconds, at first
    LONGEST = 3600.0

    def __init__(self, most: int) -> None:
        self._most = self._bytes = most
        self._quiet = self.QUIET
        self._grows_at = 0.0

    def bytes(self, now: float) -> int:
        """How much to ask for `now`."""
        if self._bytes < self._most and now >= self._grows_at:
            self._bytes = min(2 * self._bytes, self._most)
            self._grows_at = now + self._quiet
        return self._bytes

    def lost(self, now: float) -> int:
        """A reply was lost. Returns how much to ask for instead."""
        self._bytes = max(1, self._bytes // 2)
        self._grows_at = now + self._quiet
        self._quiet = min(2 * self._quiet, self.LONGEST)
        return self._bytes
