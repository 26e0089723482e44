"""The exit code of gmonitor, and when its end begins: each scenario is a list of events and what it comes to."""

import errno
import signal

import pytest

from gmonitor.ending import Ending
from gmonitor.events import Ended, Failed, Finished, Noted, Pressed, Signalled
from gtask.exceptions import UsageError
from gtask.protocol import SAME_WISH

BROKEN_PIPE = Failed(BrokenPipeError(errno.EPIPE, "broken"))
HUNG_UP = Failed(OSError(errno.EIO, "hung up"))
FULL = Failed(OSError(errno.ENOSPC, "No space left on device"))
NO_TASK = Failed(UsageError("cannot start it"))
Q, TERM, HUP = Pressed("end"), Signalled(signal.SIGTERM), Signalled(signal.SIGHUP)


def run(*events: object, stays: bool = False, every: float = 1.0) -> Ending:
    """Two tasks; the events come `every` second."""
    ending = Ending(2, stays)
    for number, event in enumerate(events):
        ending.apply(event, 1000 + number * every)
    return ending


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([Q], 0),
        ([TERM], 0),
        ([HUP], 0),
        ([Q, Q], 130),
        ([Q, TERM], 143),
        ([Q, Ended(1, 3), Ended(2, 4)], 0),
        ([Ended(1, 0), Ended(2, 0)], 0),
        ([Ended(1, 0), Ended(2, 5)], 5),
        ([Ended(1, 69), Ended(2, 5)], 69),
        ([Ended(1, -9), Ended(2, 5)], 137),
        ([Ended(1, 3), Q, Ended(2, 4)], 0),
        ([BROKEN_PIPE], 141),
        ([HUNG_UP, HUP], 0),
        ([Q, BROKEN_PIPE], 0),
        ([Q, FULL], 0),
    ],
)
def test_the_end_has_begun_with_this_code(events: list[object], code: int) -> None:
    ending = run(*events)
    assert ending.begun
    assert ending.failure is None
    assert ending.code == code


@pytest.mark.parametrize("events", [[Noted("x")], [Ended(1, 3)], [Signalled(signal.SIGWINCH)], [Pressed("kill")]])
def test_what_is_no_reason_to_end(events: list[object]) -> None:
    assert not run(*events).begun


@pytest.mark.parametrize(
    ("events", "code", "said"),
    [
        ([FULL], 74, "cannot write: No space left on device"),
        ([NO_TASK], 64, "cannot start it"),
        ([Q, NO_TASK], 64, "cannot start it"),
        ([FULL, NO_TASK], 74, "cannot write: No space left on device"),
    ],
)
def test_a_failure_has_a_code_of_its_own(events: list[object], code: int, said: str) -> None:
    ending = run(*events)
    assert ending.begun
    assert ending.failure is not None
    assert (ending.failure.code, str(ending.failure)) == (code, said)


def test_only_a_wish_that_comes_later_is_a_second_one() -> None:
    assert not run(Q, Q, every=SAME_WISH / 2).hurried
    assert run(Q, Q, every=SAME_WISH).hurried
    assert not run(Q, HUP).hurried, "a terminal that hangs up is nobody's impatience"
    assert not run(BROKEN_PIPE, Q).hurried, "a person asks for the first time"


def test_where_a_person_looks_the_reasons_stay_until_q() -> None:
    ending = run(Ended(1, 0), Ended(2, 3), stays=True)
    assert ending.all_ended and not ending.begun
    ending.apply(Q, 1010)
    assert ending.begun and ending.code == 3


def test_it_is_over_when_the_tree_is_gone() -> None:
    assert not run(Q).over
    ending = run(Q, Finished((4711,)))
    assert ending.over and ending.left == (4711,)


def test_a_bug_is_raised() -> None:
    with pytest.raises(KeyError):
        run(Failed(KeyError("a bug")))
