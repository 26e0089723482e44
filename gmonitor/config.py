"""All settings and their defaults; each has three spellings: --tasks, GMONITOR_TASKS, Config.tasks."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gtask.exceptions import UsageError
from gtask.urls import check, masked

SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Config:
    """What a run of gmonitor needs to know; change a default here and nowhere else."""

    tasks: int = 5
    redis: str | None = None  # None: GTASK_REDIS as it is, else the usual port, else an embedded server
    plain: bool = False
    log: str | None = None
    grace: float = 12.0  # a little more than a task's own, so that a task ends by itself if it can
    command: tuple[str, ...] = ("gtask",)


def load(options: Mapping[str, str | None], environ: Mapping[str, str], command: tuple[str, ...] = ()) -> Config:
    """The settings: the command line beats the environment, the environment beats the defaults.

    `options` holds only what was given, by its long name without the dashes. Raises UsageError.
    """
    command_line = {name: (f"--{name}", value) for name, value in options.items() if value is not None}
    spellings = {name: f"GMONITOR_{name.upper()}" for name in PARSERS}
    environment = {name: (key, environ[key]) for name, key in spellings.items() if environ.get(key)}
    settings = ChainMap(command_line, environment)
    values: dict[str, Any] = {name: PARSERS[name](*settings[name]) for name in settings}
    if command:
        values["command"] = command
    return Config(**values)


def _tasks(spelling: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 18 or int(value) < 1:
        raise UsageError(f"{spelling}: {masked(value)!r} is no number of tasks; it must be a whole number from 1 up")
    return int(value)


def _grace(spelling: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise UsageError(f"{spelling}: {masked(value)!r} is no time; it must be a number of seconds from 0 up")
    return seconds


def _redis(spelling: str, value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise UsageError(f"{spelling}: {masked(value)!r} is no Redis URL: {error}") from None


def _plain(spelling: str, value: str) -> bool:
    if value.lower() not in SWITCH:
        raise UsageError(f"{spelling}: {masked(value)!r} is neither 1 nor 0")
    return SWITCH[value.lower()]


def _log(spelling: str, value: str) -> str:
    if not value:
        raise UsageError(f"{spelling}: the name of a file is missing")
    return value


PARSERS: dict[str, Callable[[str, str], Any]] = {
    "tasks": _tasks,
    "redis": _redis,
    "plain": _plain,
    "log": _log,
    "grace": _grace,
}
