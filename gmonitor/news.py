"""What the monitor tells its guard (watchdog.py), and the mark by which the guard knows the processes of a run."""

import ast
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, get_args

# This variable is in the environment of every process that a run starts. It finds those that have left their group.
MARK = "GMONITOR_RUN"

Modes = list[Any]  # of a terminal, as termios gives them


@dataclass(frozen=True)
class Grace:
    """For so long tasks may finish what they have in hand."""

    seconds: float


@dataclass(frozen=True)
class TaskStarted:
    """A task runs, and reports through the pipe with this inode."""

    pid: int
    pipe: int


@dataclass(frozen=True)
class TaskEnded:
    """A task has ended, and all that it said is read."""

    pid: int


@dataclass(frozen=True)
class ServerStarted:
    """The embedded server runs, and has its data in this folder."""

    pid: int
    folder: str


@dataclass(frozen=True)
class ScreenShown:
    """The screen is shown. The terminal's modes before it and meanwhile (None: its keys are not read), and the bytes
    that take the screen away."""

    before: Modes | None
    during: Modes | None
    leave: bytes


@dataclass(frozen=True)
class ScreenLeft:
    """The screen is gone, but for these last bytes, which the terminal did not take."""

    rest: bytes


@dataclass(frozen=True)
class Goodbye:
    """All is done, and nothing is left for the guard."""


Message = Grace | TaskStarted | TaskEnded | ServerStarted | ScreenShown | ScreenLeft | Goodbye
Tell = Callable[[Message], None]
KINDS: dict[str, Callable[..., Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """One line."""
    return repr((type(message).__name__, *astuple(message))).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of a line that `encode` has made."""
    name, *values = ast.literal_eval(line.decode())
    return KINDS[name](*values)
