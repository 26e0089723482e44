"""The native thread that stands in for the greenlets, where it fails: in time with the others, and never for good."""

import logging
import time
from collections.abc import Callable
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from gtask.exceptions import Trouble
from gtask.stand_in import StandIn
from gtask.store import Beat, Member
from tests.tasks import wait_until

T = 0.1


def stand_in(store: Any, handler: Any = None) -> StandIn:
    """One of a task that handles."""
    election = SimpleNamespace(term=None, server_clock=Mock())
    membership = SimpleNamespace(member=Member(1, "{}"))
    return StandIn(lambda: store, membership, election, handler or Mock(), heartbeat=T, why="too late")  # type: ignore[arg-type]


def fails(times: list[float], error: Exception) -> Callable[..., None]:
    def fail(*arguments: object, **more: object) -> None:
        times.append(time.monotonic())
        raise error

    return fail


def test_while_redis_is_away_its_attempts_have_the_pace_of_heartbeats() -> None:
    """The loop turns, and the greenlet's own attempts fail, too."""
    times: list[float] = []
    begun = time.monotonic()
    it = stand_in(Mock(beat=fails(times, Trouble("away"))))
    it.start()
    while len(times) < 4:
        it.late(0.0, None, ending=False, over=False)
        time.sleep(0.001)
    assert times[-1] - begun >= 4 * 1.5 * T


def test_while_redis_is_away_and_the_loop_is_held_it_waits_longer_after_each_failure() -> None:
    times: list[float] = []
    supply = Mock(give_back_from_outside=fails(times, Trouble("away")))
    it = stand_in(Mock(), Mock(supply=supply))
    it.start()
    while len(times) < 6:
        it.late(1.0, None, ending=False, over=False)
        time.sleep(0.001)
    assert times[-1] - times[0] > 0.5, "0.025 s or more after the first failure, and twice as long after each"


def test_an_error_that_nobody_foresaw_is_said_and_is_not_the_end_of_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beats = repeat(Beat(False, False, 0, 1.0, False, [], time=1.0))
    beat = Mock(side_effect=chain([RuntimeError("unforeseen")], beats))
    it = stand_in(Mock(beat=beat))
    it.start()

    def beaten_again() -> bool:
        it.late(0.0, None, ending=False, over=False)
        return beat.call_count >= 2

    with caplog.at_level(logging.ERROR, "gtask"):
        wait_until(beaten_again, "the next heartbeat")
    [record] = caplog.records
    assert "a bug in gtask" in record.message
    assert record.exc_info and "unforeseen" in str(record.exc_info[1])


def test_what_fails_when_the_loop_has_broken_is_said_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = Mock(**{"leave_from_outside.side_effect": RuntimeError("unforeseen")})
    store = Mock()
    stand_in(store, handler).leave_at_once(60, "the loop broke")
    handler.leave_from_outside.assert_called_once_with(store, "the loop broke")
    assert ["a bug in gtask" in record.message for record in caplog.records] == [True]
    assert capfd.readouterr().err == ""


def test_at_the_end_it_tries_until_redis_has_answered() -> None:
    handler = Mock(**{"leave_from_outside.side_effect": [Trouble("away"), Trouble("away"), None, None]})
    store = Mock()
    it = stand_in(store, handler)
    it.start()

    def left(times: int) -> bool:
        it.late(1.0, None, ending=True, over=True)
        return handler.leave_from_outside.call_count >= times

    wait_until(lambda: left(3), "its end")
    handler.leave_from_outside.assert_called_with(store, "too late")
    for _ in range(100):
        assert not left(4)
        time.sleep(0.001)
