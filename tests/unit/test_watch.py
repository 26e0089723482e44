"""The thread that watches the event loop, with a clock of the test's."""

import os

import pytest

from gtask import log, standstill
from gtask.exceptions import EXIT_STUCK
from gtask.standstill import Running
from gtask.watch import FORCE, LATE, TOLD_AFTER, LoopWatch

GRACE = 1.0


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_a_loop_that_stood_still_with_its_whole_process_has_time_to_turn_before_the_end_by_force(ends) -> None:
    watch = LoopWatch(1.0, GRACE)
    watch.ending()
    asked = watch._ending
    assert asked is not None
    watch._look(asked)
    late = asked + 5  # this thread stood still, too, or it would have looked before
    watch._look(late)
    watch._look(late + 0.9 * FORCE)
    assert ends == []
    watch._answer()
    watch._look(late + 2 * FORCE)
    assert ends == [], "it turns"
    watch._look(late + 2 * FORCE + GRACE)
    assert ends == [], "it is held anew"
    watch._look(late + 3.1 * FORCE + GRACE)
    assert ends == [EXIT_STUCK]


def test_a_loop_that_stood_still_with_its_whole_process_was_held_by_nobody(
    ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "say", said.append)
    monkeypatch.setattr(standstill, "_times_woken", lambda: 1)
    time = 0.0
    watch = LoopWatch(1.0, GRACE)
    watch._clock = Running(lambda: time)

    def turn(seconds: float) -> None:
        def poll(milliseconds: float) -> list[object]:
            nonlocal time
            time += seconds
            return []

        watch._turn(poll, LATE)

    turn(LATE)
    turn(1000)
    assert said == []
    for _ in range(int(TOLD_AFTER / LATE) + 1):
        turn(LATE)
    assert len(said) == 1, "now somebody does"
    assert "nothing else has run here for 2." in said[0]
    time += 1000  # all stands still, and before the clock knows that, the main thread is asked to end
    watch.ending()
    turn(LATE)
    for _ in range(int(GRACE / LATE)):
        turn(LATE)
    turn(1000)
    assert ends == [], "somebody holds it after the grace, but not for long"
    for _ in range(int(FORCE / LATE) + 2):
        turn(LATE)
    assert ends[:1] == [EXIT_STUCK]
