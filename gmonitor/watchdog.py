"""A small process that outlives a SIGKILL of the monitor: it restores the terminal and ends what is left.

It is forked before anything is monkey-patched, so neither this module nor those that it uses import anything of gevent.
It is told over a pipe what there is to do (news.py). When the pipe ends without a `Goodbye`, the monitor is dead. The
guard then takes its time like the monitor itself: the tasks end by themselves, because their stdin is at its end, and
are killed only after the grace. Then comes what they have left behind, and the server last.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from gmonitor.news import (
    MARK,
    Goodbye,
    Grace,
    Message,
    ScreenLeft,
    ScreenShown,
    ServerStarted,
    TaskEnded,
    TaskStarted,
    decode,
    encode,
)
from gmonitor.restorer import Restorer
from gtask import processes


class Guard:
    """The monitor's end of the pipe."""

    def __init__(self, pid: int, fd: int, run: str) -> None:
        self.pid = pid
        self.run = run
        self._fd = fd

    @classmethod
    def fork(cls) -> "Guard":
        """Starts the guard; to be called first thing, by a process with one thread and no event loop."""
        run = f"{os.getpid()}-{os.urandom(8).hex()}"
        read, write = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            os.close(read)
            return cls(pid, write, run)
        try:
            _serve(read, run)
        finally:
            os._exit(0)

    def tell(self, message: Message) -> None:
        """Tells the guard what it must know should the monitor die now."""
        with contextlib.suppress(OSError):  # without its guard the monitor still works
            os.write(self._fd, encode(message))

    def dismiss(self) -> None:
        """All is done: the guard ends, and is gone when this returns."""
        self.tell(Goodbye())
        os.close(self._fd)
        processes.signal_one(self.pid, signal.SIGCONT)  # somebody may have stopped it
        with contextlib.suppress(ChildProcessError):  # the event loop has reaped it
            os.waitpid(self.pid, 0)


def _serve(fd: int, run: str) -> None:
    terminal = Restorer()
    terminal.open()
    _detach({fd, terminal.fd})
    tasks: dict[int, int] = {}  # pid -> the inode of the pipe through which it reports
    server: ServerStarted | None = None
    grace = 0.0
    for message in _messages(fd, terminal):
        match message:
            case TaskStarted(pid, pipe):
                tasks[pid] = pipe
            case TaskEnded(pid):
                tasks.pop(pid, None)
            case ServerStarted():
                server = message
            case Grace(seconds):
                grace = seconds
            case ScreenShown():
                terminal.shown(message)
            case ScreenLeft(rest):
                terminal.left(rest)
            case Goodbye():
                terminal.finish()
                return
    terminal.restore()
    terminal.finish()
    _end(tasks, run, grace, server.pid if server else 0)
    if server:
        with contextlib.suppress(OSError):
            os.killpg(server.pid, signal.SIGKILL)  # Its data were to be thrown away anyway.
        shutil.rmtree(server.folder, ignore_errors=True)


def _detach(needed: set[int | None]) -> None:
    """Leaves all that the monitor has: what ends the monitor must not end the guard, and what the monitor has open must
    not stay open in the guard."""
    os.setsid()  # Neither keys, nor the shell's job control, nor a kill of the monitor's group may reach the guard,
    processes.rename("guard of a fleet")  # nor may `pkill -f gmonitor`.
    processes.go_on_when_parent_dies()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # A reader of the monitor's output must not wait for the guard to end.
        os.dup2(null, standard)
    for fd in set(range(3, 1024)) - needed:
        with contextlib.suppress(OSError):  # it is not open
            os.close(fd)


def _messages(fd: int, terminal: Restorer) -> Iterator[Message]:
    """What the monitor says until it is gone; meanwhile the terminal gets what is due to it."""
    rest = b""
    while True:
        readable, _, _ = select.select([fd], terminal.waiting, [])
        terminal.write()
        if readable:
            said = os.read(fd, 65536)
            if not said:
                return
            *lines, rest = (rest + said).split(b"\n")
            yield from map(decode, lines)


def _end(tasks: dict[int, int], run: str, grace: float, server: int) -> None:
    for pid in tasks:
        processes.signal_group(pid, signal.SIGCONT)  # A stopped task sees neither the end of its stdin nor a signal.
    pipes = {f"pipe:[{inode}]" for inode in tasks.values()}
    deadline = time.monotonic() + grace
    while any(pid in tasks or pipes & _files(pid) for pid in _left(tasks, run, server)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    else:  # All tasks have ended in time. What is left now was started by a handler.
        for pid in _left(tasks, run, server):
            processes.signal_one(pid, signal.SIGTERM)
        deadline = time.monotonic() + processes.RUNAWAYS
        while _left(tasks, run, server) and time.monotonic() < deadline:
            time.sleep(0.05)
    deadline = time.monotonic() + processes.LAST
    while (left := _left(tasks, run, server)) and time.monotonic() < deadline:
        for pid in left:
            processes.signal_one(pid, signal.SIGKILL)
        time.sleep(0.01)


def _left(tasks: Collection[int], run: str, server: int) -> list[int]:
    """Who of this run still lives: members of the tasks' groups, and whoever bears the run's mark."""
    if not processes.proc_is_ours():
        return [pid for pid in tasks if _exists(pid)]
    mark = f"{MARK}={run}".encode()
    return [
        pid
        for pid, (state, _parent, group) in processes.table().items()
        if state != "Z" and pid != server and (group in tasks or mark in _environment(pid))
    ]


def _files(pid: int) -> set[str]:
    """What it has open. A task holds the pipe of its reports, also one whose shell has died; its children do not."""
    found = set()
    with contextlib.suppress(OSError):  # it is gone, or another user's
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry.path))
    return found


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return b""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
