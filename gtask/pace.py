"""How many messages to take at once: as many as this process starts within 50 ms, as measured."""

import math

HORIZON = 0.05  # seconds of work in hand: fair to other tasks, few duplicates after a crash
LARGEST = 1000  # beyond it a round trip costs less than 1 % of the batch
GROWTH = 4  # one batch tells little about the next: grow step by step
MEMORY = 0.1  # seconds of work after which a measurement has faded


class Pace:
    """Measures and decides; knows no clock. A handler's first message is always taken alone."""

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
