"""The signals that begin a task's end stay gtask's, whatever users' code does."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from gtask import log
from gtask.places import place_in

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_set = signal.signal  # Python's own, whatever `signal.signal` is by then
_ours: dict[int, Callable[[int, FrameType | None], None]] = {}


def own(number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    """Makes this the handler of the signal, and remembers it for `keep`."""
    _ours[number] = handler
    _set(number, handler)


def keep() -> None:
    """Sets our handlers again. C code may have replaced them without Python's knowing, as libev does in the name of
    gevent.signal_handler."""
    for number, handler in _ours.items():
        _set(number, handler)


def guard() -> None:
    """From now on users' code cannot set handlers for the signals of the end; an attempt is one line. Call it once."""
    process = os.getpid()
    said: set[str] = set()

    def set_unless_ours(number: int, handler: Any) -> Any:
        before = signal.getsignal(number)
        # What nohup has ignored stays the user's own affair, and so do the signals of a forked child, which is no task.
        if number not in ENDING or before == signal.SIG_IGN or os.getpid() != process:
            return _set(number, handler)
        place = place_in(sys._getframe(1))
        text = f"{place} sets a handler for {signal.Signals(number).name}; gtask keeps its own, which ends the task"
        if handler is not before and text not in said:
            said.add(text)
            log.say(text)
        return before

    signal.signal = set_unless_ours  # type: ignore[assignment]
