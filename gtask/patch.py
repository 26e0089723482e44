"""What both programs do first of all. Importing this module changes nothing."""

# ruff: noqa: PLC0415

import os
import signal

from gtask.exceptions import EXIT_SIGNAL_BASE


def end_at_interrupt() -> None:
    """Lets Ctrl-C end the process at once until somebody handles it better.

    Python's own way is an exception, which in the middle of an import is pages of traceback. An interrupt that our
    starter ignores (a shell's `&`) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_SIGNAL_BASE + number))


def patch() -> None:
    """Makes the standard library cooperative. To be called before whatever opens sockets or starts threads is imported.

    gevent's own Queue is not the standard library's: it has no `mutex` and no condition variables, and its `maxsize`
    is None where the original says 0. Libraries that build on those (watchdog) die of it, while the original works
    well on patched locks. SimpleQueue is written in C and knows no patched lock, so that one has to be gevent's.
    """
    import queue

    import gevent.queue
    from gevent import monkey

    monkey.patch_all(queue=False)
    monkey.patch_item(queue, "SimpleQueue", gevent.queue.SimpleQueue)
