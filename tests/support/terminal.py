"""A program on a terminal (a pty) of its own."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.processes import environment


class Pty:
    """Starts the program as the session leader of its own terminal. What it writes is for a subclass to read."""

    def __init__(
        self, command: Sequence[str], columns: int = 80, rows: int = 24, environ: Mapping[str, str] | None = None
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.set_size(columns, rows)
        self.before = self.attributes()
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment({"TERM": "xterm-256color", **(environ or {})}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # it only takes the terminal
        )

    def attributes(self) -> list[Any]:
        """What `stty -g` tells."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        """Types these characters."""
        os.write(self._master, keys.encode())

    def set_size(self, columns: int, rows: int) -> None:
        """Another size; a program that runs gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Closes the terminal."""
        for fd in (self._master, self._slave):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._master = self._slave = -1
