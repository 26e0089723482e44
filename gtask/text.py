"""Text on its way: as bytes, in one line, on a terminal, and in the records of failed messages.

A message may be any bytes, while users' functions and JSON know only text. Bytes that are no UTF-8 become surrogate
escapes there (`\\udc80` for the byte 0x80), so that each comes back as the byte that it was.
"""

import json
from datetime import UTC, datetime
from traceback import format_exception_only

NO_UTF8 = "surrogateescape"  # what Python calls this way of keeping such bytes in a str

_FIELDS = {"message": str, "error": str, "taskId": int, "at": str | int | None}
_MORE = {"attempts": int}  # only where there was more than one


def to_bytes(text: str) -> bytes:
    """The bytes that the text stands for. Raises UnicodeEncodeError for a lone surrogate that stands for no byte.

    Whatever may hold users' text goes to redis-py as bytes. A str would be encoded by hiredis, which knows nothing of
    surrogate escapes and raises an error, whatever redis-py's own settings say.
    """
    return text.encode("utf-8", NO_UTF8)


def to_text(data: bytes) -> str:
    """The text that stands for the bytes, whatever they are."""
    return data.decode("utf-8", NO_UTF8)


def shortened(text: str, longest: int) -> str:
    """The text, or as many of its first characters and a sign that there are more."""
    return text if len(text) <= longest else text[:longest] + "…"


def printable(text: str) -> str:
    """The text with every character that could move a cursor or ring a bell escaped (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: BaseException) -> str:
    """An error with its notes, as `ValueError: no`. The code that a SyntaxError quotes is left out: it is indented."""
    return " ".join(" ".join(line for line in format_exception_only(error) if line[:2] != "  ").split())


def failure_record(message: str, error: str, task_id: int, attempts: int = 1) -> str:
    """An entry of `errors`: what failed, why, with whom, when (UTC), and after how many attempts."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    more = {"attempts": attempts} if attempts > 1 else {}
    return json.dumps({"message": message, "error": error, "taskId": task_id, "at": at, **more})


def read_record(entry: str) -> dict[str, object]:
    """What an entry of `errors` says. It is a record of ours when it has exactly our fields, of our types; everything
    else is another program's message, which may well be JSON with a field "message"."""
    try:
        record = json.loads(entry)
    except (ValueError, RecursionError):
        record = None
    ours = isinstance(record, dict) and record.keys() - _MORE.keys() == _FIELDS.keys()
    ours = ours and all(isinstance(value, (_FIELDS | _MORE)[name]) for name, value in record.items())
    return record if ours else {"message": entry}
