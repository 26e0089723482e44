"""Two ways to show the fleet: a live screen, or one line for each event."""

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable

import gevent
from gevent.event import Event as Flag
from gevent.socket import wait_read

from gmonitor import keyboard
from gmonitor.fleet import Entry, Fleet
from gmonitor.news import Tell
from gmonitor.terminal import Screen, Writer
from gmonitor.view import render

STDIN, STDOUT = 0, 1
FRAME = 0.1  # seconds between two pictures
REDRAW_EVERY = 30  # seconds after which all is drawn again, since others (wall, a daemon) write on the terminal, too
TOTALS_EVERY = 10  # seconds
WAITING = 1000  # lines for a reader that does not read; then the oldest are left out
LAST_WRITE = 2.0  # seconds for the last lines

Lost = Callable[[OSError], None]


class Display:
    """What the app needs of either. What a display has no use for does nothing."""

    is_screen = False  # a person looks at it; it has a size, and the shell may take the terminal away
    place = ""  # where Redis is, if that is known

    def open(self) -> None:
        """Begins to show, or goes on after `suspend`."""

    def changed(self, entries: list[Entry]) -> None:
        """The fleet has changed; these log lines are new."""

    def tick(self) -> None:
        """A second is over."""

    def ending(self, keys: str) -> None:
        """The end has begun; from now on these are the keys."""

    def redraw(self) -> None:
        """What is on the terminal is unknown."""

    def suspend(self) -> None:
        """Gives the terminal back until `open`."""

    def close(self) -> None:
        """Shows what must still be shown, and leaves stdout as it was."""


class Live(Display):
    """The screen: whoever changes something sets a flag, one greenlet draws the newest state."""

    is_screen = True

    def __init__(self, screen: Screen, fleet: Fleet, act: Callable[[str], None], lost: Lost) -> None:
        self.keys = keyboard.HELP if screen.keys_fd is not None else "[Ctrl-C] end all and quit"
        self._screen = screen
        self._fleet = fleet
        self._act = act
        self._lost = lost
        self._dirty = Flag()
        self._reason = ""
        self._seconds = 0
        self._greenlets: list[gevent.Greenlet] = []

    def open(self) -> None:
        """Takes the terminal over if it is ours; draws and reads keys from now on."""
        self._stop()
        try:
            entered = self._screen.enter()
        except OSError as error:
            self._lost(error)
            return
        if entered:
            self._greenlets = [gevent.spawn(self._paint)]
            if self._screen.keys_fd is not None:
                self._greenlets.append(gevent.spawn(self._read_keys, self._screen.keys_fd))
            self._dirty.set()

    def changed(self, entries: list[Entry]) -> None:
        """A new picture is due."""
        self._dirty.set()

    def tick(self) -> None:
        """The rates have changed. Also the terminal may have been given to us, or taken away without a signal."""
        if self._screen.ours != self._screen.entered:
            self.suspend()
            self.open()
        self._seconds += 1
        if self._seconds % REDRAW_EVERY == 0:
            self._screen.forget()
        self._dirty.set()

    def ending(self, keys: str) -> None:
        """The help line tells what the keys do now."""
        self.keys = keys
        self._reason = self._fleet.first_reason  # tasks that end from now on were told to
        self._dirty.set()

    def redraw(self) -> None:
        """The terminal has another size, or shows we know not what."""
        self._screen.forget()
        self._dirty.set()

    def suspend(self) -> None:
        """Gives the terminal back, for as long as it is not ours."""
        self._stop()
        self._screen.leave()

    def close(self) -> None:
        """Gives the terminal back, and leaves on it what went with the screen: why a task has failed, and the sums."""
        self._stop()
        reason = f"gmonitor: {self._reason}\n" if self._reason else ""
        self._screen.leave(f"{reason}gmonitor: {len(self._fleet.tasks)} tasks, {self._fleet.totals}\n")

    def _stop(self) -> None:
        gevent.killall(self._greenlets)
        self._greenlets = []

    def _read_keys(self, fd: int) -> None:
        typed = keyboard.Keyboard()
        while True:
            wait_read(fd)
            if not self._screen.ours:  # Reading from the background would stop the whole process.
                gevent.sleep(FRAME)
                continue
            try:
                data = os.read(fd, 1024)
            except OSError:  # The terminal has hung up. SIGHUP tells that, too.
                return
            if not data:
                return
            for action in typed.feed(data, time.monotonic()):
                if action == "redraw":
                    self.redraw()
                else:
                    self._act(action)

    def _paint(self) -> None:
        try:
            while True:
                self._dirty.wait()
                self._dirty.clear()
                if self._screen.ours:
                    size = self._screen.size
                    self._screen.draw(render(self._fleet, *size, self.keys, self.place), size)
                gevent.sleep(FRAME)
        except OSError as error:
            self._lost(error)


class Plain(Display):
    """Lines: printed by one greenlet, so that a slow reader holds up nobody."""

    def __init__(self, writer: Writer, fleet: Fleet, lost: Lost) -> None:
        self._writer = writer
        self._fleet = fleet
        self._lost = lost
        self._waiting: deque[str] = deque(maxlen=WAITING)
        self._lines_wait = Flag()
        self._all_written = Flag()
        self._all_written.set()
        self._seconds = 0
        self._cannot_write = False
        self._greenlets: list[gevent.Greenlet] = []

    def open(self) -> None:
        """Begins to print."""
        self._writer.open()
        gone = BrokenPipeError(errno.EPIPE, "the reader is gone")
        self._greenlets = [
            gevent.spawn(self._print),
            gevent.spawn(self._writer.watch, lambda: self._lost(gone)),
        ]

    def changed(self, entries: list[Entry]) -> None:
        """Prints the new log lines."""
        for entry in entries:
            self._say(f"{entry.stamp} {entry.text}")

    def tick(self) -> None:
        """Prints the totals, now and then."""
        self._seconds += 1
        if self._seconds % TOTALS_EVERY == 0:
            self._totals()

    def close(self) -> None:
        """The totals at the end, if the reader takes them in time."""
        if not self._greenlets:
            return
        self._totals()
        self._all_written.wait(LAST_WRITE)

    def _totals(self) -> None:
        self._say(f"{time.strftime('%H:%M:%S')} totals: {self._fleet.totals}")

    def _say(self, line: str) -> None:
        if self._cannot_write:
            return
        self._all_written.clear()
        self._waiting.append(line)
        self._lines_wait.set()

    def _print(self) -> None:
        try:
            while True:
                self._lines_wait.wait()
                lines = list(self._waiting)
                self._waiting.clear()
                self._lines_wait.clear()
                self._writer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
                if not self._waiting:
                    self._all_written.set()
        except OSError as error:
            self._cannot_write = True
            self._all_written.set()
            self._lost(error)


def choose(plain: bool, fleet: Fleet, tell: Tell, act: Callable[[str], None], lost: Lost) -> Display:
    """The screen where stdout is a terminal that can show one, and lines are not asked for."""
    writer = Writer(STDOUT)
    if plain or not os.isatty(STDOUT) or os.environ.get("TERM", "dumb") == "dumb":
        return Plain(writer, fleet, lost)
    keys_fd = STDIN if os.isatty(STDIN) else None
    return Live(Screen(writer, keys_fd, sys.stdout.encoding, tell), fleet, act, lost)
