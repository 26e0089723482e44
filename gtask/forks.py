"""A child that users' code forks is no second task.

`fork` copies every greenlet of ours. gevent would let them go on in the child, on sockets that belong to the parent, so
messages would be taken and lost, or handled twice. Therefore nothing of ours runs in the child any more. It gets a new
event loop, in which only what users' code does from there on takes place. Its copies of our descriptors are closed. The
parent still has them, so no server notices.
"""

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import gevent
from gevent._hub_local import set_hub, set_loop
from gevent.hub import Hub
from gevent.threadpool import _WorkerGreenlet
from greenlet import greenlet

from gtask import log, signals
from gtask.exceptions import EXIT_OK, EXIT_SOFTWARE
from gtask.places import in_brackets, place_of
from gtask.text import one_line

happened = False  # True: this process is such a child

_in_child: Callable[[], None] | None = None
_mask: set[int] = set()  # the signals that were blocked before the fork, to be restored after it


def arm(in_child: Callable[[], None]) -> None:
    """From now on children are cut off. `in_child` is called in each, to close what belongs to the parent alone."""
    global _in_child  # noqa: PLW0603 - what Python calls in a child is registered once, for the whole process
    if _in_child is None:
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_begin_child)
    _in_child = in_child


def end(error: BaseException | None = None) -> NoReturn:
    """Ends a child that has come back from generate or handle, because what follows there is the parent's work.

    `error`: what the child's code has raised; None: it has returned.
    """
    if isinstance(error, StopIteration):  # this is how a generator function returns
        error = None
    code = EXIT_OK if error is None else EXIT_SOFTWARE
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else EXIT_OK if error.code is None else EXIT_SOFTWARE
    elif error is not None:
        place = in_brackets(place_of(error))
        log.say(f"process {os.getpid()}, which generate or handle forked, ends: {one_line(error)}{place}")
    else:
        log.say(f"process {os.getpid()}, which generate or handle forked, has returned from it; it ends here. A child "
                "should end with os._exit")  # fmt: skip
    log.flush()
    os._exit(code)


def _hold_signals() -> None:
    """Blocks the signals of the end until the child is cut off.

    Until then both processes have the same pipe for signals, so the parent would read a signal that was sent to the
    child, and `child.start(); child.terminate()` would end the task.
    """
    global _mask  # noqa: PLW0603
    _mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)


def _let_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask)


def _begin_child() -> None:
    """Runs in the child, before `fork` returns there."""
    try:
        _cut_off()
    finally:
        _let_signals_through()


def _cut_off() -> None:
    global happened  # noqa: PLW0603
    if happened or _in_child is None:
        return  # this is a child of such a child, and there is nothing of ours left to cut off
    happened = True
    _in_child()
    current = greenlet.getcurrent()
    if isinstance(current, _WorkerGreenlet):
        # It was forked in a thread of gevent's pool, which would go on with the next call that the parent has queued.
        current._after_run_task = lambda *arguments: end()
    else:
        _leave_loop(current)


def _leave_loop(current: greenlet) -> None:
    """Destroys the copied event loop, with all that waits in it, and begins a new one.

    The copy cannot just be left alone: only the default loop can wait for child processes, and a process has one.
    """
    gevent.get_hub().loop.destroy()
    set_loop(None)
    set_hub(None)
    hub = Hub(default=True)
    set_hub(hub)
    root = current
    while root.parent is not None:
        root = root.parent
    if current is not root:
        hub.parent = _End(parent=root)  # reached when nothing is left to do, in the place of the copied greenlets
        current.parent = hub


class _End(greenlet):  # type: ignore[misc] # untyped
    """Where a child arrives whose last greenlet has ended."""

    def run(self, *arguments: Any) -> NoReturn:
        end()

    def throw(self, *error: Any) -> NoReturn:
        end()
