"""Where in the user's code something happened. Error lines name that place."""

import gc
import importlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from traceback import FrameSummary, StackSummary, extract_stack, extract_tb, walk_stack
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

_NOT_THEIRS = (str(Path(__file__).parent), str(Path(importlib.__file__).parent), "<frozen importlib")
# What waits for code that runs elsewhere has a local variable of this name: a function that gives the frames there.
_ELSEWHERE = "__elsewhere__"
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def place_of(error: BaseException) -> str:
    """File, line and function of the user's innermost frame in the error's traceback, as `jobs.py:7 handle`.

    "" when the error was never raised, or not in a frame that a user could look up.
    """
    return _innermost(extract_tb(error.__traceback__))


def place_in(frame: FrameType) -> str:
    """The same for a frame that is running, of this thread or another."""
    for waiting, _ in walk_stack(frame):
        if _ELSEWHERE in waiting.f_code.co_varnames:
            frames = waiting.f_locals[_ELSEWHERE]()
            return _innermost(StackSummary.extract((frame, frame.f_lineno) for frame in frames))
    return _innermost(extract_stack(frame))


def where_in(frame: FrameType | None) -> str:
    """The same where something must be said: if none of the user's code runs there, the innermost place of all."""
    if frame is None:
        return "an unknown place"
    return place_in(frame) or _text(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def frames_of(awaitable: object) -> Iterator[FrameType]:
    """The frames of a coroutine, and of what it waits for, from the outermost on."""
    while awaitable is not None:
        if (frame := _first(awaitable, "cr_frame", "ag_frame", "gi_frame")) is not None:
            yield frame
            awaitable = _first(awaitable, "cr_await", "ag_await", "gi_yieldfrom")
        else:
            # Between an async generator and whoever draws from it stands an object that hides both from one another.
            hidden = (CoroutineType, AsyncGeneratorType)
            awaitable = next((found for found in gc.get_referents(awaitable) if isinstance(found, hidden)), None)


def place_of_function(code: CodeType) -> str:
    """Where a function begins, as `jobs.py:7 handle`."""
    return _text(code.co_filename, code.co_firstlineno, code.co_name)


def place_of_suspended(iterator: object) -> str:
    """Where a generator stands that has yielded, as `jobs.py:7 generate`; "" for what is none, or has ended."""
    inner = iterator
    while isinstance(inner, GeneratorType) or hasattr(inner, "ag_frame"):
        iterator, inner = inner, getattr(inner, "gi_yieldfrom", None)
    frame = _first(iterator, "gi_frame", "ag_frame")
    return "" if frame is None else place_in(frame)


def in_brackets(place: str) -> str:
    """What an error line ends with: ` (jobs.py:7 handle)`; nothing where the place is not known."""
    return f" ({place})" if place else ""


def _first(owner: object, *names: str) -> Any:
    """The first of these attributes that is there; None when none is."""
    return next((value for name in names if (value := getattr(owner, name, None)) is not None), None)


def _innermost(frames: Iterable[FrameSummary]) -> str:
    """The place of the innermost frame in the user's own code; "" when there is none.

    That code lies neither in this package, nor in Python's machinery of imports, nor among the installed libraries. An
    application may itself be installed as a library. Then its code is what lies beside the function called first.
    """
    shown = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS) and frame.lineno is not None]
    if not shown:
        return ""
    own = [frame for frame in shown if not frame.filename.startswith(("<", *_LIBRARIES))]
    beside = [frame for frame in shown if Path(frame.filename).is_relative_to(Path(shown[0].filename).parent)]
    frame = (own or beside)[-1]
    return _text(frame.filename, frame.lineno or 0, frame.name)


def _text(filename: str, line: int, name: str) -> str:
    """A file below a directory of sys.path is named from there, which is shorter and still tells which file it is."""
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        if filename.startswith(folder.rstrip("/") + "/"):
            filename = filename[len(folder.rstrip("/")) + 1 :]
            break
    return f"{filename}:{line} {name}"
