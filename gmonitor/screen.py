"""The terminal: entered and left as a whole, and drawn on where something has changed."""

import contextlib
import copy
import io
import os
import termios
from typing import Any

import wcwidth
from blessed import Terminal

from gmonitor.restorer import start_output
from gmonitor.view import Line
from gmonitor.wire import ScreenLeft, ScreenShown, Tell
from gmonitor.writer import Writer

LAST_WRITE = 0.5  # seconds that leaving may take on a terminal that takes nothing
PASTES_MARKED, PASTES_UNMARKED = "\x1b[?2004h", "\x1b[?2004l"  # terminals that do not know them skip them
PLAIN_SIGNS = str.maketrans("▶×…", ">x.")


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
        # No automatic margins: where a terminal takes a line for longer than we do, it must not go on in the next one.
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
        self._writer.open()
        try:
            if self.keys_fd is None:
                self._tell(ScreenShown(None, None, self._leave.encode()))
            else:
                now = termios.tcgetattr(self.keys_fd)
                if self._before is None or now != _cbreak(self._before):  # else it is still as we have set it
                    self._before = now
                during = _cbreak(self._before)
                self._tell(ScreenShown(self._before, during, self._leave.encode()))
                termios.tcsetattr(self.keys_fd, termios.TCSANOW, during)
        except termios.error as error:
            raise OSError(*error.args) from None
        self.entered = True
        self._shown = []
        self._opening = self._enter  # written with the first picture: a halted terminal stops only who draws
        return True

    def leave(self, last: str = "") -> None:
        """Gives the terminal back as it was, with a `last` line on it; never blocks for long.

        Output that was halted is started again. What the terminal does not take even so, the guard writes later.
        """
        if not self.entered:
            return
        self.entered = False
        ours = self.ours  # else the shell has set its own modes, and to set any would stop us
        if ours:
            with contextlib.suppress(termios.error):
                start_output(self._writer.fd)
        rest = b""  # for a terminal that has hung up
        with contextlib.suppress(OSError):
            rest = self._writer.write_within(f"{self._leave}{last}".encode(self._encoding, "replace"), LAST_WRITE)
        if ours and self.keys_fd is not None and self._before:
            with contextlib.suppress(termios.error):
                # not …FLUSH or …DRAIN: they wait for a terminal that may be halted
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
