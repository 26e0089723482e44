"""How far away Redis is, and whether the heartbeat suits that."""

import math
from collections import deque

SEVERAL = 3  # heartbeats that are looked at, because a single slow one says nothing about the link
NEAR = 0.5  # of a heartbeat: a round trip may take so long
ROOM = 4  # round trips that should fit into a heartbeat: one may be lost, and is repeated while the flag lives


class Distance:
    """Judges round trips that others have measured."""

    def __init__(self, heartbeat: float) -> None:
        """`heartbeat`: T in seconds."""
        self._heartbeat = heartbeat
        self._trips: deque[float] = deque(maxlen=SEVERAL)
        self._told = False

    def advice(self, round_trip: float) -> str:
        """What to tell the user after a heartbeat that took `round_trip` seconds; "" when there is nothing new."""
        self._trips.append(round_trip)
        quickest = min(self._trips)
        far = len(self._trips) == SEVERAL and quickest > NEAR * self._heartbeat
        told, self._told = self._told, far
        if told or not far:
            return ""
        better = math.ceil(2 * ROOM * quickest) / 2
        return (f"a round trip to Redis takes {quickest:.2f} s, too long for --heartbeat {self._heartbeat:g}: the flag "
                f"may expire on its way; --heartbeat {better:g} suits this link")  # fmt: skip
