"""A small process between a task and a command that it runs: nothing of the command outlives the task.

The task has the other end of a socket. While the command runs, the guard reads there what to do: TERM asks the
command's group to end, and the end of file kills everything that the command has started. The kernel sends that end of
file too when the task is killed, so the guard needs nobody's help then. A signal at the parent's death
(PR_SET_PDEATHSIG) would reach only the command itself, and none of its children.

    python -I -S -c "…; main()" COMMAND…    with the socket as file 3

It says in lines what becomes of the command: `started PID`, or `failed ERRNO` and nothing more; at last `ended STATUS`,
which is the exit code, or the number of the signal that has ended it with a minus sign.
"""

import os
import select
import signal
import sys
import time

from gtask import processes

TASK = 3  # the file of our end of the socket
TERM = b"T"
AGAIN = 0.02  # seconds between two looks at what is left
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def main() -> None:
    """Runs the command of the arguments."""
    os.set_inheritable(TASK, False)
    os.closerange(TASK + 1, 1 << 16)  # what libraries of the task have left open
    Guard(sys.argv[1:]).run()


class Guard:
    """Starts one command, waits for its end, and leaves nothing of it behind."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._pid = 0
        self._status: int | None = None  # of the command; None: it runs
        self._asked = False  # to end it: then those are ended too that have left its group
        self._alone = False  # the task is dead, or does not want to wait any more
        self._woken, self._wake = os.pipe()  # by SIGCHLD

    def run(self) -> None:
        """From the start of the command to the end of all."""
        processes.rename("guard of a command")  # `pkill -9 -f gtask` must not reach it, nor one for the command
        processes.adopt_orphans()  # so what the command starts stays below us, whatever happens to the command
        processes.go_on_when_parent_dies()  # the end of file tells nothing to a process that somebody has stopped
        for number in IGNORED:  # gmonitor and others signal every process that they see; the task decides here
            signal.signal(number, signal.SIG_IGN)
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        if select.select([TASK], [], [], 0)[0]:  # the end has come before the command could begin
            return
        try:
            self._start()
        except OSError as error:
            self._tell(f"failed {error.errno}")
            return
        self._tell(f"started {self._pid}")
        while self._status is None and not self._alone:
            self._wait(None)
        # What the command leaves in its group may be about to end, as the other end of a pipe is.
        deadline = time.monotonic() + processes.RUNAWAYS
        while processes.group_lives(self._pid) and not self._alone and time.monotonic() < deadline:
            self._wait(AGAIN)
        deadline = time.monotonic() + processes.LAST
        while self._something_lives() and time.monotonic() < deadline:
            self._kill()
            self._wait(AGAIN)
        self._tell(f"ended {-signal.SIGKILL if self._status is None else self._status}")

    def _start(self) -> None:
        """Raises OSError."""
        self._pid = os.posix_spawnp(
            self._command[0], self._command, os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True, setsigmask=(), setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )  # fmt: skip

    def _wait(self, seconds: float | None) -> None:
        """Until a child has ended, the task says something, or the time is over."""
        watched = [self._woken] if self._alone else [self._woken, TASK]
        for fd in select.select(watched, [], [], seconds)[0]:
            if fd == self._woken:
                os.read(fd, 4096)
            else:
                self._obey(self._read())
        self._reap()

    def _reap(self) -> None:
        """Takes note of the children that have ended, among which are orphans of the command."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    self._status = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:  # none is left
            return

    def _obey(self, word: bytes) -> None:
        self._asked = True
        if word == TERM:
            processes.signal_group(self._pid, signal.SIGTERM, signal.SIGCONT)
        else:
            self._alone = True

    def _something_lives(self) -> bool:
        if self._status is None or processes.group_lives(self._pid):
            return True
        return self._asked and bool(processes.descendants(os.getpid()))

    def _kill(self) -> None:
        """One round. A process that is forked meanwhile is met in the next one."""
        processes.signal_group(self._pid, signal.SIGKILL)
        if self._asked:
            for pid in processes.descendants(os.getpid()):
                processes.signal_one(pid, signal.SIGKILL)

    def _read(self) -> bytes:
        try:
            return os.read(TASK, 1)
        except OSError:  # reset: the task is dead, and had not read everything
            return b""

    def _tell(self, line: str) -> None:
        try:
            os.write(TASK, line.encode() + b"\n")
        except OSError:  # the task is dead
            return
