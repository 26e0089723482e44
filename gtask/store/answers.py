"""What tasks tell Redis and what it answers, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


@dataclass(frozen=True)
class Member:
    """This process as Redis knows it. `record` is unlike any other process's, so a task whose id was given
    out again by an emptied Redis notices it."""

    task_id: int
    record: str


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat. `remaining`: seconds until the flag can be taken, as far as is known now (negative: it
    is free, or kept for ever). `time`: of Redis, in seconds since 1970. `since_push`: seconds since anybody's last
    push, None when there was none."""

    renewed: bool
    elected: bool
    term: int
    remaining: float
    endless: bool
    dead: list[int]
    time: float = 0.0
    before: str | None = None  # elected: the name of the `generate` of the last term, whoever's it was
    since_push: float | None = None
    last: str | None = None  # elected: the position, None at the very first start
    large: bool = False  # that is so large that `position` has to be asked for it


@dataclass(frozen=True)
class Settled:
    """What a claim tells of the messages that were handed out before."""

    all: bool = False  # they are finished
    stay: Sequence[str] | None = None  # of those in the list all are finished but these, in their order
    finished: Sequence[str] = ()  # these are finished, with `stay`: of the long-running ones
    away: bool = False  # those of the list that are not finished take long: out of the way with them (call.lua)


class Suspects(IntEnum):
    """What a claim says of messages that may have killed their holders."""

    NONE = 0
    WAIT = 1  # there are some, for a task with empty hands
    WAIT_FOR_US = 2  # this task will have some as soon as its hands are empty, and nothing else before
    IN_HAND = 3  # this task has some, and nothing else until they are finished


@dataclass(frozen=True)
class Postponed:
    """A message that comes again in so many `milliseconds`, and how often it was tried by then."""

    message: str
    milliseconds: int
    attempts: int
    failures: int


@dataclass(frozen=True)
class Came:
    """What came of finished messages: failure records, follow-up messages, and which of them come again."""

    failed: Sequence[str] = ()
    followups: Sequence[bytes] = ()
    later: Sequence[Postponed] = ()


NOTHING_CAME = Came()


class Claimed(NamedTuple):
    """The answer to `claim`. `tried`: of messages that were tried before: how often, and how many times in vain."""

    suspects: Suspects
    messages: list[str]
    tried: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Reaped:
    """The answer to `reap`: what happened; or the task lives; or a poison's failure record is needed first."""

    moved: int = 0
    poisoned: int = 0
    alive: bool = False
    poison: str = ""  # its SHA-1
    poison_bytes: int = 0
