"""The thread that watches the event loop, with a clock of the test's."""

import os

import pytest

from gtask.exceptions import EXIT_STUCK
from gtask.watch import FORCE, LoopWatch

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
