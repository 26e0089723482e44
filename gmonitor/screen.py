"""The terminal: entered and left as a whole, and drawn on where something has changed."""

import contextlib
import copy
import io
import os
import termios
from collections.abc import Callable
from typing import Any

from blessed import Terminal

from gmonitor.view import Line
from gmonitor.writer import Writer

LAST_WRITE = 0.5  # seconds that leaving may take on a terminal that takes nothing
PLAIN_SIGNS = str.maketrans("▶×…", ">x.")


class Screen:
    """What is shown on a terminal. `tell` tells the guard how to restore it should we be killed."""

    def __init__(self, writer: Writer, keys_fd: int | None, encoding: str, tell: Callable[..., None]) -> None:
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
        clear = str(terminal.clear)
        self._enter = str(terminal.enter_fullscreen) + str(terminal.hide_cursor) + clear
        self._leave = f"{terminal.normal}{terminal.exit_fullscreen or clear}{terminal.normal_cursor}"
        self._clear_line = str(terminal.clear_eol)
        self._normal = str(terminal.normal)
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
        """Whether we are the terminal's foreground job; to a job in the background it does not belong."""
        try:
            return os.tcgetpgrp(self._writer.fd) == os.getpgrp()
        except OSError:  # not our controlling terminal: no job control to respect
            return True

    def enter(self) -> bool:
        """Takes the terminal over if it is ours (again after a stop: the shell has changed it meanwhile).

        Raises OSError when it has hung up.
        """
        if not self.ours:
            return False
        try:
            if self.keys_fd is not None and not self.entered:
                self._before = termios.tcgetattr(self.keys_fd)
            during = _cbreak(self._before) if self._before else None
            self._tell("screen", self._before, during, self._leave.encode())
            if self.keys_fd is not None and during:
                termios.tcsetattr(self.keys_fd, termios.TCSANOW, during)
        except termios.error as error:
            raise OSError(*error.args) from None
        self.entered = True
        self._shown = []
        self._opening = self._enter  # written with the first picture: a halted terminal stops only who draws
        return True

    def leave(self) -> None:
        """Gives the terminal back as it was; never blocks for long, whatever state it is in."""
        if not self.entered:
            return
        self.entered = False
        with contextlib.suppress(OSError):
            self._writer.write_within(self._leave.encode(), LAST_WRITE)
        if self.keys_fd is not None and self._before is not None:
            with contextlib.suppress(termios.error):
                # not …FLUSH or …DRAIN: they wait for a terminal that may be halted
                termios.tcsetattr(self.keys_fd, termios.TCSANOW, self._before)
        self._tell("no screen")

    def say(self, text: str) -> None:
        """A line on the terminal as it is outside of our screen."""
        with contextlib.suppress(OSError):
            self._writer.write_within(f"{text}\n".encode(self._encoding, "replace"), LAST_WRITE)

    def draw(self, lines: list[Line], size: tuple[int, int]) -> None:
        """Shows these lines: all of them on a screen that is new or was forgotten, else those that differ."""
        parts = [] if self._shown else [self._opening, self._normal, *self._wipe(size[1])]
        self._opening = ""
        old = self._shown + [Line("")] * (len(lines) - len(self._shown))
        for row, line in enumerate(lines):
            if line != old[row]:
                parts += [self._to(0, row), self._clear_line, self._styled(line, size[0])]
        parts += [self._to(0, row) + self._clear_line for row in range(len(lines), len(old))]
        self._shown = lines
        if parts and self.entered:
            self._writer.write("".join(parts).encode(self._encoding, "replace"))

    def forget(self) -> None:
        """What is on the terminal is unknown: the next draw draws everything."""
        self._shown = []

    def _wipe(self, height: int) -> list[str]:
        return [self._to(0, row) + self._clear_line for row in range(height)]

    def _styled(self, line: Line, width: int) -> str:
        text = line.text if self._encoding.startswith("utf") else line.text.translate(PLAIN_SIGNS)
        style = self._styles.get(line.style, "")
        if line.style == "keys":
            text = text.ljust(width)
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
