"""What the user's functions give back, whatever calls them. Pure.

Generate yields a message, or a pair of a message (None: there is none) and the position after it. What handle returns
is of no interest.
"""

from collections.abc import Callable, Iterable, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from gtask.text import to_bytes

Item = str | bytes | tuple[str | bytes | None, str | bytes]
Generate = Callable[[str | None], Iterable[Item]]

# A function with async or yield returns one of these, and nothing of it runs until somebody iterates or awaits it.
_NOT_RUN = (CoroutineType, GeneratorType, AsyncGeneratorType)


class NoMessage(Exception):
    """What generate yielded is no message; the text ends the sentence "generate yielded ..."."""


def is_no_stream(result: object) -> bool:
    """Whether generate has returned what was never meant as messages, though it can be iterated (a text)."""
    return result is None or isinstance(result, (str, bytes, bytearray, memoryview, Mapping))


def encoded(item: object) -> tuple[bytes | None, bytes | None]:
    """The message (None: a position alone) and the position (None: the message is its own). Raises NoMessage, and
    UnicodeEncodeError for a lone surrogate."""
    if isinstance(item, tuple):
        return _encoded_pair(item)
    data = to_bytes(item) if isinstance(item, str) else item
    if not isinstance(data, bytes):
        raise NoMessage(f"{type(item).__name__}; a message is str or bytes")
    return data, None


def _encoded_pair(pair: tuple[Any, ...]) -> tuple[bytes | None, bytes]:
    if len(pair) != 2:
        raise NoMessage(f"a tuple of {len(pair)}; beside a message stands its position, and nothing else")
    message, position = (to_bytes(part) if isinstance(part, str) else part for part in pair)
    if message is not None and not isinstance(message, bytes):
        raise NoMessage(f"{type(message).__name__} beside a position; a message is str or bytes, or None")
    if not isinstance(position, bytes):
        raise NoMessage(f"a position of type {type(position).__name__}; it is str or bytes")
    return message, position


def check_result(result: object) -> None:
    """Raises TypeError when `handle` has returned something that still has to be run, which nobody does."""
    if isinstance(result, _NOT_RUN) or hasattr(type(result), "__await__"):
        if isinstance(result, CoroutineType | GeneratorType):
            result.close()  # otherwise Python complains that nobody has awaited it
        raise TypeError(f"handle returned a {type(result).__name__}, which nobody runs; async is not supported")
