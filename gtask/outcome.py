"""How the handling of a message can end, and what comes of it. Whoever adds another end adds it here, and says in
calls.py and in claim.lua what Redis is told of it."""

import logging
from dataclasses import dataclass, replace
from random import uniform
from traceback import format_exception_only

from gtask.config import AT_LEAST_ONCE, Backoff, Config
from gtask.exceptions import CommandFailed
from gtask.inside import Reject, Retry, TimedOut
from gtask.places import in_brackets, place_of
from gtask.text import failure_record, printable, read_record

log = logging.getLogger(__name__)

LARGE = 1 << 19  # characters: a failure record that is longer may be longer than what Redis takes


@dataclass(frozen=True)
class Later:
    """The message comes again in so many seconds. `failed`: this attempt counts against `--retries`."""

    after: float
    failed: bool = True


@dataclass(frozen=True)
class Outcome:
    """`reason`: why it was not handled, in one line. Then either `record` is what belongs into `errors`, or the message
    comes again `later`. `followups`: messages that a handled one has brought, as they go to the tail of the queue."""

    reason: str = ""
    record: str = ""
    later: Later | None = None
    followups: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What Redis knows of a message that was tried before: how often, and how many of these attempts have failed."""

    attempts: int = 0
    failures: int = 0


DONE = Outcome()
NEVER = Tried()
MOST_DOUBLINGS = 64  # of a wait; more would only leave what a float can hold


@dataclass(frozen=True)
class Policy:
    """What the settings say of failures."""

    retries: int = 0
    backoff: Backoff = Config.backoff

    def wait(self, before: int) -> float:
        """Seconds that a message waits which has waited so many times `before`. What failed together does not come back
        together: the wait is drawn between one half of what `--backoff` says and the whole."""
        doubled = self.backoff.first * 2.0 ** min(before, MOST_DOUBLINGS)
        return min(doubled, self.backoff.longest) * uniform(0.5, 1)  # noqa: S311


NO_RETRIES = Policy()


def decide(message: str, error: BaseException, task_id: int, tried: Tried, policy: Policy, *, again: bool) -> Outcome:
    """What it means that handling the message has raised this error. `task_id`: of the task that handled it. `tried`:
    what is known of earlier attempts. `again`: this way of delivery can bring a message again."""
    reason = _reason(error)
    if isinstance(error, Retry) and again:
        return Outcome(reason, later=Later(policy.wait(tried.attempts) if error.after is None else error.after, False))
    if isinstance(error, Retry):
        reason += f"; a message can come again with --delivery {AT_LEAST_ONCE} only"
    elif again and tried.failures < policy.retries and not isinstance(error, Reject):
        return Outcome(reason, later=Later(policy.wait(tried.failures)))
    return failed(message, reason, task_id, attempts=tried.attempts + 1)


def _reason(error: BaseException) -> str:
    """What was raised and where, as `ValueError: no (jobs.py:7 handle)`."""
    if isinstance(error, TimedOut):
        reason, place = str(error), error.place
    elif isinstance(error, CommandFailed):
        reason, place = str(error), ""
    else:
        reason, place = "".join(format_exception_only(error)).strip(), place_of(error)
    return reason + in_brackets(place)


def failed(message: str, reason: str, task_id: int, attempts: int = 1) -> Outcome:
    """The message has failed, for a reason that may be none of the handler's, at the last of so many attempts."""
    return Outcome(reason, failure_record(message, reason, task_id, attempts))


def shorter(message: str, outcome: Outcome) -> Outcome:
    """The outcome after a call that Redis did not take, perhaps because of its size: instead of a large record the
    message as it is, which Redis took once; the log says why it failed."""
    if outcome.record == message or len(outcome.record) <= LARGE:
        return outcome
    log.warning(
        "a failed message of %d characters stands in errors as it is, for Redis did not take its record: %s",
        len(message), printable(str(read_record(outcome.record)["error"])),
    )  # fmt: skip
    return replace(outcome, record=message)
