"""How many messages a task takes at once."""

from itertools import pairwise

import pytest

from gtask.pace import GROWTH, HORIZON, LARGEST, BatchSize


def handled(size: BatchSize, rate: float, seconds: float, step: float = 0.02) -> None:
    """A stretch of steady work."""
    for _ in range(round(seconds / step)):
        size.measured(round(rate * step), step)


def test_the_first_message_is_taken_alone() -> None:
    assert BatchSize().want() == 1


def test_a_batch_grows_by_no_more_than_a_factor_and_up_to_a_limit() -> None:
    size = BatchSize()
    handled(size, 1_000_000, 1)
    wanted = [size.want() for _ in range(8)]
    assert wanted[0] == GROWTH
    assert all(after <= GROWTH * before for before, after in pairwise(wanted))
    assert wanted[-1] == LARGEST


@pytest.mark.parametrize("rate", [200, 1_000, 5_000])
def test_a_batch_is_what_can_be_started_within_the_horizon(rate: float) -> None:
    size = BatchSize()
    handled(size, rate, 2)
    for _ in range(10):
        wanted = size.want()
    assert wanted == pytest.approx(rate * HORIZON, rel=0.1, abs=1)


def test_slow_handling_takes_one_at_a_time() -> None:
    size = BatchSize()
    for _ in range(20):
        size.measured(1, 0.5)
        assert size.want() == 1


def test_what_has_become_slow_takes_few_soon() -> None:
    size = BatchSize()
    handled(size, 100_000, 1)
    for _ in range(10):
        size.want()
    size.measured(1, 1.0)
    assert size.want() <= 2


def test_after_a_pause_the_measurement_begins_anew() -> None:
    size = BatchSize()
    handled(size, 100_000, 1)
    assert size.want() > 1
    size.idle()
    assert size.want() == 1


def test_no_time_at_all_is_no_measurement() -> None:
    size = BatchSize()
    size.measured(1000, 0.0)
    assert size.want() == 1
