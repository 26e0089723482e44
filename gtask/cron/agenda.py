"""What is due, in one total order, and what becomes of ticks that were missed. Pure: whoever asks says the time.

A tick is missed when a later one of its entry is due before it could be fired, or when it is late by more than the
entry permits. So what happens depends on position and time alone, and not on who generates, or since when.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from gtask.cron.crontab import ALL, LATEST, SKIP, Crontab, Entry
from gtask.cron.message import Tick
from gtask.cron.position import Known, Position, settled_by

PUNCTUAL = 10  # seconds: a tick that is later is not fired with `missed = "skip"`; a takeover takes less, as a rule
COUNTED = 100_000  # missed ticks at most that are counted one by one, over all entries; that takes a few seconds
COUNTED_AT_LEAST = 1_000  # the same, for each entry
KEPT = 31 * 86_400  # seconds for which an entry that this file does not have stays known


class Dropped(NamedTuple):
    """Missed ticks of an entry that are not fired, the last one of them at `last`: coalesced into the one that follows,
    or skipped. `exact`: otherwise there were more of them than were counted."""

    name: str
    number: int
    exact: bool
    coalesced: bool
    last: Tick


@dataclass
class _Row:
    """An entry, up to when its ticks are settled, and the first one that is not (None: there is none any more)."""

    entry: Entry
    settled: int
    next: int | None

    def settle(self, until: int) -> None:
        self.settled = until
        self.next = next(self.entry.schedule.after(until), None)


class Agenda:
    """What is to come for the entries of a file after a position."""

    def __init__(
        self, crontab: Crontab, position: Position | None, now: int, pause: Callable[[], object] = lambda: None
    ) -> None:
        """`position`: None at the very first start, before which nothing was due. `now`: Redis' time in seconds.
        `pause` is called while much is counted, each few milliseconds."""
        position = position or Position(Tick(now, ""))
        self.news: list[str] = []  # what the file has that the position does not
        self._last, self._counts = position.last, position.counts
        self._pause = pause
        self._rows = [self._row(entry, position, now) for entry in crontab]
        self._others = {
            name: known for name, known in (position.known or {}).items()
            if crontab.get(name) is None and now - known.settled <= KEPT
        }  # fmt: skip
        self._limit = max(COUNTED // max(1, len(self._rows)), COUNTED_AT_LEAST)
        self._looked = min((row.settled for row in self._rows), default=now)

    def _row(self, entry: Entry, position: Position, now: int) -> _Row:
        known = None if position.known is None else position.known.get(entry.name)
        if position.known is None:
            settled = settled_by(position.last, entry.name)
        elif known is not None and known.mark == entry.schedule.mark:
            settled = known.settled
        else:
            settled = now
            self.news.append(f"{entry.name} is new" if known is None else f"{entry.name} has another schedule")
        return _Row(entry, settled, next(entry.schedule.after(settled), None))

    @property
    def position(self) -> Position:
        """What has been settled so far."""
        known = {row.entry.name: Known(row.entry.schedule.mark, self._settled(row)) for row in self._rows}
        return Position(self._last, self._others | known, self._counts)

    def _settled(self, row: _Row) -> int:
        """Not only up to the last tick of its own, if there was none since."""
        settled = settled_by(self._last, row.entry.name)
        return max(row.settled, settled) if row.next is None or row.next > settled else row.settled

    @property
    def next(self) -> Tick | None:
        """The first tick that is not settled."""
        return min((Tick(row.next, row.entry.name) for row in self._rows if row.next is not None), default=None)

    def drop(self, now: int) -> list[Dropped]:
        """Settles what was missed and is not to be fired. What is due by then is to be fired, in its order."""
        if now <= self._looked:
            return []
        self._looked = now
        late = [row for row in self._rows if row.next is not None and row.next <= now]
        return [dropped for row in late if (dropped := self._drop(row, now))]

    def _drop(self, row: _Row, now: int) -> Dropped | None:
        entry, schedule = row.entry, row.entry.schedule
        newest = schedule.newest(row.settled, now)
        oldest = now - (min(entry.within, PUNCTUAL) if entry.missed == SKIP else entry.within)
        if row.next is None or newest is None:
            return None
        fires = newest >= oldest
        until = newest if not fires else oldest - 1 if entry.missed == ALL else newest - 1
        if row.next > until:
            return None
        number, exact = schedule.count(row.settled, until, self._limit, self._pause)
        coalesced = fires and entry.missed == LATEST
        last = Tick(schedule.newest(row.settled, until) or until, entry.name)
        row.settle(until)
        counts = self._counts
        if coalesced:
            self._counts = replace(counts, coalesced=counts.coalesced + number)
        else:
            self._counts = replace(counts, skipped=counts.skipped + number)
        return Dropped(entry.name, number, exact, coalesced, last)

    def fire(self, tick: Tick) -> None:
        """Settles the next tick: it becomes a message."""
        next(row for row in self._rows if row.entry.name == tick.name).settle(tick.at)
        self._last = tick
        self._counts = replace(self._counts, fired=self._counts.fired + 1)
