"""Waits with a time limit, in a process that may stand still."""

import gevent
import pytest
from gevent.monkey import get_original

from gtask.standstill import STEP, joined, within

stand_still = get_original("time", "sleep")  # nothing else in this process runs then


@pytest.mark.parametrize("seconds", [0, 0.1, 1, 1.1])
def test_what_does_not_come_is_waited_for_as_long_as_was_said(seconds: float) -> None:
    waited: list[float] = []
    assert not within(seconds, waited.append)
    assert sum(waited) == pytest.approx(seconds)
    assert all(0 < step <= STEP for step in waited)


def test_what_comes_ends_the_wait() -> None:
    answers = iter([False, True])
    assert within(10, lambda _: next(answers))
    assert next(answers, None) is None


def test_a_greenlet_that_has_ended_is_not_waited_for() -> None:
    greenlet = gevent.spawn(lambda: None)
    greenlet.join()
    assert joined(greenlet, 0)


def test_a_time_for_which_the_process_stands_still_counts_as_one_step() -> None:
    def work() -> None:
        for _ in range(5):
            gevent.sleep(0.01)

    gevent.spawn_later(0.01, stand_still, 1.5)
    assert joined(gevent.spawn(work), 1)
