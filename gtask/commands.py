"""Runs commands, as entries of a schedule name them: each in a session of its own, behind a guard (guard.py).

A command is handled when its exit code is 0. What it writes goes to our stderr, line by line.
"""

import os
import select
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.monkey import get_original
from gevent.os import make_nonblocking, nb_read

from gtask import guard, log, processes
from gtask.exceptions import CommandFailed
from gtask.lines import Lines
from gtask.text import printable
from gtask.yielding import let_others_run

TERMINATES = 5.0  # seconds from TERM to KILL for a command that has run too long
LAST_PART = 0.1  # of a task's grace: the time between TERM and KILL at its end
LAST_SECOND = 1.0  # seconds that a native thread waits for the end of what it has killed
READ_ON = 1.0  # seconds for reading what a command has written, while a daemon of its making still could write
CHUNK = 65536  # bytes: a pipe's usual size
LONGEST = 16384  # bytes of one line
TOGETHER = select.PIPE_BUF  # bytes: so many reach a pipe in one piece, even if other processes write to it too
PATIENCE = 1.0  # seconds that a command's output waits for whoever reads our stderr, before lines are dropped
TAIL_LINES, TAIL = 20, 2000  # lines, and characters, of a failed command's stderr that its record keeps

# What a guard runs. With -I and -S it starts in a third of the time, but it does not know where gtask is.
_BEGIN = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); from gtask.guard import main; main()"


class Commands:
    """All commands that a task runs."""

    def __init__(self) -> None:
        self._running: set[Command] = set()
        self._none_runs = Event()
        self._output = Output()
        # A forked child is not to hold the other end of a guard's socket, for the guard waits until nobody does.
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def run(self, words: Sequence[str], *, name: str, message: str, tick: str, timeout: float | None = None) -> None:
        """Runs one to its end, and raises CommandFailed unless its exit code is 0.

        `name`: of the entry, which stands before each line of the output. `message` is what it handles, and `tick` the
        time that is meant. `timeout` in seconds; None: it may run for ever.
        Whatever is raised here meanwhile ends it, too. When its task's end has cut it off (`end`), this never returns:
        the command has not failed, and its message is not finished.
        """
        command = Command(name, words, _environment(name, message, tick), self._output)
        self._running.add(command)
        self._none_runs.clear()
        try:
            failure = command.run(timeout)
        finally:
            self._running.discard(command)
            if not self._running:
                self._none_runs.set()
        if failure and command.cut_off:
            Event().wait()
        if failure:
            raise CommandFailed(failure)

    def end(self, deadline: float) -> None:
        """Lets them run on for most of the time until the `deadline` on the monotonic clock. Then they get TERM, and
        KILL at the deadline. When this returns, none is left."""
        last_part = LAST_PART * max(0.0, deadline - monotonic())
        self._wait_until(deadline - last_part)
        for command in list(self._running):
            command.cut()
        self._wait_until(deadline)
        for command in list(self._running):
            command.kill()
        self._wait_until(monotonic() + processes.LAST)

    def kill(self) -> None:
        """KILL to all at once, from any thread: `end` cannot go on while something holds the event loop. When this
        returns, none is left, or a second is over."""
        deadline = monotonic() + LAST_SECOND
        for ours in [command.kill_from_outside() for command in list(self._running)]:
            if ours is not None:
                with ours:
                    poll = get_original("select", "poll")()
                    poll.register(ours, 0)  # its end is told without being asked for: both directions are shut down
                    poll.poll(1000 * max(0.0, deadline - monotonic()))

    def _wait_until(self, time: float) -> None:
        if self._running:
            self._none_runs.wait(max(0.0, time - monotonic()))

    def _leave_to_parent(self) -> None:
        for command in self._running:
            command.leave_to_parent()


class Command:
    """One run of a command."""

    def __init__(self, name: str, words: Sequence[str], environ: Mapping[str, str], output: "Output") -> None:
        self.cut_off = False  # its task has ended it
        self._name = name
        self._words = words
        self._environ = environ
        self._output = output
        self._socket: Any = None  # the guard has the other end
        self._guard = 0  # its pid
        self._guard_gone = False
        self._heard = b""  # what the guard has said
        self._errors: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._readers: list[gevent.Greenlet] = []

    def run(self, timeout: float | None) -> str:
        """Returns why it has failed, and "" when it has not."""
        try:
            self._start()
        except (OSError, ValueError) as error:  # ValueError: a word with a null byte
            self._close()
            return f"cannot start its guard: {error}"
        over = True
        try:
            over = not self._wait(timeout)
        finally:
            self._end(TERMINATES if over else 0.0)
        failure = f"it ran for longer than {timeout:g} s" if over else self._failure()
        return f"{failure}{self._tail()}" if failure else ""

    def cut(self) -> None:
        """Its task ends: TERM to its group."""
        self.cut_off = True
        self._terminate()

    def kill(self) -> None:
        """KILL to all that it has started. The guard does it, and says when it is done."""
        if self._socket is not None:
            with suppress(OSError):  # the guard is gone
                self._socket.shutdown(socket.SHUT_WR)
        self._signal_guard(signal.SIGCONT)  # somebody may have stopped it

    def kill_from_outside(self) -> Any:
        """The same for any thread, at the end of the task. Returns our end of the guard's socket, which is shut down
        when the guard has done it; None where there is none to wait for."""
        self.cut_off = True
        ours = self._socket
        if ours is None:
            return None
        try:
            # gevent's own socket is for greenlets alone, and they may close it at any moment.
            copy = get_original("socket", "socket")(fileno=os.dup(ours.fileno()))
        except OSError:  # it is closed
            return None
        if ours.fileno() < 0:  # it may have been closed just before it was copied, and its number was another file's
            copy.close()
            return None
        with suppress(OSError):  # the guard is gone
            copy.shutdown(socket.SHUT_WR)
        self._signal_guard(signal.SIGCONT)
        return copy

    def leave_to_parent(self) -> None:
        """Gives up our end of the socket in a forked child. What takes its number keeps it from being another file's,
        which the copy of the socket would close."""
        if self._socket is not None:
            os.dup2(os.open(os.devnull, os.O_RDWR), self._socket.fileno(), inheritable=False)

    def _start(self) -> None:
        """Raises OSError or ValueError."""
        with ExitStack() as theirs:
            self._socket, other = socket.socketpair()
            theirs.callback(other.close)
            if self.cut_off:  # before there was a socket to be shut down
                self.kill()
            os.set_blocking(other.fileno(), True)
            outputs = []
            for keep in (None, self._errors):
                ours, output = os.pipe()
                theirs.callback(os.close, output)
                outputs.append(output)
                self._readers.append(gevent.spawn(self._output.read, self._name, ours, keep))
            # Not a fork: copying a large process takes long, and this one has threads and an event loop.
            self._guard = os.posix_spawn(
                sys.executable, [sys.executable, "-I", "-S", "-c", _BEGIN, *self._words], self._environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *((os.POSIX_SPAWN_DUP2, output, number) for number, output in enumerate(outputs, 1)),
                    (os.POSIX_SPAWN_DUP2, other.fileno(), guard.TASK),
                ],
                setsid=True, setsigmask=(),
            )  # fmt: skip

    def _wait(self, seconds: float | None) -> bool:
        """Until the guard has gone, and with it the command. False: the time is over before."""
        with gevent.Timeout(seconds, False):
            with suppress(ConnectionResetError):  # it has gone without reading our last word
                while data := self._socket.recv(CHUNK):
                    self._heard += data
            self._guard_gone = True
            return True
        return False

    def _end(self, grace: float) -> None:
        """Ends what still runs: TERM, and KILL when the `grace` (seconds) is over."""
        try:
            if grace:
                self._terminate()
                self._wait(grace)
        finally:
            self.kill()
            try:
                self._wait(processes.LAST)
            finally:
                self._close()

    def _terminate(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(guard.TERM)
        self._signal_guard(signal.SIGCONT)

    def _signal_guard(self, number: int) -> None:
        if self._guard and not self._guard_gone:  # its pid may be another process's as soon as it has gone
            processes.signal_one(self._guard, number)

    def _close(self) -> None:
        if self._guard:
            self._reap()
        gevent.joinall(self._readers, timeout=READ_ON)
        gevent.killall(self._readers)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reap(self) -> None:
        """Takes note of the guard's end, and first does what the guard has left undone."""
        if not self._guard_gone:  # it could not do anything, not even after it was woken
            for pid in processes.descendants(self._guard):
                processes.signal_one(pid, signal.SIGKILL)
        said = self._said
        if "started" in said and "ended" not in said:  # so it is, too, when somebody has killed the guard
            processes.signal_group(said["started"], signal.SIGKILL)
        self._signal_guard(signal.SIGKILL)
        # The event loop may have reaped it, for users' code had it watch children.
        with suppress(ChildProcessError), gevent.Timeout(processes.LAST, False):
            while os.waitpid(self._guard, os.WNOHANG) == (0, 0):
                gevent.sleep(0.001)

    @property
    def _said(self) -> dict[str, int]:
        """The guard's words, and the number that came with each."""
        pairs = map(bytes.split, self._heard.splitlines())
        return {word.decode(): int(number) for word, number in pairs}

    def _failure(self) -> str:
        """Why it has failed, in a few words; "" when it has not."""
        said = self._said
        if "failed" in said:
            return f"cannot start {self._words[0]}: {os.strerror(said['failed'])}"
        status = said.get("ended")
        if status is None:
            return "its guard was killed" if said else "its guard did not start"
        if status < 0:
            return f"ended by signal {-status} ({signal.Signals(-status).name})"
        return f"exit code {status}" if status else ""

    def _tail(self) -> str:
        """The last line that came on stderr, and then all lines of its tail, where there are more."""
        lines = [text for line in self._errors if (text := printable(line.decode("utf-8", "replace")).rstrip())]
        if not lines:
            return ""
        return f": {lines[-1][-TAIL:]}" + ("\n" + "\n".join(lines)[-TAIL:] if len(lines) > 1 else "")


class Output:
    """What commands write, on its way to our stderr. It is written as log lines are, by a native thread (log.py)."""

    def __init__(self) -> None:
        self._unread = False  # nobody has read our stderr for so long that commands wait for nobody any more

    def read(self, name: str, fd: int, keep: deque[bytes] | None) -> None:
        """Passes on what comes from this pipe, each line behind the name, until its end; and closes it. `keep`: gets
        the lines."""
        lines = Lines(LONGEST)
        with ExitStack() as at_end:  # which does not come by itself when a daemon of the command keeps the pipe open
            at_end.callback(os.close, fd)
            at_end.callback(lambda: self._pass_on(name, lines.close(), keep))
            make_nonblocking(fd)
            while data := nb_read(fd, CHUNK):
                self._pass_on(name, lines.feed(data), keep)
                let_others_run()

    def _pass_on(self, name: str, lines: list[bytes], keep: deque[bytes] | None) -> None:
        if keep is not None:
            keep.extend(lines)
        for count, piece in _pieces(name.encode(), lines):
            self._wait_for_room()
            log.pass_on(piece, count)

    def _wait_for_room(self) -> None:
        """While lines are read more slowly than they come, commands wait, as they would at a pipe of their own. If
        nobody reads at all, their lines are dropped instead."""
        deadline = monotonic() + PATIENCE
        while log.is_crowded() and not self._unread:
            gevent.sleep(0.01)
            self._unread = monotonic() >= deadline
        self._unread = self._unread and log.is_crowded()


def _environment(name: str, message: str, tick: str) -> dict[str, str]:
    """Ours, with what the command has to know. The monitor is the task's: a gtask that the command runs has none."""
    inherited = {variable: value for variable, value in os.environ.items() if variable != "GTASK_MONITORED"}
    ours = {"GTASK_NAME": name, "GTASK_MESSAGE": message, "GTASK_TICK": tick}
    # Programs in Python keep what they print to a pipe until they end. Those that are killed would never say it.
    return {"PYTHONUNBUFFERED": "1", **inherited, **ours}


def _pieces(name: bytes, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines behind the name, as many together as reach a pipe in one piece, and their number."""
    count, piece = 0, b""
    for line in lines:
        whole = b"%b: %b\n" % (name, line)
        if piece and len(piece) + len(whole) > TOGETHER:
            yield count, piece
            count, piece = 0, b""
        count, piece = count + 1, piece + whole
    if piece:
        yield count, piece
