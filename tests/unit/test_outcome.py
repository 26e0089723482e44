"""What becomes of a message whose handling has raised an error."""

import json
from statistics import mean

import pytest

from gtask.config import Backoff
from gtask.inside import Reject, Retry, TimedOut
from gtask.outcome import NEVER, NO_RETRIES, Later, Outcome, Policy, Tried, decide

THREE = Policy(retries=3, backoff=Backoff("1s..60s"))


def decided(error: BaseException, tried: Tried = NEVER, policy: Policy = THREE, *, again: bool = True) -> Outcome:
    try:
        raise error
    except BaseException as raised:
        return decide("m", raised, 7, tried, policy, again=again)


def error_of(outcome: Outcome) -> str:
    """What the record says, without the place in this file."""
    record = json.loads(outcome.record)
    assert record["message"] == "m" and record["taskId"] == 7
    assert outcome.later is None and outcome.followups == ()
    assert record["error"] == outcome.reason
    text, _, place = record["error"].rpartition(" (")
    assert "test_outcome.py" in place
    return text


def test_a_failure_without_retries_is_recorded() -> None:
    assert error_of(decided(ValueError("no"), policy=NO_RETRIES)) == "ValueError: no"


@pytest.mark.parametrize("failures", range(6))
def test_a_message_that_has_failed_comes_again_as_often_as_retries_says(failures: int) -> None:
    outcome = decided(ValueError("no"), Tried(failures, failures))
    assert (outcome.later is not None) == (failures < 3)
    if outcome.later:
        assert outcome.record == "" and outcome.later.failed and outcome.reason.startswith("ValueError: no (")


def test_each_failure_doubles_the_wait_up_to_the_longest_and_what_failed_together_comes_apart() -> None:
    policy = Policy(retries=1000, backoff=Backoff("2s..30s"))
    for failures, whole in enumerate([2, 4, 8, 16, 30, 30, *[30] * 994]):
        waits = [policy.wait(failures) for _ in range(20)]
        assert whole / 2 <= min(waits) and max(waits) <= whole
        assert len(set(waits)) > 1
    assert mean(policy.wait(0) for _ in range(1000)) == pytest.approx(1.5, abs=0.1)
    assert Policy(backoff=Backoff("0s..0s")).wait(10**6) == 0


def test_retry_says_when_and_is_no_failure() -> None:
    assert decided(Retry(after=30)).later == Later(30, failed=False)
    assert decided(Retry(after=0)).later == Later(0, failed=False)
    assert decided(Retry("busy", after=30), Tried(1000, 3), NO_RETRIES).later == Later(30, failed=False)


def test_retry_without_a_time_waits_as_a_failure_of_so_many_attempts_would() -> None:
    later = decided(Retry(), Tried(3, 0), NO_RETRIES).later
    assert later is not None and 4 <= later.after <= 8 and not later.failed


def test_what_asks_for_a_retry_does_not_count_against_later_failures() -> None:
    assert decided(ValueError("no"), Tried(attempts=10, failures=2)).later is not None
    assert decided(ValueError("no"), Tried(attempts=10, failures=3)).later is None


def test_reject_is_recorded_at_once() -> None:
    assert error_of(decided(Reject("no such customer"))) == "gtask.Reject: no such customer"


def test_at_most_once_a_retry_is_a_failure_that_says_what_it_needs() -> None:
    outcome = decided(Retry(after=1), policy=NO_RETRIES, again=False)
    assert outcome.later is None
    error = json.loads(outcome.record)["error"]
    assert error.startswith("gtask.Retry (")
    assert error.endswith("; a message can come again with --delivery at-least-once only")


def test_a_time_out_names_the_limit_and_where_the_handler_hung_and_may_be_retried() -> None:
    said = "time-out: not handled within --timeout 0.5 (jobs.py:7 handle)"
    outcome = decided(TimedOut(0.5, "jobs.py:7 handle"), policy=NO_RETRIES)
    assert outcome.reason == json.loads(outcome.record)["error"] == said
    outcome = decided(TimedOut(0.5, "jobs.py:7 handle"))
    assert outcome.later is not None and outcome.later.failed and outcome.reason == said
    assert not isinstance(TimedOut(1), Exception)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 10**12])
def test_what_cannot_be_waited_for_is_refused_where_it_is_written(after: float) -> None:
    with pytest.raises(ValueError, match="seconds from 0 to 1,000,000,000 are meant"):
        Retry(after=after)
