"""How the handling of a message ended. Whoever adds another end, such as a later retry, adds it here, and says in
delivery.py and in claim.lua what Redis is told of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import format_exception_only

from gtask.places import place_of
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
Failure = tuple[str, str]  # a message and its record


def decide(message: str, error: BaseException, task_id: int) -> Outcome:
    """What it means that handling the message has raised this error. `task_id`: of the task that handled it."""
    reason = "".join(format_exception_only(error)).strip()
    if place := place_of(error):
        reason += f" ({place})"
    return failed(message, reason, task_id)


def failed(message: str, reason: str, task_id: int) -> Outcome:
    """The message has failed, for a reason that may be none of the handler's."""
    return Outcome(reason, failure_record(message, reason, task_id))


def shorter(failures: Sequence[Failure]) -> list[Failure]:
    """The failures after a call that Redis did not take, perhaps because of their size: for large ones the message as
    it is, which Redis took once; the log says why it failed."""
    kept = []
    for message, record in failures:
        if record != message and len(record) > LARGE:
            log.warning(
                "a failed message of %d characters stands in errors as it is, for Redis did not take its record: %s",
                len(message), printable(str(read_record(record)["error"])),
            )  # fmt: skip
            record = message  # noqa: PLW2901
        kept.append((message, record))
    return kept
