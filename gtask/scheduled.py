"""What a task of `--cron FILE` runs: the generate of its schedule, and a handle that knows each entry."""

from collections.abc import Callable
from contextvars import copy_context

import gevent

from gtask.commands import Commands
from gtask.config import Config
from gtask.cron.crontab import Crontab, load
from gtask.cron.dispatch import dispatcher
from gtask.cron.source import source
from gtask.exceptions import UsageError
from gtask.functions import Handle, load_handle
from gtask.items import Generate
from gtask.yielding import let_others_run


def load_schedule(config: Config, clock: Callable[[], float]) -> tuple[Generate, Handle]:
    """Both functions. `clock`: Redis' time, in seconds since 1970. Raises UsageError for a file that makes no sense,
    and what `load_handle` raises."""
    crontab = load(config.cron)
    own = load_handle(config.handle) if config.handle else None
    if own is None:
        _check_that_all_have_commands(config.cron, crontab)
    commands = Commands()
    handle = dispatcher(crontab, commands.run, own.function if own else None, clock)
    new_context = own.new_context if own else copy_context().copy
    handle_one = Handle(handle, new_context, commands.end, commands.kill)
    return source(crontab, clock, gevent.sleep, let_others_run), handle_one


def _check_that_all_have_commands(path: str, crontab: Crontab) -> None:
    if idle := next((entry.name for entry in crontab if entry.command is None), None):
        raise UsageError(
            f"--cron {path}: [{idle}] has no command, so --handle module:function must say what handles it"
        )
