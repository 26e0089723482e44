"""Gives the terminal back in the place of a monitor that is dead."""

import contextlib
import os
import select
import termios

from gmonitor.news import ScreenShown


class Restorer:
    """Holds a terminal of its own, so that a halted one never holds up the guard."""

    def __init__(self) -> None:
        self.fd: int | None = None
        self._screen: ScreenShown | None = None
        self._due = b""

    def open(self) -> None:
        """Takes a description of our own, which alone is set to non-blocking; none where there is no terminal."""
        for standard in filter(os.isatty, (0, 1)):
            try:
                self.fd = os.open(os.ttyname(standard), os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError:
                self.fd = os.dup(standard)
            return

    @property
    def waiting(self) -> list[int]:
        """The terminal, for `select`, if something is to be written to it."""
        return [self.fd] if self._due and self.fd is not None else []

    def shown(self, screen: ScreenShown) -> None:
        """The monitor shows its screen."""
        self._screen = screen
        self._due = b""

    def left(self, rest: bytes) -> None:
        """The monitor has left its screen, but for these last bytes, which the terminal did not take."""
        self._screen = None
        self._due = rest

    def write(self) -> None:
        """As much of what is due as the terminal takes; nothing is due to one that has hung up."""
        for fd in self.waiting:
            try:
                self._due = self._due[os.write(fd, self._due) :]
            except BlockingIOError:
                pass
            except OSError:
                self._due = b""

    def restore(self) -> None:
        """Leaves the screen in the place of a monitor that is dead."""
        if self._screen is None or self.fd is None:
            return
        screen = self._screen
        with contextlib.suppress(OSError, termios.error):
            if screen.before and termios.tcgetattr(self.fd) == screen.during:  # other modes are the shell's
                termios.tcsetattr(self.fd, termios.TCSANOW, screen.before)
            start_output(self.fd)
        self.left(screen.leave)

    def finish(self) -> None:
        """Writes what is due. A halted terminal gets it from a process of its own, so that nobody waits for it."""
        self.write()
        if self.waiting and os.fork() == 0:
            while self.waiting:
                select.select([], self.waiting, [])
                self.write()
            os._exit(0)


def start_output(fd: int) -> None:
    """Undoes a Ctrl-S: the kernel starts output again only where a program, and not a person, has stopped it.

    To be called from the foreground only. Raises termios.error.
    """
    termios.tcflow(fd, termios.TCOOFF)
    termios.tcflow(fd, termios.TCOON)
