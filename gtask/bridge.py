"""Where greenlets wait for coroutines: users' async functions become plain ones here, and nowhere else.

One asyncio loop serves them all, in a native thread that is started when the first async function is called. A
coroutine that computes or blocks holds up the others, but neither the heartbeat nor the flag.

The standard library is patched in that thread, too, so it has a hub of its own, which turns whenever the loop waits. A
lock of gevent's may belong to the hub of another thread than the one that waits for it. If that hub did not turn,
whoever waits would wait for ever, and each log line takes such a lock.
"""

import asyncio
import atexit
import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from contextvars import copy_context
from functools import cache, partial
from types import FrameType
from typing import Any

import gevent.os
import gevent.subprocess
from gevent import get_hub, getcurrent
from gevent.event import Event
from gevent.monkey import get_original

from gtask.aio import Drawing
from gtask.asyncio_loop import Loop
from gtask.places import frames_of, in_brackets, place_in, place_of
from gtask.standstill import within
from gtask.text import one_line

log = logging.getLogger(__name__)

TOLD_AFTER = 2.0  # seconds until the log says who holds the loop
LAST_CALL = 1.0  # seconds in which coroutines that were not finished can close what they have open

_start_thread = get_original("_thread", "start_new_thread")
_allocate_lock = get_original("_thread", "allocate_lock")
_get_ident = get_original("_thread", "get_ident")


def plain(function: Callable[[str], Coroutine[Any, Any, object]]) -> Callable[[str], object]:
    """A coroutine function as a function that returns when the coroutine has ended, with its result or its error."""
    return lambda message: _Call(partial(function, message)).result()


def plain_generator(function: Callable[[str], AsyncGenerator[Any, None]]) -> Callable[[str], Iterator[Any]]:
    """An async generator function as a generator function, for `handle`: what it yields is used when it has ended."""

    def generator(message: str) -> Generator[Any, None, None]:
        items = Stream(function, message)
        items.ahead = True
        yield from items

    return generator


class _Work:
    """What runs in the loop while a greenlet waits for it, in a copy of the greenlet's context.

    An error that is thrown into the greenlet meanwhile, because its time is over, cancels the asyncio task. Then it is
    raised as if it had been thrown into the user's code, with the place where that has waited.
    """

    def __init__(self) -> None:
        self._bridge = _bridge()
        self._context = copy_context()
        self._answered = Event()
        self._task: asyncio.Task[None] | None = None
        self._thrown: BaseException | None = None

    def _begin(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._bridge.to_loop.call(partial(self._start, main))

    def _start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = self._bridge.loop.create_task(main(), context=self._context)

    def _wake(self) -> None:
        """The answer is there. Not at the end of the process, where it is only our own cancellation."""
        if not self._bridge.over:
            self._bridge.to_hub.call(self._answered.set)

    def _wait(self) -> None:
        """Until there is an answer. A coroutine that goes on after it was cancelled is waited for: it is still at its
        message."""
        __elsewhere__ = self._frames  # noqa: F841 - places.py looks for it
        while True:
            try:
                self._answered.wait()
                self._answered.clear()
                return
            except BaseException as error:
                self._thrown = error
                self._bridge.to_loop.call(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:  # one that is cancelled before its first step never answers, and this comes after it
            self._bridge.loop.call_soon(self._task.cancel)

    def _frames(self) -> Iterator[FrameType]:
        return frames_of(self._task.get_coro()) if self._task is not None else iter(())

    def _raise(self, error: BaseException) -> None:
        if self._thrown is not None and isinstance(error, asyncio.CancelledError):
            error = self._thrown.with_traceback(error.__traceback__)
        raise error


class _Call(_Work):
    """One call of a coroutine function."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        super().__init__()
        self._call = call
        self._result: object = None
        self._error: BaseException | None = None

    def result(self) -> object:
        """Waits for it. Raises what it raises."""
        self._begin(self._run)
        self._wait()
        error, self._error = self._error, None  # otherwise they would hold one another, until they are searched for
        if error is not None:
            self._raise(error)
        return self._result

    async def _run(self) -> None:
        try:
            self._result = await self._call()
        except BaseException as error:  # SystemExit, too, which would end the loop
            self._error = error
        self._wake()


class Stream(_Work):
    """What an async generator yields, as a plain iterator."""

    def __init__(self, function: Callable[[Any], AsyncGenerator[Any, None]], argument: Any) -> None:
        """Nothing of it runs before the first item is asked for."""
        super().__init__()
        self._drawing = Drawing(function, argument, self._answer)
        self._items: deque[Any] = deque()
        self._end: BaseException | None = None
        self._begun = False

    @property
    def ahead(self) -> bool:
        """Whether items may be drawn before those so far are used, while each is quick."""
        return self._drawing.ahead

    @ahead.setter
    def ahead(self, ahead: bool) -> None:
        self._drawing.ahead = ahead

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        while not self._items:
            if self._end is not None:
                end, self._end = self._end, StopIteration()
                self._raise(end)
            self._ask(more=True)
        return self._items.popleft()

    def close(self) -> None:
        """Closes the generator, which may wait. Raises what it raises then."""
        self._items.clear()
        ours = self._thrown is not None  # it came with an answer, so the generator may meet its own cancellation here
        if self._begun and self._end is None:
            self._ask(more=False)
        end, self._end, self._begun = self._end, StopIteration(), True
        if end is not None and not isinstance(end, (StopIteration, asyncio.CancelledError) if ours else StopIteration):
            self._raise(end)

    @property
    def ag_frame(self) -> FrameType | None:
        """Where the generator stands, as in Python's own (for places.py)."""
        return getattr(self._drawing.items, "ag_frame", None)

    def _ask(self, *, more: bool) -> None:
        if self._begun:
            self._bridge.to_loop.call(partial(self._drawing.ask, more))
        else:
            self._begun = True
            self._begin(self._drawing.run)
        self._wait()

    def _answer(self, items: Sequence[Any], end: BaseException | None) -> None:
        self._items.extend(items)
        self._end = end
        self._wake()


class _Passage:
    """Carries calls into another thread. Those that come at about the same time wake it once, not each for itself."""

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        """`wake` has a function called in that thread."""
        self._wake = wake
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def call(self, function: Callable[[], object]) -> None:
        self._calls.append(function)
        if not self._woken:
            self._woken = True
            self._wake(self._run)

    def _run(self) -> None:
        self._woken = False  # first: a call that comes from here on wakes again, and is never left behind
        while self._calls:
            self._calls.popleft()()


class _Bridge:
    """The loop, its thread, and the ways to and fro."""

    loop: "Loop"
    to_loop: _Passage

    def __init__(self) -> None:
        self.over = False  # the process is ending
        self._gevents = get_hub()
        self.to_hub = _Passage(self._gevents.loop.run_callback_threadsafe)
        self._begun = _closed_lock()
        self._closed = _closed_lock()
        self._looping: Any = None  # the greenlet in which the loop runs
        self._ident = 0

    def start(self) -> None:
        """Starts the thread. What it has begun is closed before the exit functions that were registered earlier run,
        because those may send what coroutines leave behind."""
        _start_thread(self._run, ())
        self._begun.acquire()  # without letting other greenlets run: they would start another one
        atexit.register(self._end)
        for module in (gevent.os, gevent.subprocess):
            module.fork_and_watch = _in_gevents_thread(module.fork_and_watch)
        gevent.spawn(self._watch)

    def _watch(self) -> None:
        """Says who holds up the coroutines. What is told is told again when it has doubled."""
        tell_at = TOLD_AFTER
        while True:
            gevent.sleep(TOLD_AFTER / 2)
            held = self.loop.held
            if held < TOLD_AFTER:
                tell_at = TOLD_AFTER
            elif held >= tell_at:
                tell_at = 2 * held
                # Either the loop's greenlet runs, or it waits in something patched.
                frame = self._looping.gr_frame or sys._current_frames().get(self._ident)
                place = "" if frame is None else place_in(frame)
                log.warning("no other coroutine has run here for %.1f s: %s", held, place or "an unknown place")

    def _run(self) -> None:
        self._looping, self._ident = getcurrent(), _get_ident()
        self.loop = Loop(self._gevents)
        self.to_loop = _Passage(self.loop.call_soon_threadsafe)
        asyncio.set_event_loop(self.loop)
        self._begun.release()
        while not self.over:
            try:
                self.loop.run_forever()
            except BaseException as error:
                place = in_brackets(place_of(error))
                log.error("%s was raised in an asyncio task of its own%s; the others go on",
                          one_line(error), place)  # fmt: skip

    def _end(self) -> None:
        """Cancels what was not finished and gives it time to run its `finally:`. Nobody is told of it any more."""
        self.over = True
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._close()))
        within(LAST_CALL, lambda step: self._closed.acquire(timeout=step))

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        self._closed.release()


def _in_gevents_thread(fork: Callable[..., int]) -> Callable[..., int]:
    """Refuses to start a process elsewhere. gevent itself would start it, and then raise an error: only the loop of its
    own thread can wait for processes."""

    def checked(*args: Any, **options: Any) -> int:
        if not get_hub().loop.default:
            raise RuntimeError("a coroutine, or a thread of asyncio's, can start no process; give subprocess.run to "
                               "loop.run_in_executor, with a ThreadPoolExecutor of your own")  # fmt: skip
        return fork(*args, **options)

    return checked


def _closed_lock() -> Any:
    lock = _allocate_lock()
    lock.acquire()
    return lock


@cache
def _bridge() -> _Bridge:
    bridge = _Bridge()
    bridge.start()
    return bridge
