"""The terminal: a writer that never stops the other greenlets, and the screen, which is entered and left as a whole."""

import contextlib
import copy
import io
import os
import stat
import termios
from collections.abc import Callable
from typing import Any

import gevent
import wcwidth
from blessed import Terminal
from gevent.os import tp_write
from gevent.socket import wait_read, wait_write

from gmonitor.news import ScreenLeft, ScreenShown, Tell
from gmonitor.restorer import start_output
from gmonitor.view import Line

STDERR = 2
LAST_WORDS = 2.0  # seconds that the end may wait for a reader of stderr
LAST_WRITE = 0.5  # seconds that leaving may take on a terminal that takes nothing
PASTES_MARKED, PASTES_UNMARKED = "\x1b[?2004h", "\x1b[?2004l"  # terminals that do not know them skip them
PLAIN_SIGNS = str.maketrans("▶×…", ">x.")


class Writer:
    """Writes to stdout or stderr without ever stopping the other greenlets, however slow the reader is.

    A blocking write to a full pipe, or to a terminal that is halted by Ctrl-S, would stop everything. O_NONBLOCK on the
    descriptor itself would be seen by the user's shell, which shares it. Therefore the writer has a description of its
    own. An OSError of its methods says that the reader is gone or the disk is full.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._own: int | None = None
        self._left = b""  # the part of the last write that has not been written yet

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


class Screen:
    """What is shown on a terminal. `tell` tells the guard how to restore it should we be killed."""

    def __init__(self, writer: Writer, keys_fd: int | None, encoding: str, tell: Tell) -> None:
        self._writer = writer
        self._encoding = encoding.lower()
        self._tell = tell
        self._shown: list[Line] = []
        self._before: list[Any] | None = None
        self._opening = ""
        self.keys_fd = keys_fd
        self.entered = False
        self._sequences(_terminal())

    def _sequences(self, terminal: Terminal) -> None:
        self._to = terminal.move_xy
        self._clear_line = str(terminal.clear_eol)
        self._normal = str(terminal.normal)
        clear = str(terminal.clear)
        # Automatic margins are off: a terminal may find a line longer than we do (some characters are wider there), and
        # its end must not appear in the next row.
        self._modes = f"{self._normal}{terminal.hide_cursor}{terminal.rmam}"
        modes_before = f"{self._normal}{terminal.smam}"
        if self.keys_fd is not None:
            self._modes += PASTES_MARKED
            modes_before += PASTES_UNMARKED
        self._enter = f"{terminal.enter_fullscreen}{clear}{self._modes}"
        self._leave = f"{modes_before}{terminal.exit_fullscreen or clear}{terminal.normal_cursor}"
        bold, dim = str(terminal.bold), str(terminal.dim)
        colour = "" if os.environ.get("NO_COLOR") else str(terminal.green)
        self._styles = {
            "title": bold,
            "heading": str(terminal.underline),
            "generator": bold + colour,
            "ended": dim,
            "sum": bold,
            "output": dim,
            "keys": str(terminal.reverse),
        }

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows; the usual ones where the terminal does not know."""
        try:
            width, height = os.get_terminal_size(self._writer.fd)
        except OSError:
            return 80, 24
        return (width, height) if width and height else (80, 24)

    @property
    def ours(self) -> bool:
        """Whether we are the terminal's foreground job. A job in the background must not touch it."""
        try:
            return os.tcgetpgrp(self._writer.fd) == os.getpgrp()
        except OSError:  # It is not our controlling terminal, so there is no job control to respect.
            return True

    def enter(self) -> bool:
        """Takes the terminal over if it is ours (again after a stop: the shell has changed it meanwhile).

        Raises OSError when it has hung up.
        """
        if not self.ours:
            return False
        self._writer.open()
        try:
            if self.keys_fd is None:
                self._tell(ScreenShown(None, None, self._leave.encode()))
            else:
                now = termios.tcgetattr(self.keys_fd)
                # Modes that are exactly those that we have set tell nothing about the modes before.
                if self._before is None or now != _cbreak(self._before):
                    self._before = now
                during = _cbreak(self._before)
                self._tell(ScreenShown(self._before, during, self._leave.encode()))
                termios.tcsetattr(self.keys_fd, termios.TCSANOW, during)
        except termios.error as error:
            raise OSError(*error.args) from None
        self.entered = True
        self._shown = []
        # This is written with the first picture, so that a halted terminal stops only the greenlet that draws.
        self._opening = self._enter
        return True

    def leave(self, last: str = "") -> None:
        """Gives the terminal back as it was, with a `last` line on it; never blocks for long.

        Output that was halted is started again. What the terminal does not take even so, the guard writes later.
        """
        if not self.entered:
            return
        self.entered = False
        # When the terminal is not ours, the shell has set modes of its own, and setting any would stop this process.
        ours = self.ours
        if ours:
            with contextlib.suppress(termios.error):
                start_output(self._writer.fd)
        rest = b""  # a terminal that has hung up gets nothing more
        with contextlib.suppress(OSError):
            rest = self._writer.write_within(f"{self._leave}{last}".encode(self._encoding, "replace"), LAST_WRITE)
        if ours and self.keys_fd is not None and self._before:
            with contextlib.suppress(termios.error):
                # TCSAFLUSH and TCSADRAIN would wait for a terminal that may be halted.
                termios.tcsetattr(self.keys_fd, termios.TCSANOW, self._before)
        self._tell(ScreenLeft(rest))

    def draw(self, lines: list[Line], size: tuple[int, int]) -> None:
        """Shows these lines: all rows on a screen that is new or was forgotten, else those that differ."""
        lines = lines + [Line("")] * (size[1] - len(lines))
        parts = [self._opening]
        for row, line in enumerate(lines):
            if row >= len(self._shown) or line != self._shown[row]:
                parts += [self._to(0, row), self._clear_line, self._styled(line, size[0])]
        self._opening = ""
        self._shown = lines
        if any(parts) and self.entered:
            self._writer.write("".join(parts).encode(self._encoding, "replace"))

    def forget(self) -> None:
        """What is on the terminal is unknown: the next draw draws everything."""
        self._shown = []
        self._opening = self._opening or self._modes

    def _styled(self, line: Line, width: int) -> str:
        text = line.text if self._encoding.startswith("utf") else line.text.translate(PLAIN_SIGNS)
        style = self._styles.get(line.style, "")
        if line.style == "keys":
            text = wcwidth.ljust(text, width)
        return f"{style}{text}{self._normal}" if style else text


def _terminal() -> Terminal:
    """blessed as a source of sequences only: on a stream of its own it asks the terminal nothing.

    With NO_COLOR set it would give no sequences at all, not even those that move the cursor.
    """
    no_color = os.environ.pop("NO_COLOR", None)
    try:
        return Terminal(kind=os.environ.get("TERM"), stream=io.StringIO(), force_styling=True)
    finally:
        if no_color is not None:
            os.environ["NO_COLOR"] = no_color


def _cbreak(attributes: list[Any]) -> list[Any]:
    """Keys one by one and unseen; Ctrl-C and Ctrl-Z stay signals."""
    changed = copy.deepcopy(attributes)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    return changed
