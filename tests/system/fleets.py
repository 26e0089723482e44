"""A gmonitor with fake tasks, for tests: on a terminal, or printing lines."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gtask.processes import descendants
from tests.support.processes import wait_until
from tests.system.terminal import Terminal, alive

FAKE = str(Path(__file__).with_name("fake_task.py"))
ROOT = str(Path(__file__).parents[2])
GMONITOR = [sys.executable, "-m", "gmonitor"]
# A Redis is named, so that no embedded one is started where none is needed.
ENVIRON = {"GTASK_REDIS": "unix:///nowhere", "PYTHONPATH": ROOT, "NO_COLOR": ""}


class Run:
    """A folder that the fake tasks share, and the processes that they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *words: str, tasks: int = 3, options: tuple[str, ...] = ()) -> list[str]:
        """A gmonitor with that many fake tasks."""
        return [*GMONITOR, "-n", str(tasks), *options, "--", sys.executable, FAKE, str(self.folder), *words]

    @property
    def pids(self) -> list[int]:
        """All processes that were ever started below gmonitor."""
        return sorted(int(file.name) for file in (self.folder / "pids").glob("*"))

    @property
    def left(self) -> list[int]:
        """Those that still live."""
        return [pid for pid in self.pids if alive(pid)]


def start(run: Run, *words: str, columns: int = 80, rows: int = 24, **kwargs: object) -> Terminal:
    """gmonitor on a terminal, when its table shows a generator and at least three tasks have an id."""
    environ = {**ENVIRON, **kwargs.pop("environ", {})}  # type: ignore[dict-item]
    terminal = Terminal(run.command(*words, **kwargs), columns, rows, environ)  # type: ignore[arg-type]
    terminal.wait_for(r"▶.* yes ")
    return terminal


class Plain(subprocess.Popen[str]):
    """A process that a failed test ends: Popen itself would wait for it, perhaps for ever."""

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *error)  # type: ignore[arg-type]


def plain(*arguments: str, **kwargs: object) -> Plain:
    environ = {**os.environ, **ENVIRON, **kwargs.pop("environ", {})}  # type: ignore[dict-item]
    return Plain(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, **kwargs)  # type: ignore[call-overload]


def wait_for_line(process: "subprocess.Popen[str]", wanted: str) -> str:
    """Reads what a gmonitor prints up to the first line that contains this."""
    assert process.stdout
    return next(line for line in process.stdout if wanted in line)


def guard_of(process: "subprocess.Popen[str]") -> int:
    """The pid of the guard of this gmonitor."""

    def found() -> list[int]:
        commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in descendants(process.pid)}
        return [pid for pid, file in commands.items() if file.exists() and b"guard of a fleet" in file.read_bytes()]

    return wait_until(found, "the guard")[0]


def usual_port_is_free() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 6379)) != 0


needs_free_port = pytest.mark.skipif(not usual_port_is_free(), reason="a Redis listens on the usual port")
