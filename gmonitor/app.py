"""The monitor's loop: one queue of events; apply them to the fleet, act, show."""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import gevent
from gevent.queue import Queue

from gmonitor.config import Config
from gmonitor.display import Display, choose
from gmonitor.embedded import Embedded, is_wanted, place
from gmonitor.ending import Ending
from gmonitor.events import (
    Ended,
    Event,
    Failed,
    Finished,
    GroupAsked,
    KillAsked,
    Noted,
    Pressed,
    Reported,
    Signalled,
    Tick,
)
from gmonitor.fleet import Fleet
from gmonitor.news import MARK, Grace
from gmonitor.supervisor import Supervisor
from gmonitor.tasklog import TaskLog
from gmonitor.terminal import say
from gmonitor.watchdog import Guard
from gtask import processes
from gtask.exceptions import UsageError

QUEUE = 1000  # events; a greenlet that has more waits, and so does the task whose pipe it reads
AGAIN = "ending the tasks …  [q] kill them at once"


class App:
    """One run of gmonitor."""

    def __init__(self, config: Config, guard: Guard, environ: Mapping[str, str]) -> None:
        self._config = config
        self._guard = guard
        self._fleet = Fleet()
        self._hub = gevent.get_hub()
        self._queue: Queue[tuple[float, Any]] = Queue(QUEUE)
        self._embedded: Embedded | None = None
        # PYTHONUNBUFFERED: Python programs that print reports without flushing are heard at once, unless the user has
        # set it otherwise.
        self._environ = {"PYTHONUNBUFFERED": "1", **environ, "GTASK_MONITORED": "1", MARK: guard.run}
        self._log = TaskLog(config.log, self._complain) if config.log else None
        self._supervisor = Supervisor(
            config.command,
            environ=self._environ,
            post=self._post,
            tell=guard.tell,
            log=self._log.write if self._log else None,
            grace=config.grace,
        )
        self._supervisor.spare.add(guard.pid)
        self._display: Display = choose(
            config.plain, self._fleet, guard.tell, lambda action: self._post(Pressed(action)), self._lost
        )
        self._ending = Ending(config.tasks, stays=self._display.is_screen)
        self._job_control: list[Any] = []  # handlers of Ctrl-Z and fg, while there is a screen

    def run(self) -> int:
        """Runs until the user ends it; gives the exit code. Raises GtaskError."""
        self._hub.handle_error = self._crashed  # so that no greenlet dies unseen
        processes.adopt_orphans()
        self._guard.tell(Grace(self._config.grace))
        self._catch(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        try:
            self._supervisor.make_room(self._config.tasks)
            if self._log:
                self._log.open()
            self._find_redis()
            self._display.open()
            if self._display.is_screen:
                self._catch(signal.SIGWINCH)
                self._job_control = self._catch(signal.SIGTSTP, signal.SIGCONT)
            gevent.spawn(self._start)
            gevent.spawn(self._ticks)
            while not self._ending.over:
                at, event = self._queue.get()
                try:
                    self._step(at, event)
                except OSError as error:  # What the system refuses concerns this one step, and the fleet goes on.
                    self._apply(Noted(f"the system refuses: {error}"), at)
        finally:
            self._display.close()
            if not self._ending.over:
                self._supervisor.hurry()
                self._supervisor.end()
            if self._embedded:
                self._embedded.stop()
            if self._log and (missing := self._log.close()):
                say(f"gmonitor: {missing} lines could not be written to {self._config.log}")
            # Nothing is left that impatience could end. The handlers are replaced and not cancelled first: for a moment
            # the default action would then hold, and a signal would end us with another code.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        if self._ending.left:  # They wait in the kernel, for instance for a disk that does not answer.
            say(f"gmonitor: SIGKILL has not ended pid {', '.join(map(str, self._ending.left))}")
        if self._ending.failure:
            raise self._ending.failure
        return self._ending.code

    def _step(self, at: float, event: Any) -> None:
        """Applies one event, and does what follows from it."""
        was_ending = self._ending.begun
        self._ending.apply(event, at)
        if self._ending.hurried:
            self._supervisor.hurry()
        if self._ending.begun and not was_ending:
            self._display.ending(AGAIN)
            gevent.spawn(self._end_tree)
        match event:
            case Pressed("kill"):
                self._kill(at)
            case Signalled(number):
                self._terminal(number)
            case Pressed() | Failed() | Finished():  # these concern the end alone
                pass
            case _:
                self._apply(event, at)

    def _apply(self, event: Event, at: float) -> None:
        """The fleet learns it, and what it makes of that is shown."""
        entries = self._fleet.apply(event, at, time.strftime("%H:%M:%S"))
        if entries or not isinstance(event, Tick):
            self._display.changed(entries)
        match event:
            case Tick():
                self._display.tick()
            case Reported():
                self._interrupt_groups(at)
            case Ended() if self._ending.all_ended and not self._ending.begun:
                self._apply(Noted("all tasks have ended"), at)

    def _kill(self, at: float) -> None:
        if self._ending.begun:
            return
        if not self._fleet.generators:
            self._apply(Noted("k: there is no generator at the moment"), at)
        for task in self._fleet.generators:
            try:
                self._supervisor.interrupt(task.pid)
            except PermissionError:
                name = f"{task.name} (pid {task.pid})"
                self._apply(Noted(f"k: {name} may not be signalled, it runs as another user; q closes its stdin"), at)
            else:
                self._apply(KillAsked(task.pid), at)

    def _interrupt_groups(self, at: float) -> None:
        """A wrapper such as `sh -c 'gtask; …'` keeps the signal for itself: then all in its group get it."""
        for task in self._fleet.generators:
            if task.ignored_interrupt and not self._ending.begun:
                self._supervisor.interrupt_group(task.pid)
                self._apply(GroupAsked(task.pid), at)

    def _end_tree(self) -> None:
        left: list[int] = []
        try:
            left = self._supervisor.end()
        finally:  # Whatever has happened, the loop must not wait for ever.
            self._post(Finished(tuple(left)))

    def _terminal(self, number: int) -> None:
        """The terminal has another size, is taken away (Ctrl-Z), or perhaps given back (fg)."""
        match number:
            case signal.SIGTSTP:
                self._display.suspend()
                # The default action stops this process here, and SIGCONT lets it go on here.
                for handler in self._job_control:
                    handler.cancel()
                os.kill(os.getpid(), signal.SIGTSTP)
                self._job_control = self._catch(signal.SIGTSTP, signal.SIGCONT)
                self._display.open()
            case signal.SIGCONT:
                self._display.open()
            case signal.SIGWINCH:
                self._display.redraw()

    def _start(self) -> None:
        try:
            self._supervisor.start(self._config.tasks)
        except OSError as error:
            started, wanted = len(self._supervisor.children), self._config.tasks
            what = f"task {started + 1} of {wanted}" if started else self._config.command[0]
            self._post(Failed(UsageError(f"cannot start {what}: {error.strerror}")))

    def _ticks(self) -> None:
        while True:
            self._post(Tick())
            gevent.sleep(1)

    def _find_redis(self) -> None:
        self._display.place = place(self._config.command, self._config.redis or self._environ.get("GTASK_REDIS"))
        if self._config.redis:
            self._environ["GTASK_REDIS"] = self._config.redis
        elif not self._environ.get("GTASK_REDIS") and is_wanted(self._config.command):
            server = Embedded(self._guard.run, self._guard.tell)
            server.start()
            self._embedded = server
            self._supervisor.spare.add(server.pid)
            self._environ["GTASK_REDIS"] = server.url
            self._post(Noted(f"embedded Valkey at {server.url}"))
            self._display.place = f"embedded Valkey {server.url}"
            gevent.spawn(self._watch_server, server)

    def _watch_server(self, server: Embedded) -> None:
        code = server.wait()
        if not self._ending.over:
            how = f"signal {-code}" if code < 0 else f"exit {code}"
            self._post(Noted(f"the embedded Valkey has ended: {how}"))

    def _catch(self, *numbers: int) -> list[Any]:
        return [
            gevent.signal_handler(number, self._post, Signalled(number))
            for number in numbers
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN  # nohup has ignored it
        ]

    def _post(self, event: Any) -> None:
        self._queue.put((time.monotonic(), event))

    def _complain(self, text: str) -> None:
        """An event from a native thread."""
        self._hub.loop.run_callback_threadsafe(gevent.spawn, self._post, Noted(text))

    def _lost(self, error: OSError) -> None:
        gevent.spawn(self._post, Failed(error))  # the loop itself may have met it, and must not wait for its own queue

    def _crashed(self, context: object, kind: type, error: BaseException, trace: object) -> None:
        """The event loop's report of a greenlet that died: of a bug, or because the system refused something."""
        if isinstance(error, OSError):
            gevent.spawn(self._post, Noted(f"the system refuses: {error}"))
        elif not isinstance(error, gevent.GreenletExit):
            gevent.spawn(self._post, Failed(error))
