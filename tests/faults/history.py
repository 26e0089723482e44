"""What really happened, in the server's own order: read from its append-only file.

Why not MONITOR: a restarted server ends it, and it cuts a reader that is slow. The file survives both. It holds effects
only, and of a script all or nothing. Effects do not say who sent a command, so the messages do: each is "number author"
(and padding, where it is to be large), and the author (`pid.call`) is new in each call of `generate`, that is, in each
term.

The server must run with OPTIONS.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPTIONS = (
    "appendonly", "yes", "appendfsync", "always", "aof-use-rdb-preamble", "no", "auto-aof-rewrite-percentage", "0",
)  # fmt: skip
FILES = "appendonlydir"
GONE = ("DEL", "UNLINK")


@dataclass(frozen=True)
class Elected:
    """A task has got the flag, in a new term."""

    task_id: int


@dataclass(frozen=True)
class Lost:
    """The flag is no task's any more: it has expired, somebody has deleted it, or another program has set it."""


@dataclass(frozen=True)
class Pushed:
    """A message has been put at the tail of the queue by `generate`."""

    number: int
    author: str

    def __str__(self) -> str:
        return f"{self.number} of {self.author}"


@dataclass(frozen=True)
class Followed:
    """A handler has sent a message, and that in the step in which its own was acknowledged."""

    message: Pushed


@dataclass(frozen=True)
class PutOff:
    """A message comes again. So many attempts were made at it by now, of which so many have failed."""

    message: Pushed
    attempts: int
    failures: int


@dataclass(frozen=True)
class Emptied:
    """The server came back without its file. It knows nothing of what was before, and counts from 1 again."""


Event = Elected | Lost | Pushed | Followed | PutOff | Emptied


@dataclass(frozen=True)
class Takeover:
    """What followed the SIGKILL of a generator; all in seconds."""

    flag_life: float  # that the flag still had when the generator was dead
    took: float  # until another task was the generator
    stalled: float  # the longest time meanwhile in which this machine did not let a thread run that wanted to


@dataclass(frozen=True)
class End:
    """Where the messages are when all is quiet, each as often as it is there."""

    handled: tuple[Pushed, ...]
    errors: tuple[Pushed, ...]
    waiting: tuple[Pushed, ...]
    in_flight: tuple[Pushed, ...]
    for_good: frozenset[Pushed] = frozenset()  # those in errors that nobody was to try again, whatever the number
    processed: int = 0  # as the server counts: each message once, when it was acknowledged


def pushed(message: str) -> Pushed:
    number, author, *_ = message.split()
    return Pushed(int(number), author)


def set_aside(folder: Path) -> None:
    """The append-only file of a server that is down goes where the server does not find it, and `read` does."""
    (folder / FILES).rename(folder / f"past.{len(_past(folder))}")


def read(folder: Path) -> list[Event]:
    """The events in the append-only files of a server that has `folder`."""
    events: list[Event] = []
    for past in _past(folder):
        events += [*_events(past), Emptied()]
    return events + list(_events(folder / FILES))


def _past(folder: Path) -> list[Path]:
    return sorted(folder.glob("past.*"), key=lambda past: int(past.suffix[1:]))


def _events(files: Path) -> Iterator[Event]:
    for step in _steps(files):
        owners = [words for words in step if words[:2] == ["SET", "generatorId"]]
        for words in step:
            # A task sets the flag together with its owner. An expired key is deleted when somebody looks for it.
            if "generatorIsActive" in words[1:] and (words[0] in GONE or (words[0] == "SET" and not owners)):
                yield Lost()
        if ["HINCRBY", "generator", "term", "1"] in step:
            yield from (Elected(int(words[2])) for words in owners)
        if any(words[:2] == ["HSET", "generator"] and "generated" in words[2::2] for words in step):
            yield from map(pushed, _sent(step))
        if any(words[:3] == ["HINCRBY", "totals", "followups"] for words in step):
            yield from (Followed(pushed(message)) for message in _sent(step))
        yield from _put_off(step)


def _sent(step: list[list[str]]) -> Iterator[str]:
    """What was put at the tail of the queue."""
    return (message for words in step if words[:2] == ["RPUSH", "messages"] for message in words[2:])


def _put_off(step: list[list[str]]) -> Iterator[PutOff]:
    """What was put aside for later: one command keeps a message, behind an ordinal, and another one its numbers, under
    the message's hash."""
    numbers = {words[2]: words[3] for words in step if words[:2] == ["HSET", "messages:attempts"]}
    for words in step:
        if words[:3] == ["ZADD", "messages:later", "NX"]:  # without NX it is there already, and its time is set anew
            message = words[-1].partition(" ")[2]
            attempts, failures = numbers[hashlib.sha1(message.encode("utf-8", "surrogateescape")).hexdigest()].split()
            yield PutOff(pushed(message), int(attempts), int(failures))


def _steps(files: Path) -> Iterator[list[list[str]]]:
    """The commands that were executed together: those of one script, or one by itself."""
    together: list[list[str]] | None = None
    for file in sorted(files.glob("*.incr.aof"), key=lambda file: int(re.findall(r"\.(\d+)\.incr", file.name)[0])):
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
