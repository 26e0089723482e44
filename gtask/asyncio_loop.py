"""The asyncio loop in which users' coroutines run. While it waits, the greenlets of its thread run, and what it gives
to threads runs where gevent can serve it. bridge.py says why it has a thread and a hub of its own."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import Event
from gevent.monkey import get_original
from gevent.queue import SimpleQueue

from gtask.yielding import SLICE, let_others_run

THREADS = 32  # as many as asyncio itself has at most
READ = 1  # of libev


class _Selector(get_original("selectors", "DefaultSelector")):  # type: ignore[misc] # untyped
    """Epoll. While there is nothing to do, the greenlets of this thread run."""

    def __init__(self) -> None:
        super().__init__()
        self._found = Event()
        self._watcher = get_hub().loop.io(self.fileno(), READ)
        self._yield_at = 0.0
        self.left: float | None = None  # when this found something to do, which is not done; on the monotonic clock

    def select(self, timeout: float | None = None) -> Any:
        self.left = None
        try:
            return self._select(timeout)
        finally:
            self.left = monotonic()

    def _select(self, timeout: float | None) -> Any:
        if perf_counter() >= self._yield_at:
            let_others_run()
            self._yield_at = perf_counter() + SLICE
        found = super().select(0)
        if not found and (timeout is None or timeout > 0):
            self._watcher.start(self._found.set)
            try:
                self._found.wait(timeout)
            finally:
                self._watcher.stop()
                self._found.clear()
            self._yield_at = perf_counter() + SLICE
            found = super().select(0)
        return found


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, but for what waits and for what it gives to threads."""

    def __init__(self, gevents: Any) -> None:
        """`gevents`: the hub of the thread that has started this one."""
        self._looks = _Selector()
        super().__init__(self._looks)
        self._gevents = gevents
        self._threads = _Threads()

    @property
    def held(self) -> float:
        """For how many seconds one coroutine has not let the others run; 0 while there is nothing to do."""
        left = self._looks.left
        return 0.0 if left is None else monotonic() - left

    def run_in_executor(  # type: ignore[override] # asyncio's own binds the types of func and args
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """An executor of the user's works in gevent's own thread, where it can start processes."""
        future: asyncio.Future[Any] = self.create_future()
        if executor is None:
            self._threads.do(partial(self._do, future, partial(func, *args)))
        else:
            submitted = partial(self._do, future, lambda: executor.submit(func, *args).result())
            self._gevents.loop.run_callback_threadsafe(gevent.spawn, submitted)
        return future

    def _do(self, future: "asyncio.Future[Any]", work: Callable[[], Any]) -> None:
        try:
            tell = partial(future.set_result, work())
        except BaseException as error:
            tell = partial(future.set_exception, error)
        self.call_soon_threadsafe(lambda: future.done() or tell())


class _Threads:
    """What stands for asyncio's threads: greenlets, as all threads are in a patched process. Those of Python's own
    executor would be none else, but the exit would wait for them."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._count = 0
        self._idle = 0

    def do(self, job: Callable[[], None]) -> None:
        """Does it as soon as one is free."""
        if self._idle:
            self._idle -= 1
        elif self._count < THREADS:
            self._count += 1
            gevent.spawn(self._work)
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            self._idle += 1
