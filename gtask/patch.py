"""What both programs do first of all. Importing this module changes nothing."""

# ruff: noqa: PLC0415

import os
import signal
import sys

from gtask.exceptions import EXIT_SIGNAL_BASE


def end_at_interrupt() -> None:
    """Makes Ctrl-C end the process at once, until another handler is set.

    Python's own handler raises an exception, which shows pages of traceback when it comes in the middle of an import.
    If our starter ignores the interrupt, as a shell does for what ends in `&`, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_SIGNAL_BASE + number))


def ensure_standard_files() -> list[int]:
    """Opens /dev/null for each of 0, 1 and 2 that is closed, and returns which were.

    Otherwise the next file to be opened would get that number; and libev aborts the process when it is told to watch a
    closed descriptor.
    """
    closed = []
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            closed.append(fd)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - lives as long as the process
    return closed


def patch() -> None:
    """Makes the standard library cooperative. Call it before anything is imported that opens sockets or starts threads.

    Queue stays the standard library's own, which works well on patched locks. gevent's has no `mutex` and no condition
    variables, and its `maxsize` is None where the original says 0; libraries that use these, such as watchdog, fail
    with it. SimpleQueue has to be gevent's, because the original is written in C and does not use patched locks.

    gevent announces each of its 23 steps to the plug-ins of all installed distributions, and reads the files of all of
    them each time, which took a quarter of our start. We announce the steps to subscribers in this process alone.
    """
    import queue

    import gevent.queue
    from gevent import events, monkey

    events.notify_and_call_entry_points = events.notify
    monkey.patch_all(queue=False)
    monkey.patch_item(queue, "SimpleQueue", gevent.queue.SimpleQueue)
