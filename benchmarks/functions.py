"""The user's functions that the gtask processes run in these benchmarks."""

import os
from collections.abc import Iterator

import gevent

from benchmarks.stopwatch import lap, mark

WAIT = float(os.environ.get("BENCH_WAIT", "0")) / 1000  # seconds
MESSAGE = "message-{:08d}"  # 16 bytes

handle_at_once = lap


def handle_waiting(message: str) -> None:
    """As I/O would: others run meanwhile."""
    gevent.sleep(WAIT)
    lap(message)


def handle_by_name(message: str) -> None:
    """`long:…` takes an hour, `half:…` half a second, anything else no time."""
    kind = message.partition(":")[0]
    if kind in ("long", "half"):
        gevent.sleep(3600 if kind == "long" else 0.5)


def generate(last: str | None) -> Iterator[str]:
    """BENCH_MESSAGES messages, then the time."""
    mark("first")
    for number in range(int(os.environ["BENCH_MESSAGES"])):
        yield f"message-{number:08d}"
    mark("last")


def numbers(last: str | None) -> Iterator[str]:
    """1, 2, 3, … without end."""
    number = int(last or 0)
    while True:
        number += 1
        yield str(number)


def signed(last: str | None) -> Iterator[str]:
    """Messages that say which process generated them."""
    while True:
        yield f"from {os.getpid()}"


def ignore(message: str) -> None:
    """Handles nothing, and measures nothing."""


def nothing(last: str | None) -> Iterator[str]:
    """Generates no message."""
    return iter(())
