"""The periodic work: a tick each tenth of a second, which is handled once, whatever happens to the workers."""

import os
import time
from collections.abc import Iterator
from functools import cache

import redis

EVERY = 0.1  # seconds


def generate(last: str | None) -> Iterator[str]:
    """Yields the number of each tick when its time has come, and those that were missed at once."""
    number = int(last) + 1 if last else int(time.time() / EVERY)
    while True:
        time.sleep(max(0, number * EVERY - time.time()))
        yield str(number)
        number += 1


def handle(number: str) -> None:
    """Does the work of one tick. It may come again after a crash, so the result is kept by its number."""
    results().hset("ticks", number, time.ctime())


def count() -> int:
    """How many ticks were handled."""
    return results().hlen("ticks")


@cache
def results() -> redis.Redis:
    """This process's connection for results."""
    return redis.Redis.from_url(os.environ.get("GTASK_REDIS", "redis://127.0.0.1:6379/0"))
