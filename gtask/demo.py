"""The demo pair: numbers are generated, handling one takes up to a second and fails for 15 of 100."""

import random
from collections.abc import Iterator
from itertools import count

import gevent


def generate(last: str | None) -> Iterator[str]:
    """Yields 1, 2, 3, … and goes on after `last`."""
    first = int(last) + 1 if last and last.isdecimal() else 1
    return map(str, count(first))


def handle(message: str) -> None:
    """Sleeps up to a second; raises for about 15 of 100 messages."""
    gevent.sleep(random.random())  # noqa: S311 - no secret
    if random.random() < 0.15:  # noqa: S311
        raise RuntimeError(f"message {message} failed, as 15 of 100 do in the demo")
