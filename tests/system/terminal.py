"""A real program on a pty of a given size: press keys, wait for text on its screen."""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

from tests.support.processes import PATIENCE
from tests.support.terminal import Pty


class Terminal(Pty):
    """`text` is what a person would see."""

    def __init__(
        self, command: Sequence[str], columns: int = 80, rows: int = 24, environ: Mapping[str, str] | None = None
    ) -> None:
        self.raw = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        super().__init__(command, columns, rows, environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
        self.hang_up()

    @property
    def text(self) -> str:
        """The screen as lines."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def screen(self) -> pyte.Screen:
        """The screen with its colours."""
        return self._screen

    def print_from_elsewhere(self, text: str) -> None:
        """What another program (`wall`, a daemon) writes on this terminal."""
        os.write(self._slave, text.encode())

    def stall(self) -> None:
        """Fills the terminal until it takes nothing more; it goes on when somebody reads."""
        fd = os.open(os.ttyname(self._slave), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        while select.select([], [fd], [], 0.1)[1]:  # the kernel may still move what it has taken
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(fd, b" ")
        os.close(fd)

    @property
    def foreground(self) -> int:
        """The group of processes to which the terminal belongs at the moment."""
        return os.tcgetpgrp(self._master)

    @property
    def holders(self) -> list[int]:
        """The processes, other than ours, that have this terminal open."""
        name, found = os.ttyname(self._slave), set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                if os.readlink(link) == name:
                    found.add(int(link.parts[2]))
        return sorted(found - {os.getpid()})

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size; the program gets SIGWINCH."""
        self._screen.resize(rows, columns)
        self.set_size(columns, rows)

    def wait_for(self, wanted: str | Callable[[str], object], within: float = PATIENCE) -> str:
        """Reads until the screen matches the regular expression or the condition; gives the screen."""
        holds = wanted if callable(wanted) else lambda text: re.search(wanted, text)
        deadline = time.monotonic() + within
        while not holds(self.text):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {wanted!r} on the screen:\n{self.text}")
            self.read(0.2)
        return self.text

    def wait(self, within: float = PATIENCE) -> int:
        """Reads until the program has ended; gives its exit code."""
        deadline = time.monotonic() + within
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the program does not end:\n{self.text}")
            self.read(0.05)
        self.read(0.0)
        return self.process.returncode

    def read(self, timeout: float) -> None:
        """Takes in what the program has written, waiting at most so long for the first of it."""
        while select.select([self._master], [], [], timeout)[0]:
            data = os.read(self._master, 65536)
            self.raw += data
            self._stream.feed(data)
            timeout = 0.0


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill_all(pids: Sequence[int]) -> None:
    """The last broom of a failed test."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
