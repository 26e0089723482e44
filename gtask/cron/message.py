"""A tick as it travels: `report@2026-11-24T02:30:00+00:00`, idempotency key and intended time in one."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

LONGEST_NAME = 64  # characters

_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}")


class Tick(NamedTuple):
    """An entry is due. Ticks of all entries stand in one total order: by time, and then by name."""

    at: int  # seconds since 1970
    name: str

    @property
    def message(self) -> str:
        """What is pushed."""
        return f"{self.name}@{self.time.isoformat()}"

    @property
    def time(self) -> datetime:
        """When it is due, in UTC."""
        return datetime.fromtimestamp(self.at, UTC)


def is_name(text: str) -> bool:
    """Whether an entry may be called so: nothing in it can be taken for another part of a message or a position."""
    return _NAME.fullmatch(text) is not None


def parse(message: str) -> tuple[str, datetime]:
    """The entry's name and the tick, in UTC; a time without an offset counts as UTC. Raises ValueError."""
    name, at, time = message.partition("@")
    if not (at and is_name(name)):
        raise ValueError("it is no NAME@TIME, such as report@2026-11-24T02:30:00+00:00")
    return name, utc(time)


def utc(text: str) -> datetime:
    """A time of ISO 8601, in UTC; one without an offset counts as UTC already. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("it is no time, such as 2026-11-24T02:30:00+00:00") from None
