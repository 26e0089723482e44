"""Async functions as plain ones, where their end and their next answer come at the same moment."""

import asyncio
from collections.abc import AsyncGenerator

import gevent
from gevent.monkey import get_original

from gtask.bridge import Stream

hold = get_original("time", "sleep")  # the loop of asyncio, in its own thread, goes on


async def numbers(last: object) -> AsyncGenerator[int, None]:
    yield 1
    await asyncio.sleep(0.2)
    yield 2


def test_a_stream_that_is_interrupted_while_its_answer_is_on_its_way_is_closed_without_an_error() -> None:
    stream = Stream(numbers, None)

    def draw() -> int:
        drawn: int = next(stream)
        stream.close()
        return drawn

    assert next(stream) == 1
    drawing = gevent.spawn(draw)
    gevent.sleep(0)  # it has asked
    gevent.get_hub().loop.run_callback(drawing.throw, gevent.GreenletExit)
    hold(0.5)
    assert drawing.get(timeout=10) == 2
