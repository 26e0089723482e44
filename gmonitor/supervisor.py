"""Starts the tasks, and ends the whole tree: they, their children, and whoever of those has run away."""

import os
import resource
import signal
import time
from collections.abc import Mapping, Sequence

import gevent
from gevent.event import Event as Flag

from gmonitor.child import Child, Log, Post
from gmonitor.events import Ended, Event
from gmonitor.news import TaskEnded, TaskStarted, Tell
from gtask import processes
from gtask.exceptions import UsageError

FILES_EACH = 3  # files that we have open for a task: its three pipes
FILES_OWN = 64  # files that everything else needs, also while a task is being started


class Supervisor:
    """All children. `spare`: processes below us that are no tasks and not started by tasks, so they are not ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        post: Post,
        tell: Tell,
        log: Log | None,
        grace: float,
    ) -> None:
        self.children: dict[int, Child] = {}
        self.spare: set[int] = set()
        self._command = command
        self._environ = environ
        self._post = post
        self._tell = tell
        self._log = log
        self._grace = grace
        self._hurry = Flag()
        self._ending = False
        self._interrupted: set[int] = set()
        self._files: tuple[int, int] | None = None  # soft and hard limit that the tasks get

    def make_room(self, count: int) -> None:
        """Raises our own limit of open files as far as this number of tasks needs; the tasks get the old one.

        Raises UsageError when that is not permitted.
        """
        soft, hard = self._files = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = count * FILES_EACH + FILES_OWN
        if resource.RLIM_INFINITY != hard < needed:
            permitted = f"{hard} are permitted (`ulimit -Hn`)"
            raise UsageError(f"{count} tasks need {needed} open files, and only {permitted}; start fewer tasks")
        if resource.RLIM_INFINITY != soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

    def start(self, count: int) -> None:
        """Starts the tasks one after the other. Raises OSError when one cannot be started."""
        while len(self.children) < count and not self._ending:
            child = Child(self._command, self._environ, self._passed, self._log, self._files)
            child.start()
            self.children[child.pid] = child
            self._tell(TaskStarted(child.pid, child.pipe))
            if self._ending:  # the end was asked for while it was being started
                self._ask(child)

    def interrupt(self, pid: int) -> None:
        """SIGINT to this one task, as the source's first program does it. Raises PermissionError."""
        self.children[pid].signal(signal.SIGINT)
        self._interrupted.add(pid)

    def interrupt_group(self, pid: int) -> None:
        """SIGINT to all processes of this task's group."""
        self.children[pid].signal_group(signal.SIGINT)

    def hurry(self) -> None:
        """No more grace."""
        self._hurry.set()

    def end(self) -> list[int]:
        """Ends everybody; gives the pids that not even SIGKILL has ended.

        The order: stdin closed and TERM, so that tasks finish what they have in hand; CONT, because a
        stopped process does neither; the grace; KILL to the groups; then those that left their group,
        who are ours because orphans of our children are given to us.
        """
        self._ending = True
        for child in self._alive():
            self._ask(child)
        self._wait(self._grace / 2)
        for child in self._alive():
            if child.pid in self._interrupted:
                child.signal_group(signal.SIGTERM)
        self._wait(self._grace / 2)
        for child in self._alive():
            child.signal_group(signal.SIGKILL)
        self._sweep(signal.SIGTERM, 0 if self._hurry.is_set() else processes.RUNAWAYS)
        left = self._sweep(signal.SIGKILL, processes.LAST)
        gevent.joinall([child.gone for child in self.children.values()], timeout=processes.LAST)
        return left

    def _alive(self) -> list[Child]:
        return [child for child in self.children.values() if child.alive]

    def _ask(self, child: Child) -> None:
        child.close_stdin()
        if child.pid not in self._interrupted:  # for a task a second signal means that it must end at once
            child.signal_group(signal.SIGTERM)
        child.signal_group(signal.SIGCONT)

    def _wait(self, seconds: float) -> None:
        """Until nobody works, the time is over, or somebody has lost patience."""
        deadline = time.monotonic() + seconds
        while (
            any(child.working for child in self.children.values())
            and time.monotonic() < deadline
            and not self._hurry.is_set()
        ):
            self._hurry.wait(min(0.05, seconds))

    def _sweep(self, number: int, seconds: float) -> list[int]:
        """Signals all descendants until none is left or the time is over: TERM once, KILL again and again."""
        told: set[int] = set()
        deadline = time.monotonic() + seconds
        while left := [pid for pid in processes.descendants(os.getpid()) if pid not in self.spare]:
            for pid in left:
                if pid not in told or number == signal.SIGKILL:
                    told.add(pid)
                    processes.signal_one(pid, number)
            if time.monotonic() >= deadline:
                break
            gevent.sleep(0.02)
        return left

    def _passed(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._tell(TaskEnded(event.pid))
        self._post(event)
