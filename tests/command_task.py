"""A task whose messages are commands, for tests: `NAME TIMEOUT COMMAND…`, in the words of a shell.

OUTPUT_WAITS in the environment: for so many seconds a command's output waits for whoever reads our stderr.
The message `fork` makes a child that lives on, and `hold` holds the event loop until the named pipe "pipe" is written.
"""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

from gtask.patch import patch

patch()

from gtask import commands as module  # noqa: E402
from gtask import log  # noqa: E402
from gtask.cli import USAGE  # noqa: E402
from gtask.commands import Commands  # noqa: E402
from gtask.config import Config, read  # noqa: E402
from gtask.functions import Handle  # noqa: E402
from gtask.leaving import leave  # noqa: E402
from gtask.program import one_line_for_errors, run_task  # noqa: E402

module.PATIENCE = float(os.environ.get("OUTPUT_WAITS", module.PATIENCE))
commands = Commands()


def generate(last: str | None) -> Iterator[str]:
    return iter(())


def handle(message: str) -> None:
    if message == "fork":
        if os.fork() == 0:
            Path("forked").touch()
            time.sleep(600)
        return
    if message == "hold":
        Path("holding").touch()
        with open("pipe"):
            return
    name, timeout, *words = shlex.split(message)
    commands.run(words, name=name, message=message, tick="2026-11-24T02:30:00+00:00", timeout=float(timeout) or None)


def main() -> int:
    config = Config.load(read("gtask", USAGE, sys.argv[1:]), os.environ)
    log.set_up(config.log_level)
    return run_task(config, lambda: (generate, Handle(handle, copy_context().copy, commands.end, commands.kill)))


if __name__ == "__main__":
    leave(one_line_for_errors(main))
