"""The time limit of handlers: who is interrupted, where, and who is not. Greenlets, and no server."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from math import inf

import gevent
import pytest

from gtask.functions import Handle
from gtask.inside import TimedOut
from gtask.workers import TimeLimit, Worker

LONG = 1000.0  # seconds


class Clock:
    """Shows what a test sets. Its numbers are ones that a float can add without rounding."""

    now = 2 * LONG

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gtask.workers.perf_counter", clock)
    return clock


def hang() -> None:
    gevent.sleep(LONG)


class Crew:
    """One worker at a message that began long ago, and whose handler is given; `ended`: what came of it."""

    def __init__(self, handle: Callable[[], object], clock: Clock, since: float = LONG) -> None:
        self.worker = Worker(Handle(lambda message: None, copy_context), lambda: 1)
        self.ended: list[object] = []
        self.worker.greenlet = gevent.spawn(self._work, handle)
        self.worker.at = "m", clock() - since
        gevent.sleep(0)

    def _work(self, handle: Callable[[], object]) -> None:
        try:
            self.ended.append(handle())
        except TimedOut as error:
            self.ended.append(error)

    def turn(self) -> None:
        """Lets the hub do what it was asked for."""
        gevent.sleep(0)
        gevent.sleep(0)


@pytest.fixture
def crew(clock) -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def make(handle: Callable[[], object], **options) -> Crew:
        made.append(Crew(handle, clock, **options))
        return made[-1]

    yield make
    gevent.killall([one.worker.greenlet for one in made])


def test_who_waits_for_too_long_is_interrupted_there(crew) -> None:
    one = crew(hang)
    TimeLimit([one.worker], 50).step()
    one.turn()
    [error] = one.ended
    assert error is one.worker.interrupted and error.seconds == 50
    assert "test_workers.py:" in error.place and error.place.endswith(" hang")


def test_who_has_time_left_is_not_and_the_next_look_comes_when_it_is_over(crew) -> None:
    one, two, idle = crew(hang, since=10), crew(hang, since=20), crew(hang)
    idle.worker.at = None
    limit = TimeLimit([one.worker, two.worker, idle.worker], 50)
    assert limit.step() == 30
    one.turn()
    assert one.ended == two.ended == idle.ended == []
    two.worker.at = None
    assert limit.step() == 40
    one.worker.at = None
    assert limit.step() == 50, "whoever starts now is not due before"


def test_who_has_finished_meanwhile_is_not_interrupted_at_its_next_message(crew, clock) -> None:
    one = crew(hang)
    TimeLimit([one.worker], 50).step()
    one.worker.at = "m", clock()
    one.turn()
    assert one.ended == [] and one.worker.interrupted is None


def test_who_is_back_in_our_code_is_not_interrupted(crew) -> None:
    one = crew(hang)
    limit = TimeLimit([one.worker], 50)
    limit.step()
    one.worker.at = "m", inf
    one.turn()
    assert limit.step() == 50
    one.turn()
    assert one.ended == []


def test_who_catches_it_has_some_time_and_is_then_interrupted_again(crew, clock) -> None:
    caught = []

    def stubborn() -> None:
        while True:
            try:
                gevent.sleep(LONG)
            except TimedOut as error:
                caught.append(error)
                if len(caught) == 3:
                    raise

    one = crew(stubborn)
    limit = TimeLimit([one.worker], 4)
    assert limit.step() == 4
    one.turn()
    clock.now += 3
    assert limit.step() == 1, "it is not thrown into a handler that is cleaning up"
    one.turn()
    assert len(caught) == 1
    for interrupted in (2, 3):
        clock.now += 4
        assert limit.step() == 4
        one.turn()
        assert len(caught) == interrupted
    assert one.ended == [caught[2]] and len({id(error) for error in caught}) == 3


def test_a_clean_up_has_five_seconds_where_the_limit_is_long(crew) -> None:
    def stubborn() -> None:
        while True:
            with suppress(TimedOut):
                gevent.sleep(LONG)

    assert TimeLimit([crew(stubborn).worker], 50).step() == 5
