"""The last step of a program: the functions that libraries and users' code have registered for the exit run, but not
for ever.

Returning from main would run them too, but then Python also waits for threads, and those of users' code may never end.
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
from gtask.places import in_brackets, place_of
from gtask.standstill import within

TIME = 3.0  # seconds for all exit functions together


def leave(code: int) -> NoReturn:
    """Runs the exit functions and ends the process with this exit code. Threads that still run are cut off."""
    get_original("_thread", "start_new_thread")(_leave_in_time, (code,))
    # The functions of threading come first, as they do in Python itself. Executors use them to end their threads and
    # processes.
    for function in reversed(getattr(threading, "_threading_atexits", ())):
        try:
            function()
        except BaseException as error:  # the other functions have to run all the same
            log.say(f"an exit function raised {type(error).__name__}: {error}{in_brackets(place_of(error))}")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody may read it, and users' code may have closed or replaced it
            stream.flush()
    _end(code)


def _leave_in_time(code: int) -> None:
    """Ends the process when the time is over. A native thread does it, because an exit function may hold the loop."""
    within(TIME, get_original("time", "sleep"))
    log.say(f"the exit functions have not ended within {TIME:g} s; leaving without them")
    _end(code)


def _end(code: int) -> NoReturn:
    """Ends the process, and first those of multiprocessing, for nobody would give them work or end them after it."""
    processes = sys.modules.get("multiprocessing.process")
    for child in list(getattr(processes, "_children", ())):
        with suppress(OSError, TypeError):
            os.kill(child.pid, signal.SIGKILL)
    log.flush()
    os._exit(code)
