"""A bar that shows a person at a terminal how far a command has come."""

import os
import sys
from time import monotonic

WIDTH = 30
INTERVAL = 0.1  # seconds between two pictures


class Progress:
    """Draws on stderr when that is a terminal, and does nothing otherwise. Leaving it as a context wipes the bar."""

    def __init__(self, total: int) -> None:
        """`total`: how many there are to be done."""
        self._total = total
        self._shows = total > 0 and os.isatty(2)
        self._due = monotonic() + INTERVAL  # a command that is quicker shows no bar

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def show(self, done: int) -> None:
        """How many are done by now."""
        if self._shows and monotonic() >= self._due:
            self._due = monotonic() + INTERVAL
            share = min(done / self._total, 1.0)
            bar = ("#" * round(share * WIDTH)).ljust(WIDTH, ".")
            self._write(f"{bar} {100 * share:3.0f} %  {done:,} of {self._total:,}")

    def _write(self, picture: str) -> None:
        if self._shows:
            sys.stderr.write(f"\r{picture}\x1b[K")  # the end of the sequence wipes what is left of the last picture
            sys.stderr.flush()
