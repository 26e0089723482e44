"""The command line of gmonitor: usage text -> Config -> App -> exit code."""

import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import gtask
from gmonitor.app import App
from gmonitor.config import Config
from gmonitor.terminal import say
from gmonitor.watchdog import Guard
from gtask.config import read
from gtask.exceptions import EXIT_OK, EXIT_SOFTWARE, GtaskError, UsageError
from gtask.stdio import working_directory
from gtask.urls import masked

USAGE = f"""gmonitor: starts tasks, shows them live, and ends them.

Usage:
  gmonitor [options] [-- COMMAND...]

Options:
{Config.describe()}
  -h, --help           show this
  --version            show the version

COMMAND is what each task runs (default: gtask), such as
  gmonitor -n 8 -- gtask --interval 0
Keys: q ends all tasks and quits, k ends the current generator.
Each option can also be set in the environment: --tasks as GMONITOR_TASKS.
"""


def run(arguments: Sequence[str], environ: Mapping[str, str], guard: Guard) -> int:
    """Runs gmonitor and gives its exit code; errors are one line on stderr."""
    try:
        return App(parse(arguments, environ), guard, environ).run()
    except SystemExit as ended:  # the help or the version was asked for, and is printed, or nobody reads it
        return EXIT_OK if ended.code is None else int(ended.code)
    except GtaskError as error:
        say(f"gmonitor: {error}")
        return error.code
    except Exception:
        say(traceback.format_exc().rstrip())
        return EXIT_SOFTWARE


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings. Raises UsageError, and SystemExit when only a text was asked for, which is printed."""
    own, command = list(arguments), list(Config.command)
    if "--" in own:
        position = own.index("--")
        own, command = own[:position], own[position + 1 :]
        if not command:
            raise UsageError("a COMMAND must follow --")
    given = read("gmonitor", USAGE, own)
    if given["COMMAND"]:
        raise UsageError(f"unknown argument {masked(given['COMMAND'][0])!r}; a command goes behind --")
    return resolve(replace(Config.load(given, environ), command=tuple(command)))


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
