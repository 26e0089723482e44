"""gmonitor: starts tasks, shows them live, and ends them.

Usage:
  gmonitor [options] [-- COMMAND...]

Options:
  -n N, --tasks N      how many tasks to start [default: 5]
  --redis URL          the Redis of the tasks, who get it as GTASK_REDIS; if none is named here or in their own
                       settings, and none listens on 127.0.0.1:6379, gmonitor starts a Valkey of its own
  --plain              event lines instead of the screen (also when stdout is no terminal)
  --log FILE           where the tasks' stderr goes, each line with its task's pid
  --grace SECONDS      how long the tasks may take to end before they are killed [default: 12]
  -h, --help           this text
  --version            the version

COMMAND is what each task runs [default: gtask], e.g. gmonitor -n 8 -- gtask --interval 0
Keys: q ends all tasks and quits, k ends the current generator.
Each option can also be set by the environment: GMONITOR_TASKS, GMONITOR_LOG, …
"""

import re
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from docopt import DocoptExit, docopt

import gtask
from gmonitor.app import App
from gmonitor.config import Config, load
from gmonitor.guard import Guard
from gmonitor.writer import say
from gtask.exceptions import EXIT_SOFTWARE, GtaskError, UsageError
from gtask.stdio import working_directory
from gtask.urls import masked

# docopt would take a default for something given, and then the environment could never win.
USAGE = re.sub(r" \[default: .+?\]", "", __doc__)


def run(arguments: Sequence[str], environ: Mapping[str, str], guard: Guard) -> int:
    """Runs gmonitor and gives its exit code; errors are one line on stderr."""
    try:
        config = parse(arguments, environ)
        return App(config, guard, environ).run() if config else 0
    except GtaskError as error:
        say(f"gmonitor: {error}")
        return error.code
    except Exception:
        say(traceback.format_exc().rstrip())
        return EXIT_SOFTWARE


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Config | None:
    """The settings; None when only a text was asked for, which is printed. Raises UsageError."""
    own, command = list(arguments), []
    if "--" in own:
        position = own.index("--")
        own, command = own[:position], own[position + 1 :]
        if not command:
            raise UsageError("a COMMAND must follow --")
    try:
        options = docopt(USAGE, own, default_help=False)
    except DocoptExit as error:
        raise UsageError(f"{_complaint(str(error), own)}; gmonitor --help shows what there is") from None
    if options["--help"]:
        print(__doc__, end="")
        return None
    if options["--version"]:
        print(gtask.__version__)
        return None
    if options["COMMAND"]:
        raise UsageError(f"unknown argument {masked(options['COMMAND'][0])!r}; a command goes behind --")
    names = ("tasks", "redis", "log", "grace")
    given = {name: options[f"--{name}"] for name in names}
    config = load({**given, "plain": "1" if options["--plain"] else None}, environ, tuple(command))
    return resolve(config)


def resolve(config: Config) -> Config:
    """The configuration with a command that can be run: gtask is the one that belongs to this gmonitor.

    It is started as the installed command would be: -P keeps the current directory, and a random.py in it, from
    being imported in the place of the standard library; functions named on the command line are found there all
    the same. Only a gtask that is nowhere but in the current directory (a checkout) needs that directory first.
    """
    name, *rest = config.command
    if name == "gtask":
        installed = [] if Path(gtask.__file__).parents[1] == working_directory() else ["-P"]
        return replace(config, command=(sys.executable, *installed, "-m", "gtask", *rest))
    if shutil.which(name) is None:
        raise UsageError(f"cannot find the command {masked(name)!r}, or may not run it")
    return config


def _complaint(message: str, arguments: Sequence[str]) -> str:
    """docopt's complaint as one short line."""
    first = message.partition("\n")[0]
    unknown = re.search(r"Option\((.+?), (.+?), ", first)
    if unknown:
        names = {name.strip("'") for name in unknown.groups()}
        word = next((word for word in arguments if word.split("=")[0] in names), next(iter(names)))
        return f"unknown or repeated option {masked(word)}"
    return first
