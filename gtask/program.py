"""The program as one call: `gtask.run(generate, handle)` from a `main` of one's own, and what the command line runs."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import gevent
from gevent import monkey

from gtask import log, signals
from gtask.config import DEMO, DEMO_HANDLE, Config
from gtask.exceptions import EXIT_SIGNAL_BASE, GtaskError, Trouble, UsageError
from gtask.functions import Handle, accept_generate, accept_handle
from gtask.items import Generate, UsersGenerate
from gtask.leaving import leave
from gtask.patch import ensure_standard_files
from gtask.server_clock import ServerClock
from gtask.stdio import keep_stdout_apart, watch_end_of_stdin
from gtask.store import Store
from gtask.task import Task
from gtask.watch import LoopWatch

logger = logging.getLogger(__name__)


def run(generate: UsersGenerate, handle: Callable[[str], object], **settings: object) -> NoReturn:
    """Runs one task with these two functions until a signal ends it, and then ends the process with its exit code, as
    the command `gtask` does.

    `settings` are those of `Config`, such as `max_backlog=1000`; they beat the environment (GTASK_MAX_BACKLOG), which
    beats the defaults. The process must have been patched before everything else was imported:

        from gtask.patch import patch
        patch()
    """
    leave(one_line_for_errors(lambda: _run(generate, handle, settings)))


def _run(generate: UsersGenerate, handle: Callable[[str], object], settings: dict[str, Any]) -> int:
    if not monkey.is_module_patched("socket"):
        raise UsageError("this process is not patched: begin it with `from gtask.patch import patch; patch()`, before "
                         "all other imports")  # fmt: skip
    ensure_standard_files()
    config = Config.of(settings, os.environ, generate=_name_of(generate), handle=_name_of(handle))
    log.set_up(config.log_level)
    return run_task(config, lambda: (accept_generate(generate), accept_handle(handle)))


def _name_of(function: object) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"


def one_line_for_errors(work: Callable[[], int]) -> int:
    """The exit code of `work`; an error of ours becomes one line on stderr."""
    try:
        return work()
    except GtaskError as error:
        log.say(str(error))
        return error.code
    except KeyboardInterrupt:
        return EXIT_SIGNAL_BASE + signal.SIGINT


def run_task(
    config: Config, load: Callable[[], tuple[Generate, Handle]], server_clock: ServerClock | None = None
) -> int:
    """One task, until a signal. `load` gives the user's functions, and may import their module. `server_clock`: is told
    Redis' time."""
    config.check_together()
    to_person = os.isatty(1)
    signals.guard()
    watch = LoopWatch(config.heartbeat, config.grace)
    watch.start()  # before the user's modules are imported: that may hold the loop, too
    stdout = keep_stdout_apart()  # the same: they may print
    generate, handle = load()
    log.keep_speaking()
    make_store = partial(Store, config.redis, config.namespace, heartbeat=config.heartbeat, wait=config.wait)
    look_at_server(make_store())
    if half := _half_of_demo(config):
        logger.warning(half)
    task = Task(config, make_store, generate, handle, None if to_person else stdout, watch, server_clock)
    if os.environ.get("GTASK_MONITORED") == "1":
        gevent.spawn(watch_end_of_stdin, task.end)
    try:
        return task.run()
    finally:
        watch.stop()


def _half_of_demo(config: Config) -> str:
    """What to say when one function is the user's and the other one the demo's: it may have been forgotten."""
    if config.generate == DEMO and config.handle != DEMO_HANDLE:
        return f"{config.handle} handles what the demo generates, the numbers 1, 2, 3, ...; add --generate SPEC"
    if config.generate != DEMO and config.handle == DEMO_HANDLE:
        return f"the demo handles what {config.generate} yields, and fails on purpose; add --handle SPEC"
    return ""


def look_at_server(store: Store) -> None:
    """Raises Unreachable or Refused when gtask cannot work with this Redis; warns when it may lose messages."""
    store.connect()
    store.check_commands()
    with suppress(Trouble):  # lost again: the task meets it too, and waits
        if (policy := store.eviction_policy()) not in ("", "noeviction"):
            logger.warning("Redis has maxmemory-policy %s and may evict messages; set noeviction", policy)
    store.close()
