"""Errors of users' code that arrive where they do not belong, and what is said about them.

gevent throws a Timeout into the greenlet that started it, wherever that greenlet waits by then. What the handler of a
signal raises, and what sys.exit raises in any greenlet, it throws into the main greenlet.
"""

import logging
import signal
from traceback import walk_tb

import gevent

from gtask.log import say as say_last
from gtask.places import in_brackets, place_of
from gtask.text import one_line, printable

log = logging.getLogger(__name__)

_said: set[str] = set()  # kinds of errors about which a line was written


def say(error: BaseException) -> None:
    """Logs an error that reached a worker outside `handle`. Each kind is logged once, because it may come with every
    message."""
    kind = type(error).__name__
    if kind not in _said:
        _said.add(kind)
        log.warning("%s was thrown into a worker outside handle (%s); it goes on. A time limit must end with its code: "
                    "with gevent.Timeout(…): …", kind, printable(str(error)))  # fmt: skip


def thrown_into_main(error: BaseException) -> str:
    """Says what was thrown into the main greenlet, where it comes from, and what to do instead."""
    what = one_line(error)
    place = in_brackets(place_of(error))
    raised = {frame.f_code for frame, _ in walk_tb(error.__traceback__)}
    for number in signal.valid_signals():
        if getattr(signal.getsignal(number), "__code__", None) in raised:
            instead = "; for a time limit use gevent.Timeout" if number == signal.SIGALRM else ""
            return f"the handler of {signal.Signals(number).name} raised {what}{place}{instead}"
    return f"{what} was raised outside generate and handle{place}"


def broke_the_loop(error: BaseException) -> bool:
    """Whether libev's own descriptor was closed. Nothing in this process can wait any more then."""
    return isinstance(error, SystemError) and "libev" in str(error)


def say_closed(error: BaseException) -> None:
    """Says that users' code has closed descriptors of ours. All threads and greenlets that may find out say it once
    together."""
    if "closed" not in _said:
        _said.add("closed")
        say_last(f"descriptors that are not their own were closed by users' code ({error}); ending")


def mute_signal_handlers() -> None:
    """Keeps gevent from printing the traceback of what the handler of a signal raises.

    It is thrown into the main greenlet as well, where one line is said about it. It can be told from all other errors
    by its context, which is no greenlet.
    """
    hub = gevent.get_hub()
    say_of_greenlet = hub.print_exception

    def print_exception(context: object, *error: object) -> None:
        if context is not None:
            say_of_greenlet(context, *error)

    hub.print_exception = print_exception
