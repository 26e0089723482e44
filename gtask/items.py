"""What the user's functions give back, whatever calls them. Pure.

Generate yields a message, or a pair of a message (None: there is none) and the position after it. Handle may yield
messages that follow from its own. What it returns is of no interest.
"""

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from gtask.places import in_brackets, place_of_suspended
from gtask.text import to_bytes

Item = str | bytes | tuple[str | bytes | None, str | bytes]
Generate = Callable[[str | None], Iterable[Item]]
UsersGenerate = Generate | Callable[[str | None], AsyncIterator[Item]]

# All follow-ups of a message go to Redis in one step. No single one is too large for Redis then.
MOST_FOLLOWUPS = 1000
MOST_FOLLOWUP_BYTES = 1 << 20

# A function with async returns one of these, and nothing of it runs until somebody iterates or awaits it.
_NOT_RUN = (CoroutineType, AsyncGeneratorType)


class NoMessage(Exception):
    """What generate or handle yielded is no message, or one too many; the text ends the sentence "it yielded ..."."""


def is_no_stream(result: object) -> bool:
    """Whether generate has returned what was never meant as messages, though it can be iterated (a text)."""
    return result is None or isinstance(result, (str, bytes, bytearray, memoryview, Mapping))


def encoded(item: object) -> tuple[bytes | None, bytes | None]:
    """The message (None: a position alone) and the position (None: the message is its own). Raises NoMessage, and
    UnicodeEncodeError for a lone surrogate."""
    if isinstance(item, tuple):
        return _encoded_pair(item)
    return _message(item), None


def _message(item: object) -> bytes:
    data = to_bytes(item) if isinstance(item, str) else item
    if not isinstance(data, bytes):
        raise NoMessage(f"{type(item).__name__}; a message is str or bytes")
    return data


def _encoded_pair(pair: tuple[Any, ...]) -> tuple[bytes | None, bytes]:
    if len(pair) != 2:
        raise NoMessage(f"a tuple of {len(pair)}; beside a message stands its position, and nothing else")
    message, position = (to_bytes(part) if isinstance(part, str) else part for part in pair)
    if message is not None and not isinstance(message, bytes):
        raise NoMessage(f"{type(message).__name__} beside a position; a message is str or bytes, or None")
    if not isinstance(position, bytes):
        raise NoMessage(f"a position of type {type(position).__name__}; it is str or bytes")
    return message, position


class Followups:
    """The messages that follow from one, as they are yielded; they are checked one by one."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._bytes = 0

    def add(self, item: object) -> None:
        """Raises NoMessage."""
        try:
            data = _message(item)
        except UnicodeEncodeError as error:
            raise NoMessage(f"a str that is no text: {error}") from error
        self._bytes += len(data)
        if len(self.messages) == MOST_FOLLOWUPS or self._bytes > MOST_FOLLOWUP_BYTES:
            raise NoMessage(f"more than one step takes, {MOST_FOLLOWUPS:,} messages or {MOST_FOLLOWUP_BYTES:,} bytes; "
                            "send a follow-up that continues")  # fmt: skip
        self.messages.append(data)


def drained(handling: Generator[object, None, object]) -> list[bytes]:
    """The messages that a `handle` with a yield brings. It runs while they are drawn, to its end, or until it has
    yielded what it must not: then it is closed. Raises what it raises, and ValueError."""
    followups = Followups()
    for item in handling:
        try:
            followups.add(item)
        except NoMessage as error:
            place = in_brackets(place_of_suspended(handling))
            with suppress(Exception):  # the first error is the one to tell
                handling.close()
            raise ValueError(f"handle yielded {error}{place}") from error
    return followups.messages


def check_result(result: object) -> None:
    """Raises TypeError when `handle` has returned something that still has to be run, which nobody does."""
    if isinstance(result, _NOT_RUN) or hasattr(type(result), "__await__"):
        if isinstance(result, CoroutineType):
            result.close()  # otherwise Python complains that nobody has awaited it
        raise TypeError(f"handle returned a {type(result).__name__}, which nobody runs; gtask runs what is itself an "
                        "async def")  # fmt: skip
