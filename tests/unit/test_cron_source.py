"""The generate of a schedule, with a clock that the test sets."""

import logging
from collections.abc import Iterator
from itertools import islice

import pytest

from gtask.cron.crontab import read
from gtask.cron.source import source
from gtask.items import Item
from gtask.testing import Drawn

NOON = 1_764_244_800.0  # 2025-11-27T12:00:00+00:00
ALL = '[a]\nevery = "10s"\nmissed = "all"\n[b]\nevery = "10s"\n'


class Bench:
    """Draws from a schedule; waiting moves the clock."""

    def __init__(self, table: str, last: str | None = None, now: float = NOON) -> None:
        self.now = now
        self.waits: list[float] = []
        self.steps: dict[float, float] = {}  # at which time the clock is set, and by how much
        self.messages: Iterator[Item] = iter(source(read(table), lambda: self.now, self._wait, lambda: None)(last))

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        for at in [at for at in self.steps if at <= self.now]:
            self.now += self.steps.pop(at)

    def draw(self, number: int) -> list[Drawn]:
        return [Drawn(*item) for item in islice(self.messages, number)]

    def ticks(self, number: int) -> list[str]:
        """So many messages, by their seconds after noon."""
        found: list[str] = []
        while len(found) < number:
            [(message, _)] = self.draw(1)
            if message is not None:
                found.append(message[0] + message[-11:-6])
        return found


def test_at_the_first_start_a_position_alone_says_since_when_all_is_known() -> None:
    bench = Bench(ALL, now=NOON + 3.5)
    [(message, position)] = bench.draw(1)
    assert message is None
    assert position.startswith("@2025-11-27T12:00:03+00:00 fired=0 coalesced=0 skipped=0 known=a~")
    assert bench.ticks(3) == ["a00:10", "b00:10", "a00:20"]


def test_it_never_waits_longer_than_a_second_and_never_fires_too_early() -> None:
    bench = Bench(ALL, now=NOON + 7.75)
    bench.draw(2)
    assert bench.waits == [1, 1, 0.25]
    assert bench.now == NOON + 10


def test_a_clock_that_is_set_forward_misses_ticks_and_one_that_is_set_back_repeats_none() -> None:
    bench = Bench(ALL)
    bench.steps = {NOON + 12: 30}
    assert bench.ticks(7) == ["a00:10", "b00:10", "a00:20", "a00:30", "a00:40", "b00:40", "a00:50"]
    bench = Bench(ALL)
    bench.steps = {NOON + 22: -15}
    assert bench.ticks(6) == ["a00:10", "b00:10", "a00:20", "b00:20", "a00:30", "b00:30"]
    assert bench.now == NOON + 30


def test_what_came_due_while_redis_was_away_is_missed_too(caplog) -> None:
    bench = Bench(ALL)
    with caplog.at_level(logging.INFO, "gtask.cron"):
        assert bench.ticks(1) == ["a00:10"]
        bench.now += 25  # the push took so long
        assert bench.ticks(4) == ["a00:20", "a00:30", "b00:30", "a00:40"]
    assert caplog.messages == [
        "fired a@2025-11-27T12:00:10+00:00, 25.0 s late",
        "b: 2 missed ticks up to 2025-11-27T12:00:20+00:00: merged into the next one",
        "fired a@2025-11-27T12:00:20+00:00, 15.0 s late",
        "fired a@2025-11-27T12:00:30+00:00, 5.0 s late",
        "fired b@2025-11-27T12:00:30+00:00, 5.0 s late",
    ]


def test_what_came_due_while_it_was_said_what_is_dropped_is_missed_as_well() -> None:
    bench = Bench('[a]\nevery = "10s"', "a@2025-11-27T12:00", NOON + 35)
    assert [drawn.message for drawn in bench.draw(2)] == [None, None]
    bench.now += 30  # the push of that position took so long
    assert [drawn.message for drawn in bench.draw(2)] == [None, "a@2025-11-27T12:01:00+00:00"]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("order 41\x1b", "the position order 41\\x1b is none of a schedule (it is no NAME@TIME), so all"),
        ("x" * 5000, "the position " + "x" * 80 + "… is none of a schedule"),
        ("a@2026-11-27T12:00", "the last tick lies 31536000 s ahead of Redis' clock, and nothing is due before"),
    ],
)  # fmt: skip
def test_a_position_that_makes_no_sense_is_said_once(caplog, last: str, said: str) -> None:
    [(_, position)] = Bench(ALL, last).draw(1)
    assert [line[: len(said)] for line in caplog.messages] == [said]
    caplog.clear()
    again = "" if last.startswith("a@") else said
    Bench(ALL, position).draw(1)
    assert [line for line in caplog.messages if again and line.startswith(again)] == []


def test_what_is_new_in_the_file_is_said(caplog) -> None:
    [(_, position)] = Bench('[a]\nevery = "10s"').draw(1)
    with caplog.at_level(logging.INFO, "gtask.cron"):
        Bench('[a]\nevery = "15s"\n[b]\nevery = "10s"', position, NOON + 5).draw(1)
    assert caplog.messages == [
        "a has another schedule: it counts from 2025-11-27T12:00:05+00:00",
        "b is new: it counts from 2025-11-27T12:00:05+00:00",
    ]
