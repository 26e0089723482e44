"""Waits with a time limit, in a process that may stand still."""

import ctypes
from time import monotonic

import gevent
import pytest
from gevent.monkey import get_original

from gtask import standstill
from gtask.standstill import NOTED, STEP, Running, joined, within
from tests.tasks import wait_until

stand_still = get_original("time", "sleep")  # nothing else in this process runs then
allocate_lock, start_new_thread = (get_original("_thread", name) for name in ("allocate_lock", "start_new_thread"))


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


def test_the_clock_of_what_runs_stands_still_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread was not even woken: nothing has run."""
    times = iter([0.0, 0.1, 5.0, 5.3, 9.0])
    monkeypatch.setattr(standstill, "_times_woken", lambda: 1)
    clock = Running(lambda: next(times))
    assert clock.wait(0.1) == 0.1
    assert clock.look() == pytest.approx(0.1)
    clock.wait(0.1)
    assert clock.look() == pytest.approx(0.2), "it stood still for 4.8 s"
    clock.wait(0.1)
    assert clock.look() == pytest.approx(0.5), "on a busy machine a thread comes late"
    assert clock.now() == pytest.approx(4.2)


def test_the_clock_of_what_runs_goes_on_while_c_code_keeps_the_gil() -> None:
    kept_for = 2 * NOTED
    looks: list[float] = []
    begun = allocate_lock()
    begun.acquire()

    def keep_clock() -> None:
        clock = Running()
        clock.wait(STEP)
        begun.release()
        stand_still(STEP)
        looks.append(clock.look())

    before = monotonic()
    start_new_thread(keep_clock, ())
    begun.acquire()
    ctypes.PyDLL(None).usleep(int(1e6 * kept_for))
    wait_until(lambda: looks, "it has looked")
    assert looks[0] - before >= kept_for
