"""What is async about users' functions, how one that yields is drawn from, and how they run where no task does, as in
users' tests. This knows nothing of gevent: a task has its bridge (bridge.py)."""

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any

QUICK = 0.0002  # seconds: what took longer to draw is the last that is drawn before what was drawn so far is used
AHEAD = 100  # items that are drawn at once at most
DRAW_FOR = 0.001  # seconds after which no more are drawn at once

Answer = Callable[[Sequence[Any], BaseException | None], None]


def called(function: Any) -> list[Any]:
    """What runs when the function is called: itself or, where it is an object, its __call__. Partials are unwrapped."""
    while isinstance(function, functools.partial):
        function = function.func
    return [function] if isinstance(function, type) else [function, type(function).__call__]


def is_coroutine_function(function: Any) -> bool:
    """Whether it is an `async def` without yield."""
    return any(map(inspect.iscoroutinefunction, called(function)))


def is_async_generator_function(function: Any) -> bool:
    """Whether it is an `async def` with yield."""
    return any(map(inspect.isasyncgenfunction, called(function)))


def in_own_loop(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An async function as a plain one, for which a loop runs as long as it does. Others as they are."""
    if is_coroutine_function(function):
        return functools.partial(_run, function)
    return functools.partial(_iterate, function) if is_async_generator_function(function) else function


def _run(function: Callable[[Any], Any], argument: Any) -> Any:
    async def call() -> Any:
        return await function(argument)

    with asyncio.Runner() as runner:
        return runner.run(call())


def _iterate(function: Callable[[Any], AsyncGenerator[Any, None]], argument: Any) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        answered = loop.create_future()
        drawing = Drawing(function, argument, lambda items, end: answered.set_result((items, end)))
        task = loop.create_task(drawing.run())
        end: BaseException | None = None
        try:
            while end is None:
                items, end = loop.run_until_complete(answered)
                yield from items
                answered = loop.create_future()
                if end is None:
                    drawing.ask(True)
        finally:
            if end is None:
                answered = loop.create_future()
                drawing.ask(False)
                _, end = loop.run_until_complete(answered)
            loop.run_until_complete(task)
            if not isinstance(end, StopIteration):
                raise end


class Drawing:
    """One run of an async generator, from which somebody outside of its loop draws.

    It runs in one asyncio task from its first item to its end, because a time limit or a group of tasks that it opens
    must be closed by the task that has opened it.
    """

    def __init__(self, function: Callable[[Any], AsyncGenerator[Any, None]], argument: Any, answer: Answer) -> None:
        """`answer` gets the items of each draw, and at the end what has ended it: StopIteration, or an error."""
        self.ahead = False  # more than one item may be drawn at once, while each is quick
        self._function = function
        self._argument = argument
        self._answer = answer
        self._wish: Any = None  # a future: whether more is wanted
        self._first = True
        self.items: AsyncGenerator[Any, None] | None = None  # once it runs

    async def run(self) -> None:
        """The task. It draws at once, and after each answer when `ask` is called. Raises nothing."""
        end: BaseException = StopIteration()
        drawn: list[Any] = []
        try:
            async with aclosing(self._function(self._argument)) as items:
                self.items = items
                while True:
                    await self._draw(items, drawn)
                    self._answer(drawn, None)
                    drawn = []
                    if not await self._asked():
                        break
        except StopAsyncIteration:
            pass
        except BaseException as error:
            end = error
        self._answer(drawn, end)

    def ask(self, more: bool) -> None:
        """In the loop, after an answer: draws on, or closes the generator, which runs what it has in `finally:`."""
        if not self._wish.done():
            self._wish.set_result(more)

    async def _asked(self) -> bool:
        self._wish = asyncio.get_running_loop().create_future()
        return bool(await self._wish)

    async def _draw(self, items: AsyncGenerator[Any, None], drawn: list[Any]) -> None:
        """One item, and those after it that are quick. How long the very first one takes says nothing of that."""
        start = began = perf_counter()
        while True:
            drawn.append(await anext(items))
            now = perf_counter()
            quick, self._first = now - began <= QUICK and self.ahead and not self._first, False
            if not quick or len(drawn) >= AHEAD or now - start >= DRAW_FOR:
                return
            began = now
