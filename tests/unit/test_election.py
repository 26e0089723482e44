"""When the next heartbeat comes."""

import pytest

from gtask.election import seconds_to_next
from gtask.store import Beat


def beat(*, renewed: bool = False, elected: bool = False, remaining: float) -> Beat:
    return Beat(
        renewed=renewed,
        elected=elected,
        term=1,
        remaining=remaining,
        endless=False,
        dead=[],
    )


@pytest.mark.parametrize("role", ["renewed", "elected"])
def test_the_generator_beats_each_heartbeat_however_long_one_takes(role: str) -> None:
    generates = beat(remaining=0.4, **{role: True})
    assert [seconds_to_next(generates, 1, took) for took in (0, 0.25, 3)] == [1, 0.75, 0]


def test_a_handler_asks_again_as_soon_as_the_flag_has_expired() -> None:
    assert 0.4 < seconds_to_next(beat(remaining=0.4), 1, 0.3) < 0.42


def test_a_handler_asks_at_least_once_each_heartbeat() -> None:
    assert seconds_to_next(beat(remaining=1.7), 1, 0) == 1


def test_a_flag_without_expiry_is_asked_for_once_each_heartbeat() -> None:
    assert seconds_to_next(beat(remaining=-0.001), 1, 0) == 1


def test_who_stands_back_after_a_failure_asks_when_that_is_over() -> None:
    assert 0.4 < seconds_to_next(beat(remaining=-0.002), 1, 0, held_back=0.4) < 0.42
    assert 0.4 < seconds_to_next(beat(remaining=0.2), 1, 0, held_back=0.4) < 0.42
    assert seconds_to_next(beat(remaining=0.2), 1, 0, held_back=30) == 1
