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
    """From now on this is the signal's handler. What users' code sets instead is refused, in one line."""
    _ours[number] = handler
    _set(number, handler)


def keep() -> None:
    """Takes back what C code has taken: libev does for gevent.signal_handler, and Python does not learn of it."""
    for number, handler in _ours.items():
        _set(number, handler)


def guard() -> None:
    """Refuses, from now on, handlers that users' code sets for the signals of the end. To be called once."""
    process = os.getpid()
    said: set[str] = set()

    def set_unless_ours(number: int, handler: Any) -> Any:
        before = signal.getsignal(number)
        if number not in ENDING or before == signal.SIG_IGN or os.getpid() != process:  # nohup; a fork is no task
            return _set(number, handler)
        place = place_in(sys._getframe(1))
        text = f"{place} sets a handler for {signal.Signals(number).name}; gtask keeps its own, which ends the task"
        if handler is not before and text not in said:
            said.add(text)
            log.say(text)
        return before

    signal.signal = set_unless_ours  # type: ignore[assignment]
