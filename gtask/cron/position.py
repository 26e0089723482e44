"""Where generation stands: the last tick, and up to when each entry is settled. Pure.

As text, on one line, for 100 entries shorter than 4096 bytes:

    report@2026-11-24T02:30:00+00:00 fired=12 coalesced=3 skipped=0 known=poll~1f3a,report~22aa,vacuum~93ac:1764210000

Ticks stand in one total order, so the last one says of most entries up to when they are settled. Where that is not so
a time follows the entry's name (seconds since 1970). Behind `~` stands a mark of the entry's schedule: an entry whose
schedule was changed begins anew.

`NAME@TIME` alone is a position too (for `gtask rewind --to`): everything up to then is settled, for every entry, and
all that follows is not. Before the first tick the name is empty; then everything up to this time is settled.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gtask.cron.message import Tick, is_name, utc

_COUNT = "(0|[1-9][0-9]{0,17})"
_REST = re.compile(rf" fired={_COUNT} coalesced={_COUNT} skipped={_COUNT} known=(.*)")
_KNOWN = re.compile(r"([^~:,]+)~([0-9a-f]{4})(?::(-?[0-9]{1,12}))?")


@dataclass(frozen=True)
class Counts:
    """What became of ticks: messages; merged into a later tick of their entry; too old, or not wanted any more."""

    fired: int = 0
    coalesced: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Known:
    """An entry: the mark of its schedule, and the time up to which each of its ticks is settled, that time included."""

    mark: str
    settled: int


@dataclass(frozen=True)
class Position:
    """`known`: by names; None: every entry, up to the last tick."""

    last: Tick
    known: Mapping[str, Known] | None = None
    counts: Counts = field(default_factory=Counts)

    def __str__(self) -> str:
        counts, names = self.counts, []
        if self.known is None:
            return self.last.message
        for name, known in sorted(self.known.items()):
            at = "" if known.settled == settled_by(self.last, name) else f":{known.settled}"
            names.append(f"{name}~{known.mark}{at}")
        return (f"{self.last.message} fired={counts.fired} coalesced={counts.coalesced} skipped={counts.skipped} "
                f"known={','.join(names)}")  # fmt: skip


def settled_by(last: Tick, name: str) -> int:
    """Up to when an entry is settled, if everything is that does not come after this tick in the total order."""
    return last.at if name <= last.name or not last.name else last.at - 1


def read(text: str) -> Position:
    """Raises ValueError for a text that is no position."""
    tick, space, rest = text.partition(" ")
    name, at, time = tick.partition("@")
    if not at or not (name == "" or is_name(name)):
        raise ValueError("it is no NAME@TIME")
    last = Tick(int(utc(time).timestamp()), name)
    if not space:
        return Position(last)
    found = _REST.fullmatch(space + rest)
    if not found:
        raise ValueError("it is no position of a schedule")
    known = dict(_known(part, last) for part in found[4].split(",") if part)
    return Position(last, known, Counts(*map(int, found.groups()[:3])))


def is_one(text: str) -> bool:
    """Whether a schedule can go on from there."""
    try:
        read(text)
    except ValueError:
        return False
    return True


def _known(text: str, last: Tick) -> tuple[str, Known]:
    found = _KNOWN.fullmatch(text)
    if not found or not is_name(found[1]):
        raise ValueError("it is no position of a schedule")
    name, mark, settled = found.groups()
    return name, Known(mark, settled_by(last, name) if settled is None else int(settled))
