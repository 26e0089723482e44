"""What really happened, in the server's own order: read from its append-only file.

Why not MONITOR: a restarted server ends it, and it cuts a reader that is slow. The file survives both. It holds effects
only, and of a script all or nothing. Effects do not say who sent a command, so the messages do: each is
"number author", and the author (`pid.call`) is new in each call of `generate`, that is, in each term.

The server must run with OPTIONS.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPTIONS = (
    "appendonly", "yes", "appendfsync", "always", "aof-use-rdb-preamble", "no", "auto-aof-rewrite-percentage", "0",
)  # fmt: skip


@dataclass(frozen=True)
class Elected:
    """A task has got the flag, in a new term."""

    task_id: int


@dataclass(frozen=True)
class Pushed:
    """A message has been put at the tail of the queue by `generate`."""

    number: int
    author: str


Event = Elected | Pushed


@dataclass(frozen=True)
class Takeover:
    """What followed the SIGKILL of a generator; all in seconds."""

    flag_life: float  # that the flag still had when the generator was dead
    took: float  # until another task was the generator
    stalled: float  # the longest time meanwhile in which this machine did not let a thread run that wanted to


@dataclass(frozen=True)
class End:
    """Where the messages are when all is quiet, each as often as it is there."""

    handled: tuple[int, ...]
    errors: tuple[int, ...]
    waiting: tuple[int, ...]
    in_flight: tuple[int, ...]
    processed: int  # as the server counts: each message once, when it was acknowledged


def pushed(message: str) -> Pushed:
    number, author = message.split()
    return Pushed(int(number), author)


def read(folder: Path) -> list[Event]:
    """The events in the append-only file of a server that has `folder`."""
    events: list[Event] = []
    for step in _steps(folder):
        if ["HINCRBY", "generator", "term", "1"] in step:
            events += [Elected(int(words[2])) for words in step if words[:2] == ["SET", "generatorId"]]
        if any(words[:2] == ["HSET", "generator"] and "generated" in words for words in step):
            events += [pushed(m) for words in step if words[:2] == ["RPUSH", "messages"] for m in words[2:]]
    return events


def _steps(folder: Path) -> Iterator[list[list[str]]]:
    """The commands that were executed together: those of one script, or one by itself."""
    files = (folder / "appendonlydir").glob("*.incr.aof")
    together: list[list[str]] | None = None
    for file in sorted(files, key=lambda file: int(re.findall(r"\.(\d+)\.incr", file.name)[0])):
        for words in _commands(file.read_bytes()):
            match words[0].upper():
                case "MULTI":
                    together = []
                case "EXEC":
                    yield together or []
                    together = None
                case name if together is not None:
                    together.append([name, *words[1:]])
                case name:
                    yield [[name, *words[1:]]]


def _commands(data: bytes) -> Iterator[list[str]]:
    """The commands of an append-only file. One that is not whole was never answered; the server drops it, too."""
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : end]), end + 2
        words = []
        for _ in range(count):
            end = data.find(b"\r\n", at)
            if end < 0:
                return
            length, at = int(data[at + 1 : end]), end + 2
            words.append(data[at : at + length].decode("utf-8", "surrogateescape"))
            at += length + 2
        if at > len(data):
            return
        yield words
