"""The failed messages: `getErrors` takes and prints them, `retryErrors` puts them back into the queue.

Both work at the head of `errors`. An entry is removed only after it was printed, or in the same step that puts its
message back into the queue; an entry that stays goes to the tail. One reader waits for the other: the right to take
entries out has a short life, and each step renews it.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from math import inf
from time import monotonic

import gevent

from gtask.exceptions import Trouble, Unanswered, Unreachable
from gtask.pace import ReplySize
from gtask.progress import Progress
from gtask.stdio import write_all
from gtask.store import REMOVE, REPLY_BYTES, RETRY, RETRY_AS_IT_IS, STAY, Store
from gtask.text import printable, read_record

log = logging.getLogger(__name__)

LOCK_SECONDS = 5
BATCH = 500
COLUMNS = (("at", 19), ("task", 6), ("message", 30))  # the error gets what is left of the line

Print = Callable[[str], str]


def get_errors(store: Store, fd: int, *, keep: bool, width: int | None, limit: float = inf) -> None:
    """Prints failed messages to `fd`, at most `limit` of them, and removes them unless `keep`. `width`: the terminal's
    columns; None: it is no terminal.

    A batch is removed after all of it was written. Raises OSError when it cannot be written. Then Redis still has
    everything that was not written, and at most one batch that was.
    """
    line = _json_line if width is None else _columns(width)
    heading = "" if width is None else _row(width, "error", *(name for name, _ in COLUMNS))

    def write(entries: Sequence[str]) -> None:
        nonlocal heading
        write_all(fd, "".join([heading, *map(line, entries)]).encode("utf-8", "backslashreplace"))
        heading = ""

    entries_from = _reading(store)

    def next_entries(start: int) -> list[str]:
        return entries_from(start, int(min(BATCH, limit - done)))

    with Progress(int(min(store.errors_length(), limit)) if width is None else 0) as progress:
        done = 0
        if keep:
            while entries := next_entries(done):
                write(entries)
                done += len(entries)
                progress.show(done)
        else:
            with _reader(store) as token:
                while entries := next_entries(0):
                    write(entries)
                    done += _resolved(store.resolve(token, LOCK_SECONDS, [(entry, REMOVE) for entry in entries]))[0]
                    progress.show(done)
    if heading:  # a person who looks at a terminal
        write_all(fd, b"no failed messages\n")


def retry_errors(store: Store, match: str | None) -> int:
    """Puts failed messages back at the tail of the queue, oldest first and each once. Returns how many.

    `match`: only those whose record contains this text, as JSON or as it reads; None: all.
    """
    retried = done = 0
    entries_from = _reading(store)
    with _reader(store) as token:
        total = store.errors_length()
        with Progress(total) as progress:
            while entries := entries_from(0, min(BATCH, total - done)):
                fates = [(entry, _fate(entry, match)) for entry in entries]
                dealt, taken = _resolved(store.resolve(token, LOCK_SECONDS, fates))
                done, retried = done + dealt, retried + taken
                progress.show(done)
    return retried


def _fate(entry: str, match: str | None) -> str:
    """What becomes of an entry, as `resolve` wants it."""
    record = read_record(entry)
    if match is not None and match not in entry and not any(match in str(value) for value in record.values()):
        return STAY
    message = str(record["message"])
    return RETRY_AS_IT_IS if message == entry else RETRY + message


def _reading(store: Store) -> Callable[[int, int], list[str]]:
    """Gives entries of `errors` from a place on, so many at most. It asks for less when an answer was lost, until not
    even one entry comes."""
    reply_size = ReplySize(REPLY_BYTES)
    told = False

    def entries(start: int, count: int) -> list[str]:
        nonlocal told
        while count > 0:
            found = None
            reply_bytes = reply_size.bytes(monotonic())
            try:
                found = store.entries(start, count, reply_bytes)
            except Unanswered:
                if reply_bytes == 1:
                    raise
                reply_size.lost(monotonic())
            if reply_bytes < REPLY_BYTES and not told:  # Redis could be asked again, so it is not away
                told = True
                log.warning("an answer of Redis was lost; asking for less at a time")
            if found is not None:
                return found
        return []

    return entries


@contextmanager
def _reader(store: Store) -> Iterator[str]:
    """Waits for the right to take entries out, and yields its token. Each step renews the right."""
    token = uuid.uuid4().hex
    told = False
    while not store.lock_errors(token, LOCK_SECONDS):
        if not told:
            log.warning("another getErrors or retryErrors is at work; waiting for it")
            told = True
        gevent.sleep(0.1)
    try:
        yield token
    finally:
        with suppress(Trouble):  # the right expires by itself
            store.unlock_errors(token)


def _resolved(answer: tuple[int, int] | None) -> tuple[int, int]:
    if answer is None:
        raise Unreachable("another getErrors has taken over, for this one stood still too long; run it again")
    return answer


def _json_line(entry: str) -> str:
    return json.dumps(read_record(entry)) + "\n"


def _columns(width: int) -> Print:
    def line(entry: str) -> str:
        record = read_record(entry)
        try:
            at = datetime.fromisoformat(str(record["at"])).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        except (KeyError, ValueError, OverflowError):
            at = ""
        error = str(record.get("error", ""))
        if attempts := record.get("attempts"):
            error = f"({attempts} attempts) {error}"
        return _row(width, error, at, str(record.get("taskId", "")), str(record["message"]))

    return line


def _row(width: int, error: str, *cells: str) -> str:
    from wcwidth import clip, ljust  # noqa: PLC0415 - its tables are large, and a task never prints rows

    parts = [ljust(clip(printable(cell), 0, size), size) for cell, (_, size) in zip(cells, COLUMNS, strict=True)]
    return clip("  ".join([*parts, printable(error)]), 0, width).rstrip() + "\n"
