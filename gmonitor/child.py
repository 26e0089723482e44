"""One child process: its pipes are read by greenlets, what they read becomes events."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

import gevent
from gevent.os import nb_read
from gevent.subprocess import PIPE, Popen

from gmonitor.events import Ended, Event, Reported, Said, Started
from gmonitor.lines import OUTPUTS, condense
from gtask import processes
from gtask.lines import Lines

CHUNK = 65536  # a pipe's usual size
FLOOD = 16384  # A task that has so many bytes ready at once floods us. It gets only this share of our time, so that the
SHARE = 0.1  # other tasks, the screen and the keys stay alive.
UNFINISHED = 1.0  # seconds after which a line is shown though it has not ended
READ_ON = 1.0  # how long the pipes of a dead process are read, when its own children hold them open

Post = Callable[[Event], None]
Log = Callable[[bytes], None]
Digest = Callable[[list[bytes], bytes], Event]


class Child:
    """A process in a session and group of its own, with these soft and hard limits of open files."""

    pid: int
    pipe: int  # the inode of the pipe through which it reports

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        post: Post,
        log: Log | None = None,
        files: tuple[int, int] | None = None,
    ) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._post = post
        self._log = log
        self._files = files
        self._asked = False  # whether it was told that its monitor is going

    def start(self) -> None:
        """Starts it, and reads what it says from now on. Raises OSError when it cannot be started."""
        self._process = Popen(
            self._command,
            bufsize=0,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environ,
            start_new_session=True,
            preexec_fn=processes.dies_with_parent(os.getpid(), files=self._files),
        )
        self.pid = self._process.pid
        self.pipe = os.fstat(self._process.stdout.fileno()).st_ino
        self._post(Started(self.pid))
        reports, output = Lines(), Lines(CHUNK)
        self._reports = gevent.spawn(self._read, self._process.stdout, reports, self._reported)
        self._output = gevent.spawn(self._read, self._process.stderr, output, self._said)
        self._unfinished = gevent.spawn(self._show_unfinished, ((reports, self._reported), (output, self._said)))
        self.gone = gevent.spawn(self._wait)

    @property
    def alive(self) -> bool:
        """Whether it has not been reaped; only then is its pid still its own."""
        return self._process.returncode is None

    @property
    def working(self) -> bool:
        """Whether it runs, or whoever reports in its place: a task goes on when the shell that started it has died.
        What a handler started is no such one, since gtask keeps its reports to itself."""
        return self.alive or not self._reports.ready()

    def signal(self, number: int) -> None:
        """A signal to this process alone. Raises PermissionError when it has become another user's."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def signal_group(self, *numbers: int) -> None:
        """Signals to it and to those it started, as long as they stay in its group."""
        if self.alive:
            processes.signal_group(self.pid, *numbers)

    def close_stdin(self) -> None:
        """Tells it that its monitor is going; from now on it is heard until nobody holds its stdout any more."""
        self._asked = True
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _wait(self) -> None:
        code = self._process.wait()
        gevent.joinall([self._reports, self._output], timeout=READ_ON)
        if self._asked:
            self._reports.join()
        gevent.killall([self._reports, self._output, self._unfinished])
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        self._post(Ended(self.pid, code))

    def _show_unfinished(self, streams: Sequence[tuple[Lines, Digest]]) -> None:
        """Shows lines that have not ended for a second: questions, bars of progress."""
        while True:
            gevent.sleep(UNFINISHED)
            for lines, digest in streams:
                if line := lines.unfinished():
                    self._post(digest([], line))

    def _read(self, pipe: BinaryIO, lines: Lines, digest: Digest) -> None:
        fd = pipe.fileno()
        try:
            while data := nb_read(fd, CHUNK):
                begun = time.perf_counter()
                whole = lines.feed(data)
                event = digest(whole, b"") if whole else None
                spent = time.perf_counter() - begun
                if event:
                    self._post(event)
                if len(data) >= FLOOD:
                    gevent.sleep(spent * (1 / SHARE - 1))
        finally:  # It is killed when the task is dead, and a child of the task keeps the pipe open.
            if rest := lines.close():
                self._post(digest(rest, b""))

    def _reported(self, lines: list[bytes], unfinished: bytes) -> Event:
        return Reported(self.pid, tuple(condense(lines)), _text(unfinished))

    def _said(self, lines: list[bytes], unfinished: bytes) -> Event:
        if self._log and lines:
            self._log(b"".join(b"%d %s\n" % (self.pid, line) for line in lines))
        last = tuple(map(_text, lines[-OUTPUTS:]))
        return Said(self.pid, last, len(lines) - len(last), _text(unfinished))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
