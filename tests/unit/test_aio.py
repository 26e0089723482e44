"""How many items are drawn from an async generator at once: steps with a clock that the generator itself sets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gtask import aio

QUICK, SLOW = 0.0001, 0.0003  # seconds for an item


@pytest.fixture
def draws(monkeypatch):
    """The sizes of the first few answers of a generator whose items take so long each."""
    now = 0.0
    monkeypatch.setattr(aio, "perf_counter", lambda: now)

    def draws(seconds: Sequence[float], *, ahead: bool = True) -> list[int]:
        sizes = []

        async def items(argument: Any) -> AsyncIterator[float]:
            nonlocal now
            for took in seconds:
                now += took
                yield took

        def answer(found: Sequence[Any], end: BaseException | None) -> None:
            sizes.append(len(found))
            if end is None:
                asyncio.get_running_loop().call_soon(drawing.ask, True)

        drawing = aio.Drawing(items, None, answer)  # type: ignore[arg-type]
        drawing.ahead = ahead
        asyncio.run(drawing.run())
        return sizes

    return draws


def test_the_first_item_comes_alone_and_then_as_many_as_are_quick_within_a_slice(draws) -> None:
    assert draws([QUICK] * 25) == [1, 10, 10, 4]
    assert draws([0.0] * 150) == [1, aio.AHEAD, 49]


def test_what_follows_a_slow_item_is_not_drawn_ahead(draws) -> None:
    assert draws([SLOW] * 3) == [1, 1, 1, 0]
    assert draws([QUICK, QUICK, SLOW, QUICK, QUICK]) == [1, 2, 2]


def test_nothing_is_drawn_ahead_unless_that_is_permitted(draws) -> None:
    assert draws([QUICK] * 3, ahead=False) == [1, 1, 1, 0]
