"""When an entry is due. Pure; times are whole seconds since 1970.

Which times these are does not depend on where one begins to look. Otherwise the next generator could skip a tick, or
repeat one. So the calendar (cronsim) only ever counts on a clock that is never changed, and the zone is applied here.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gtask.exceptions import UsageError

try:
    from cronsim import CronSim, CronSimError
except ImportError:
    raise UsageError("--cron needs the library cronsim: pip install 'gtask[cron]'") from None

MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
DAY = 86_400  # seconds; the clock of no zone is changed twice within one
AT_ONCE = 64  # ticks that are counted without a pause; it takes 3 ms
END_OF_TIME = 253_402_300_799  # seconds since 1970: the last second of the year 9999
EPOCH = datetime(1970, 1, 1)  # what the clock on the wall shows has no zone here


class Schedule(ABC):
    """When one entry is due. `mark`: of what it says, four hexadecimal digits."""

    def __init__(self, text: str) -> None:
        self.mark = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:4]

    @abstractmethod
    def after(self, time: int) -> Iterator[int]:
        """All ticks after this time, in order. They may end: a calendar does, in the year 9999."""

    def newest(self, after: int, until: int) -> int | None:
        """The last tick that is later than `after` and not later than `until`."""
        found = None
        while after < until:
            middle = (after + until) // 2
            tick = next(self.after(middle), None)
            if tick is not None and tick <= until:
                found = after = tick
            else:
                until = middle
        return found

    def count(self, after: int, until: int, limit: int, pause: Callable[[], object]) -> tuple[int, bool]:
        """How many ticks are later than `after` and not later than `until`, and whether that is exact: where there are
        more than `limit`, so many are said. `pause` is called each few milliseconds."""
        count = 0
        for tick in self.after(after):
            if tick > until or count == limit:
                return count, tick > until
            count += 1
            if count % AT_ONCE == 0:
                pause()
        return count, True


class Every(Schedule):
    """Each so many seconds, counted from 1970."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"every {seconds}")
        self._seconds = seconds

    def after(self, time: int) -> Iterator[int]:
        """All ticks after this time, until Python's time ends."""
        while (time := (time // self._seconds + 1) * self._seconds) <= END_OF_TIME:
            yield time

    def newest(self, after: int, until: int) -> int | None:
        """As arithmetic."""
        tick = until // self._seconds * self._seconds
        return tick if tick > after else None

    def count(self, after: int, until: int, limit: int, pause: Callable[[], object]) -> tuple[int, bool]:
        """As arithmetic, and always exact."""
        return max(0, until // self._seconds - after // self._seconds), True


class Cron(Schedule):
    """A line of a crontab, in a zone.

    Where the clock is changed, Debian's rules hold. Jobs of a fixed time (with neither hours nor minutes that begin
    with a star) run once: what would be in the hour that is left out runs just after it, and what is in the hour that
    comes twice runs the first time. All others, and those with seconds, run whenever the clock shows their time.
    """

    def __init__(self, text: str, zone: ZoneInfo) -> None:
        """Raises ValueError with the reason for what is no such line, or never comes."""
        self._expression = expression = MACROS.get(text.strip().lower(), text)
        self._zone = zone
        fields = expression.upper().split()
        super().__init__(" ".join([*fields, zone.key]))
        if len(fields) not in (5, 6):
            names = ", ".join(MACROS)
            raise ValueError(f"it must have 5 fields, 6 with seconds, or be one of {names}")
        try:
            sim = self._calendar(EPOCH)
        except (CronSimError, ValueError, TypeError, AssertionError) as error:
            raise ValueError(str(error).lower() if isinstance(error, CronSimError) else "it cannot be read") from None
        if next(sim, None) is None:
            raise ValueError("there is no such date")
        self._fixed = len(fields) == 5 and not (fields[0].startswith("*") or fields[1].startswith("*"))

    def after(self, time: int) -> Iterator[int]:
        """All ticks after this time."""
        try:
            yield from self._of_fixed_time(time) if self._fixed else self._by_the_clock(time)
        except (OverflowError, ValueError):  # Python's time ends here
            return

    def _calendar(self, wall: datetime) -> Iterator[datetime]:
        return CronSim(self._expression, wall)

    def _of_fixed_time(self, time: int) -> Iterator[int]:
        """Each time of the calendar once, whatever the clock shows."""
        last = time
        for wall in self._calendar(_wall(time, self._offset(time))):
            while self._is_left_out(wall):
                wall += timedelta(minutes=1)  # noqa: PLW2901
            tick = int(wall.replace(tzinfo=self._zone).timestamp())  # fold=0: the first of two
            if tick > last:
                last = tick
                yield tick

    def _by_the_clock(self, time: int) -> Iterator[int]:
        """Whenever the clock shows a time of the calendar: from one change of the clock to the next."""
        while True:
            offset, known = self._offset(time + 1), time + 1
            for wall in self._calendar(_wall(time, offset)):
                tick = _seconds(wall) - offset
                if change := self._change(known, tick, offset):
                    time = change - 1
                    break
                known = tick
                yield tick
            else:
                return

    def _change(self, begin: int, end: int, offset: int) -> int | None:
        """From when on, after `begin` and not after `end`, the zone has another offset than it has at `begin`."""
        while begin < end:
            step = min(begin + DAY, end)
            if self._offset(step) != offset:
                while step - begin > 1:
                    middle = (begin + step) // 2
                    begin, step = (middle, step) if self._offset(middle) == offset else (begin, middle)
                return step
            begin = step
        return None

    def _offset(self, time: int) -> int:
        offset = datetime.fromtimestamp(time, self._zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    def _is_left_out(self, wall: datetime) -> bool:
        """Whether the clock never shows this time, because it is put forward over it."""
        there = wall.replace(tzinfo=self._zone).astimezone(UTC)
        return there.astimezone(self._zone).replace(tzinfo=None) != wall


def _wall(time: int, offset: int) -> datetime:
    return EPOCH + timedelta(seconds=time + offset)


def _seconds(wall: datetime) -> int:
    return int((wall - EPOCH).total_seconds())
