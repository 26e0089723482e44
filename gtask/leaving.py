"""The last step of a program: what libraries and users' code have registered for the exit runs, for a limited time.

Returning from main would run it too, but Python waits there for threads, and those of users' code may go on for ever.
"""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from gevent.monkey import get_original

from gtask import log
from gtask.places import place_of

TIME = 3.0  # seconds for all exit functions together


def leave(code: int) -> NoReturn:
    """Ends the process with this exit code, after its exit functions; threads that go on are cut off."""
    get_original("_thread", "start_new_thread")(_leave_in_time, (code,))
    # Those of threading come first, as in Python itself. Executors end their threads and processes in them.
    for function in reversed(getattr(threading, "_threading_atexits", ())):
        try:
            function()
        except BaseException as error:  # no reason to leave out the others
            log.say(f"an exit function raised {type(error).__name__}: {error} ({place_of(error)})")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody reads it, or users' code has closed or replaced it
            stream.flush()
    _end(code)


def _leave_in_time(code: int) -> None:
    """From a native thread, because an exit function may hold up all greenlets."""
    get_original("time", "sleep")(TIME)
    log.say(f"the exit functions have not ended within {TIME:g} s; leaving without them")
    _end(code)


def _end(code: int) -> NoReturn:
    """Without the processes of multiprocessing: nobody will ever again send them work, or tell them to end."""
    processes = sys.modules.get("multiprocessing.process")
    for child in list(getattr(processes, "_children", ())):
        with suppress(OSError, TypeError):
            os.kill(child.pid, signal.SIGKILL)
    log.flush()
    os._exit(code)
