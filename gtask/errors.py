"""The failed messages: `getErrors` takes and prints them, `retryErrors` puts them back into the queue.

Both work on `errors` where it is: an entry is removed only after it was printed, or in the step that queues it again.
A lock with a short life, renewed while its holder works, makes one reader wait for another.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import gevent

from gtask.exceptions import Trouble, Unreachable
from gtask.protocol import printable
from gtask.stdio import write_all
from gtask.store import Store

log = logging.getLogger(__name__)

LOCK_SECONDS = 5
BATCH = 500
COLUMNS = (("at", 19), ("task", 6), ("message", 30))  # the error gets what is left of the line

Print = Callable[[str], str]


def get_errors(store: Store, fd: int, *, keep: bool, width: int | None) -> None:
    """Prints all failed messages to `fd` and removes them, unless `keep`. `width`: of a terminal, else None.

    Each batch is removed after all of it was written. Raises OSError when it cannot be; what is in Redis
    then is everything that was not written, and at most one batch that was.
    """
    line = _json_line if width is None else _columns(width)
    if width is not None:
        write_all(fd, _row(width, "error", *(name for name, _ in COLUMNS)).encode())
    with _reader(store, alone=not keep) as token:
        for start, entries in _batches(store, advance=keep):
            write_all(fd, "".join(map(line, entries)).encode("utf-8", "backslashreplace"))
            if not keep:
                _settled(store.settle(token, start, list(map(_encoded, entries)), _tombstone()))


def retry_errors(store: Store, match: str | None) -> int:
    """Puts failed messages back at the tail of the queue, oldest first, each once: all of them, or those
    whose record contains `match`, as JSON or as it reads. Returns how many."""
    retried = start = 0
    with _reader(store, alone=True) as token:
        last = store.errors_length()
        while start < last and (entries := store.entries(start, BATCH)[: last - start]):
            stays = _tombstone()
            chosen = [_encoded(entry if match is None or _contains(entry, match) else stays) for entry in entries]
            messages = [_message(entry) for entry in entries]
            removed = _settled(store.settle(token, start, chosen, stays, messages))
            retried += removed
            start, last = start + len(entries) - removed, last - removed
    return retried


def _contains(entry: str, text: str) -> bool:
    return text in entry or any(text in str(value) for value in _record(entry).values())


def _batches(store: Store, *, advance: bool) -> Iterator[tuple[int, list[str]]]:
    """Entries from the head, in batches bounded in number and bytes."""
    start = 0
    while entries := store.entries(start, BATCH):
        yield start, entries
        start += len(entries) if advance else 0


@contextmanager
def _reader(store: Store, *, alone: bool) -> Iterator[str]:
    """The right to take entries out, waited for and kept alive; its token."""
    token = uuid.uuid4().hex
    if not alone:
        yield token
        return
    told = False
    while not store.lock_errors(token, LOCK_SECONDS):
        if not told:
            log.warning("another getErrors or retryErrors is at work; waiting for it")
            told = True
        gevent.sleep(0.1)

    def renew() -> None:
        while True:
            gevent.sleep(LOCK_SECONDS / 5)
            with suppress(Trouble):  # who works meanwhile meets it too
                store.lock_errors(token, LOCK_SECONDS)

    renewing = gevent.spawn(renew)
    try:
        yield token
    finally:
        renewing.kill()
        store.unlock_errors(token)


def _settled(removed: int | None) -> int:
    if removed is None:
        raise Unreachable("another getErrors has taken over, for this one stood still too long; run it again")
    return removed


def _tombstone() -> str:
    return "gtask:removed:" + uuid.uuid4().hex


def _record(entry: str) -> dict[str, object]:
    """The entry's record. What another program wrote becomes one with that as its message."""
    try:
        record = json.loads(entry)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) and isinstance(record.get("message"), str) else {"message": entry}


def _message(entry: str) -> bytes:
    return str(_record(entry)["message"]).encode("utf-8", "surrogateescape")


def _encoded(entry: str) -> bytes:
    return entry.encode("utf-8", "surrogateescape")


def _json_line(entry: str) -> str:
    return json.dumps(_record(entry)) + "\n"


def _columns(width: int) -> Print:
    def line(entry: str) -> str:
        record = _record(entry)
        try:
            at = datetime.fromisoformat(str(record["at"])).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        except (KeyError, ValueError, OverflowError):
            at = ""
        return _row(width, str(record.get("error", "")), at, str(record.get("taskId", "")), str(record["message"]))

    return line


def _row(width: int, error: str, *cells: str) -> str:
    from wcwidth import clip, ljust  # noqa: PLC0415 - its tables are large, and a task never prints rows

    parts = [ljust(clip(printable(cell), 0, size), size) for cell, (_, size) in zip(cells, COLUMNS, strict=True)]
    return clip("  ".join([*parts, printable(error)]), 0, width).rstrip() + "\n"
