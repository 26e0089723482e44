"""What a task and its monitor have agreed on: the reports, and how many signals are one wish.

A report is one JSON object a line, UTF-8, ended by CRLF. Totals are absolute and only ever grow, so a lost line
costs nothing.
"""

import json
from dataclasses import dataclass

# Seconds after a signal in which further ones only repeat it. `timeout`, for example, signals its child and within the
# same millisecond the child's group. Only a later signal asks for an end without grace.
SAME_WISH = 0.5


@dataclass(frozen=True)
class CreatedTaskId:
    """The task has its id (a second one: it was taken for dead and goes on under a new id)."""

    task_id: int


@dataclass(frozen=True)
class SwitchedToGenerator:
    """The handler has become the generator; a later `Processed` means that it is a handler again."""


@dataclass(frozen=True)
class Generated:
    """How many messages this task has pushed."""

    total: int


@dataclass(frozen=True)
class Processed:
    """How many messages this task has handled, and the failures among them."""

    total: int
    errors: int


Report = CreatedTaskId | SwitchedToGenerator | Generated | Processed


@dataclass(frozen=True)
class Output:
    """A line that is no report: something the task's program printed."""

    text: str


@dataclass
class Totals:
    """What a task has done since its start, or all tasks of a fleet. Each number only grows."""

    generated: int = 0
    processed: int = 0  # failures included
    errors: int = 0

    def __str__(self) -> str:
        return f"generated {self.generated}, processed {self.processed}, errors {self.errors}"


def encode(report: Report) -> bytes:
    """The report as one line, CRLF included."""
    match report:
        case CreatedTaskId(task_id):
            fields: dict[str, object] = {"msg": "createdTaskId", "taskId": task_id}
        case SwitchedToGenerator():
            fields = {"msg": "switchedToGenerator Mode"}  # the space is in the source
        case Generated(total):
            fields = {"msg": "generated", "total": total}
        case Processed(total, errors):
            fields = {"msg": "processed", "total": total, "errors": errors}
    return json.dumps(fields).encode() + b"\r\n"


def decode(line: bytes) -> Report | Output | None:
    """One line (its end may be CRLF, LF or missing) as a report; None for one to skip.

    Skipped are empty lines, unknown `msg` values and reports whose fields are missing or no
    counts: a newer or a broken program must not stop its monitor.
    """
    text = line.rstrip(b"\r\n").decode("utf-8", "replace")
    if not text.strip():
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return Output(text)
    if not isinstance(fields, dict):
        return Output(text)
    try:
        match fields.get("msg"):
            case "createdTaskId":
                return CreatedTaskId(_count(fields["taskId"]))
            case "switchedToGenerator Mode" | "switchedToGeneratorMode":
                return SwitchedToGenerator()
            case "generated":
                return Generated(_count(fields["total"]))
            case "processed":
                return Processed(_count(fields["total"]), _count(fields["errors"]))
    except (KeyError, ValueError):
        pass  # a report that lacks what it must say is skipped, as the docstring promises
    return None


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(value)
