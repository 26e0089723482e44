"""Writes to stdout and stderr without ever stopping the other greenlets, however slow the reader is.

A blocking write to a full pipe, or to a terminal halted by Ctrl-S, would stop everything. O_NONBLOCK on
the descriptor itself would be seen by the user's shell, which shares it: hence a description of our own.
"""

import contextlib
import os
import stat
from collections.abc import Callable

import gevent
from gevent.os import tp_write
from gevent.socket import wait_read, wait_write

STDERR = 2
LAST_WORDS = 2.0  # seconds that the end may wait for a reader of stderr


class Writer:
    """A cooperative writer; an OSError says that the reader is gone or the disk is full."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._own: int | None = None
        self._left = b""  # of what is being written

    def open(self) -> None:
        """Makes sure that it has a description of its own. Without one, native threads write."""
        if self._own is None:
            self._own = _reopen(self.fd)

    def write(self, data: bytes) -> None:
        """Writes all of it, and lets the others run for as long as that takes."""
        self._left = data
        while self._left:
            if self._own is None:
                written = tp_write(self.fd, self._left)
            else:
                try:
                    written = os.write(self._own, self._left)
                except BlockingIOError:
                    wait_write(self._own)
                    continue
            self._left = self._left[written:]

    def write_within(self, data: bytes, seconds: float) -> bytes:
        """Writes as much as goes in that time, for a terminal that may be halted; gives what did not go."""
        with gevent.Timeout(seconds, False):
            self.write(data)
        return self._left

    def watch(self, gone: Callable[[], None]) -> None:
        """Calls `gone` when the reader of a pipe has closed it, though there is nothing to write."""
        if self._own is not None and stat.S_ISFIFO(os.fstat(self._own).st_mode):
            wait_read(self._own)
            gone()


def _reopen(fd: int) -> int | None:
    """The same pipe or terminal, non-blocking and our own; None for a file, or where that is refused."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return None
    try:
        return os.open(f"/dev/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def say(text: str) -> None:
    """A line on stderr, if its reader takes it in time: that nobody reads must not keep us from ending."""
    with contextlib.suppress(OSError):
        writer = Writer(STDERR)
        writer.open()
        writer.write_within(f"{text}\n".encode("utf-8", "backslashreplace"), LAST_WORDS)
