"""`gtask cron FILE`: when the entries are due next."""

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from gtask.cron.crontab import Entry, load
from gtask.cron.message import Tick, utc


def after(text: str) -> float:
    """The time of `--from`; one without an offset counts as UTC. Raises ValueError."""
    return utc(text).timestamp()


def preview(path: str, begin: int, number: int) -> str:
    """A line for each of the first `number` ticks after `begin` (seconds since 1970): the message, and the time in the
    entry's zone. Raises UsageError for a file that makes no sense."""
    crontab = load(path)
    ticks = heapq.merge(*(_ticks(entry, begin) for entry in crontab))
    width = max(len(Tick(begin, entry.name).message) for entry in crontab)
    zones = {entry.name: ZoneInfo(entry.zone) for entry in crontab}
    return "".join(_line(tick, zones[tick.name], width) for tick in islice(ticks, number))


def _ticks(entry: Entry, begin: int) -> Iterator[Tick]:
    return (Tick(at, entry.name) for at in entry.schedule.after(begin))


def _line(tick: Tick, zone: ZoneInfo, width: int) -> str:
    there = datetime.fromtimestamp(tick.at, zone)
    return f"{tick.message:<{width}}  {there:%a %Y-%m-%d %H:%M:%S} {zone.key}\n"
