"""What time it is at Redis, as its answers to heartbeats tell. This machine's own clock may be off, or may be set."""

from time import monotonic

from gtask.pace import Clock


class ServerClock:
    """Redis' time on this machine's monotonic clock: their difference, as each heartbeat tells it anew.

    Redis said its time at some moment between question and answer. So the difference lies between two bounds, and the
    more closely, the quicker the answer was. A difference that lies within the bounds of the latest answer is kept: it
    comes from a quicker one. If it does not, because the clock of Redis was set or the two run at different speeds, the
    lower bound replaces it: so a time is never there too early, and late by a round trip at most.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._ahead: float | None = None  # seconds by which Redis' time is more than that of `clock`

    def told(self, time: float, asked: float, answered: float) -> None:
        """Redis said that it was `time` (seconds since 1970), between these two moments of the monotonic clock. May be
        called by any thread."""
        least, most = time - answered, time - asked
        ahead = self._ahead
        if ahead is None or not least <= ahead <= most:
            self._ahead = least

    def now(self) -> float:
        """Redis' time, in seconds since 1970. Raises RuntimeError before the first heartbeat was answered."""
        if self._ahead is None:
            raise RuntimeError("Redis has not told its time yet")
        return self._clock() + self._ahead
