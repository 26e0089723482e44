"""The file of --log: the tasks' stderr.

A native thread writes it, because a write to a full pipe, to a FIFO without a reader or to a disk that does not answer
would stop every greenlet: the picture, the keys, the tasks' pipes. What comes while the thread is stuck waits, up to a
bound; what is beyond that is dropped, and counted in the file itself.
"""

import os
import stat
from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original

from gtask.exceptions import UsageError

KEPT = 8_000_000  # bytes that wait
FILE_PATIENCE = 2.0  # seconds that the end waits for the file
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class TaskLog:
    """A file that grows, and is found again when it was rotated away. `complain` may be called by any thread."""

    def __init__(self, name: str, complain: Callable[[str], None]) -> None:
        self._name = name
        self._complain = complain
        self._file: int | None = None
        self._waiting: Any = get_original("queue", "SimpleQueue")()
        # Each number has one writer, so no lock is needed: the caller for the first three, the thread for the others.
        self._bytes_given = self._lines_given = self._lines_dropped = 0
        self._bytes_taken = self._lines_written = self._lines_lost = 0
        self._failing = False

    def open(self) -> None:
        """Begins to write. Raises UsageError when the file cannot be written."""
        try:
            # Without O_NONBLOCK, opening a FIFO would wait here for its reader. The thread waits for it instead.
            self._file = os.open(self._name, FLAGS | os.O_NONBLOCK, 0o666)
            os.set_blocking(self._file, True)
        except OSError as error:
            if not self._is_fifo():
                raise UsageError(f"--log: cannot write {self._name}: {error.strerror}") from None
        get_original("_thread", "start_new_thread")(self._write_on, ())

    def write(self, data: bytes) -> None:
        """Appends these lines soon, or drops them when too much waits. Never blocks."""
        lines = data.count(b"\n")
        self._lines_given += lines
        if self._bytes_given - self._bytes_taken + len(data) > KEPT:
            self._lines_dropped += lines
            return
        self._bytes_given += len(data)
        dropped, self._lines_dropped = self._lines_dropped, 0
        self._waiting.put((dropped, data))

    def close(self) -> int:
        """Waits for the file, but not for long; gives the number of lines that are not in it."""
        if not self._lines_given:
            return 0
        written = get_original("_thread", "allocate_lock")()
        written.acquire()
        self._waiting.put((self._lines_dropped, written))
        written.acquire(timeout=FILE_PATIENCE)
        return self._lines_given - self._lines_written

    def _write_on(self) -> None:
        while True:
            dropped, item = self._waiting.get()
            data = item if isinstance(item, bytes) else b""
            self._lines_lost += dropped
            try:
                if data or self._lines_lost:
                    self._append(data)
                self._failing = False
            except OSError as error:
                self._lines_lost += data.count(b"\n")
                if not self._failing:
                    self._failing = True
                    self._complain(f"cannot write {self._name}: {error.strerror}")
            self._bytes_taken += len(data)
            if item is not data:
                item.release()

    def _append(self, data: bytes) -> None:
        self._reopen()
        if self._lines_lost:
            notice = f"gmonitor: {self._lines_lost} lines were dropped here, because they could not be written"
            self._write_all(f"{notice}\n".encode())
            self._complain(f"--log: {self._lines_lost} lines were dropped, because {self._name} took no more")
            self._lines_lost = 0
        self._write_all(data)
        self._lines_written += data.count(b"\n")

    def _write_all(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._file, data) :]  # type: ignore[arg-type]  # it is open
        except BrokenPipeError:  # The reader of a FIFO has gone. Another one may come.
            os.close(self._file)  # type: ignore[arg-type]
            self._file = None
            raise

    def _reopen(self) -> None:
        """Makes sure that what we write to bears the file's name: whoever rotates logs renames or removes it."""
        if self._file is not None:
            try:
                if os.path.samestat(os.fstat(self._file), os.stat(self._name)):
                    return
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = None
        self._file = os.open(self._name, FLAGS, 0o666)  # of a FIFO, this waits for a reader

    def _is_fifo(self) -> bool:
        try:
            return stat.S_ISFIFO(os.stat(self._name).st_mode)
        except OSError:
            return False
