"""What users' functions can say and ask while gtask runs them: `raise Retry(...)`, `raise Reject(...)`, `current()`.
And what is thrown into a handler that takes too long."""

from collections.abc import Callable
from contextvars import Context, ContextVar

LONGEST_WAIT = 1_000_000_000  # seconds


class Retry(Exception):
    """Raise it in `handle` to have the message again later. This is no failure, so `--retries` does not count it."""

    __module__ = "gtask"  # where users import it from, and what their records of failures name

    def __init__(self, *why: object, after: float | None = None) -> None:
        """`after`: in how many seconds, from 0 on; None: after the wait that `--backoff` has for this attempt.

        Raises ValueError for what is no such number.
        """
        super().__init__(*why)
        if after is not None and not 0 <= after <= LONGEST_WAIT:
            raise ValueError(f"Retry(after={after!r}): seconds from 0 to {LONGEST_WAIT:,} are meant")
        self.after = after


class Reject(Exception):
    """Raise it in `handle`, with the reason, to have the message in `errors` at once, whatever `--retries` says."""

    __module__ = "gtask"


class TimedOut(BaseException):
    """Is thrown into a handler that takes longer than `--timeout`, where it waits. `place`: where that is, as
    `jobs.py:7 handle`; "" when it is not known.

    No Exception, because users' `except Exception:` is not meant to catch it. What closes things in `finally:` runs.
    """

    __module__ = "gtask"

    def __init__(self, seconds: float, place: str = "") -> None:
        super().__init__(seconds, place)
        self.seconds = seconds
        self.place = place

    def __str__(self) -> str:
        return f"time-out: not handled within --timeout {self.seconds:g}"


class Current:
    """The call in which users' code runs. Each property is asked for when it is read, since a task may get a new id."""

    def __init__(
        self, *, task_id: Callable[[], int], attempt: Callable[[], int] | None = None, term: int | None = None
    ) -> None:
        """`attempt`: of a handler, None when it handles nothing just now; `term`: of a generator."""
        self._task_id = task_id
        self._attempt = attempt
        self._term = term

    @property
    def task_id(self) -> int:
        """The present id of this task."""
        return self._task_id()

    @property
    def attempt(self) -> int:
        """In `handle`: 1 when the message is handled for the first time, as far as is known; 2, 3, … after retries.
        Equal messages share the count. Raises RuntimeError elsewhere."""
        if self._attempt is None:
            raise RuntimeError("gtask.current().attempt is known in handle only")
        return self._attempt()

    @property
    def term(self) -> int:
        """In `generate`: the number of its term. Each term has a higher one than all before it, so a store of the
        user's own can refuse what a generator of an older term writes. Raises RuntimeError elsewhere."""
        if self._term is None:
            raise RuntimeError("gtask.current().term is known in generate only")
        return self._term


_here: ContextVar[Current] = ContextVar("gtask.current")


def current() -> Current:
    """What is known of the call of `generate` or `handle` in which this runs, also in threads and coroutines that got a
    copy of its context. Raises RuntimeError elsewhere."""
    try:
        return _here.get()
    except LookupError:
        raise RuntimeError("gtask.current() is known only in generate and handle, while gtask runs them") from None


def enter(known: Current) -> None:
    """From now on, in this context, it is this that `current` returns."""
    _here.set(known)


def hand_on(context: Context) -> None:
    """In that context `current` returns what it returns here."""
    known = _here.get(None)
    if known is not None:
        context.run(_here.set, known)
