"""How many messages a task takes at once."""

from itertools import pairwise

import pytest

from gtask.pace import GROWTH, HORIZON, LARGEST, Pace


def handled(pace: Pace, rate: float, seconds: float, step: float = 0.02) -> None:
    """A stretch of steady work."""
    for _ in range(round(seconds / step)):
        pace.measured(round(rate * step), step)


def test_the_first_message_is_taken_alone() -> None:
    assert Pace().want() == 1


def test_a_batch_grows_by_no_more_than_a_factor_and_up_to_a_limit() -> None:
    pace = Pace()
    handled(pace, 1_000_000, 1)
    wanted = [pace.want() for _ in range(8)]
    assert wanted[0] == GROWTH
    assert all(after <= GROWTH * before for before, after in pairwise(wanted))
    assert wanted[-1] == LARGEST


@pytest.mark.parametrize("rate", [200, 1_000, 5_000])
def test_a_batch_is_what_can_be_started_within_the_horizon(rate: float) -> None:
    pace = Pace()
    handled(pace, rate, 2)
    for _ in range(10):
        wanted = pace.want()
    assert wanted == pytest.approx(rate * HORIZON, rel=0.1, abs=1)


def test_slow_handling_takes_one_at_a_time() -> None:
    pace = Pace()
    for _ in range(20):
        pace.measured(1, 0.5)
        assert pace.want() == 1


def test_what_has_become_slow_takes_few_soon() -> None:
    pace = Pace()
    handled(pace, 100_000, 1)
    for _ in range(10):
        pace.want()
    pace.measured(1, 1.0)
    assert pace.want() <= 2


def test_after_a_pause_the_measurement_begins_anew() -> None:
    pace = Pace()
    handled(pace, 100_000, 1)
    assert pace.want() > 1
    pace.idle()
    assert pace.want() == 1


def test_no_time_at_all_is_no_measurement() -> None:
    pace = Pace()
    pace.measured(1000, 0.0)
    assert pace.want() == 1
