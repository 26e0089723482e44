"""All events: what happens to the fleet, as the fleet learns it, and what happens to the monitor itself."""

from dataclasses import dataclass

from gtask.protocol import Output, Report


@dataclass(frozen=True)
class Started:
    """A process was started."""

    pid: int


@dataclass(frozen=True)
class Reported:
    """A task's stdout: reports, and lines that are none; and what a line holds that has not ended for a while."""

    pid: int
    reports: tuple[Report | Output, ...]
    unfinished: str = ""


@dataclass(frozen=True)
class Said:
    """A task's stderr: the last lines of what came at once, and how many before them were left out; and the same."""

    pid: int
    lines: tuple[str, ...]
    left_out: int = 0
    unfinished: str = ""


@dataclass(frozen=True)
class KillAsked:
    """The user asked to end this task."""

    pid: int


@dataclass(frozen=True)
class GroupAsked:
    """This task has not heeded that it was asked, so that all processes of its group were."""

    pid: int


@dataclass(frozen=True)
class Ended:
    """A process has ended; `code` is its exit code, or minus the number of the signal."""

    pid: int
    code: int


@dataclass(frozen=True)
class Noted:
    """Something about the monitor itself."""

    text: str


@dataclass(frozen=True)
class Tick:
    """A second is over: rates are taken."""


@dataclass(frozen=True)
class Pressed:
    """A key of the key table."""

    action: str


@dataclass(frozen=True)
class Signalled:
    """A signal to the monitor."""

    number: int


@dataclass(frozen=True)
class Failed:
    """Something that ends the monitor: output lost, a task that cannot be started, a bug."""

    error: BaseException


@dataclass(frozen=True)
class Finished:
    """The tree is gone, but for these pids."""

    left: tuple[int, ...]


# What the fleet is told. The others are for the monitor's loop alone.
Event = Started | Reported | Said | KillAsked | GroupAsked | Ended | Noted | Tick
