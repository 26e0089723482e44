"""Redis' time, as heartbeats tell it, on machines whose clocks are off."""

from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtask.server_clock import ServerClock
from gtask.stand_in import StandIn
from gtask.store import Beat, Member
from tests.support.processes import wait_until


class Machine:
    """A monotonic clock that begins anywhere and may run too fast or too slow."""

    def __init__(self, began: float = 1000.0, speed: float = 1.0) -> None:
        self.true = 0.0
        self._began, self._speed = began, speed
        self.clock = ServerClock(self.read)

    def read(self) -> float:
        return self._began + self.true * self._speed

    def beat(self, there: float, back: float, offset: float = 0.0) -> None:
        """Asks Redis, whose time is the true one plus `offset`, and which rounds it down to milliseconds."""
        asked = self.read()
        self.true += there
        time = int((self.true + offset) * 1000) / 1000
        self.true += back
        self.clock.told(time, asked, self.read())


TRIPS = st.floats(0, 0.3)


@given(st.lists(st.tuples(TRIPS, TRIPS, st.floats(0.1, 5)), min_size=1, max_size=30), st.floats(-3, 3))
def test_it_is_never_ahead_and_behind_by_the_quickest_answer_at_most(beats, began) -> None:
    machine = Machine(began=began)
    for there, back, between in beats:
        machine.beat(there, back)
        behind = machine.true - machine.clock.now()
        assert -1e-6 <= behind <= back + there + 0.002
        machine.true += between
        assert machine.true - machine.clock.now() == pytest.approx(behind), "between beats it runs on"


def test_a_quick_answer_is_worth_more_than_later_slow_ones() -> None:
    machine = Machine()
    machine.beat(0.001, 0.001)
    for _ in range(10):
        machine.true += 1
        machine.beat(0.5, 4.0)
        assert machine.true - machine.clock.now() < 0.003


@pytest.mark.parametrize("step", [3600.0, -3600.0, 0.5, -0.5])
def test_a_clock_of_redis_that_was_set_counts_from_the_next_heartbeat_on(step: float) -> None:
    machine = Machine()
    machine.beat(0.001, 0.001)
    machine.beat(0.01, 0.01, offset=step)
    assert machine.clock.now() == pytest.approx(machine.true + step, abs=0.02)


@pytest.mark.parametrize("speed", [1.001, 0.999])
def test_a_machine_that_runs_too_fast_or_too_slow_stays_with_redis(speed: float) -> None:
    machine = Machine(speed=speed)
    for _ in range(1000):
        machine.beat(0.002, 0.002)
        assert abs(machine.true - machine.clock.now()) < 0.01
        machine.true += 1


def test_before_the_first_answer_nobody_knows() -> None:
    with pytest.raises(RuntimeError):
        ServerClock().now()


def test_the_thread_that_stands_in_for_the_heartbeat_tells_the_time_too() -> None:
    """Users' code may hold the event loop for long."""
    clock = ServerClock()
    store = SimpleNamespace(beat=lambda member, term: Beat(False, False, 0, 1.0, False, [], time=1_764_244_800.0))
    stand_in = StandIn(
        lambda: store,  # type: ignore[arg-type, return-value]
        SimpleNamespace(member=Member(1, "{}")),  # type: ignore[arg-type]
        SimpleNamespace(term=None, server_clock=clock),  # type: ignore[arg-type]
        Mock(),
        heartbeat=0.001,
        why="",
    )
    stand_in.start()

    def told() -> bool:
        stand_in.late(1.0, None, ending=False, over=False)
        with suppress(RuntimeError):
            return 0 <= clock.now() - 1_764_244_800 < 60
        return False

    wait_until(told, "Redis' time")
