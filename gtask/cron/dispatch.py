"""The handle of `--cron`: a message goes to its entry's command, or to the user's own handle."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from gtask.cron.crontab import Crontab
from gtask.cron.message import parse
from gtask.inside import Reject, Retry

AGAIN = 30.0  # seconds until a message comes again whose entry this task's file does not have
KNOWN_BY_THEN = 86_400.0  # seconds after its tick in which some task's file must have the entry


class Run(Protocol):
    """Runs a command, and raises when it has failed."""

    def __call__(self, words: tuple[str, ...], *, name: str, message: str, tick: str, timeout: float | None) -> None:
        """`timeout` in seconds, None: it may run for ever."""


def dispatcher(
    crontab: Crontab, run: Run, handle: Callable[[str], object] | None, clock: Callable[[], float]
) -> Callable[[str], object]:
    """The function that the workers call. `handle`: for entries without a command, and for what is no tick; None: the
    file has no such entries. `clock`: Redis' time, in seconds since 1970."""

    def dispatch(message: str) -> object:
        try:
            name, tick = parse(message)
        except ValueError:
            if handle is None:
                raise
            return handle(message)
        entry = crontab.get(name)
        if entry is None:
            raise _unknown(name, tick, clock())
        if entry.command is not None:
            run(entry.command, name=name, message=message, tick=tick.isoformat(), timeout=entry.timeout or None)
            return None
        if handle is None:
            raise Reject(f"[{name}] has no command, and there is no --handle")
        return handle(message)

    return dispatch


def _unknown(name: str, tick: datetime, now: float) -> Retry | Reject:
    """During a rolling deploy another task has the entry in its file; but some task must have it at last."""
    if now - tick.timestamp() > KNOWN_BY_THEN:
        return Reject(f"there is no entry [{name}] in the file, for a day after it was due")
    return Retry(f"there is no entry [{name}] in this task's file; another one may have it", after=AGAIN)
