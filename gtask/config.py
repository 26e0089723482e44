"""All settings of gtask and their defaults: one place, three spellings.

A setting is `--max-backlog` on the command line, `GTASK_MAX_BACKLOG` in the environment and
`Config.max_backlog` here. The command line beats the environment, the environment these defaults.
"""

import logging
import math
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from gtask import urls
from gtask.exceptions import UsageError

LARGEST = 1_000_000_000  # seconds, or milliseconds: what clocks, sockets and Redis can still count
DELIVERIES = ("at-most-once", "at-least-once")


@dataclass(frozen=True)
class Config:
    """What one gtask process was told. Durations are in seconds, except `interval` (milliseconds)."""

    redis: str = "redis://127.0.0.1:6379/0"
    namespace: str = ""
    generate: str = "gtask.demo:generate"
    handle: str = "gtask.demo:handle"
    interval: float = 500
    heartbeat: float = 1
    wait: float = 5
    concurrency: int = 10
    delivery: str = "at-most-once"
    max_backlog: int = 0
    grace: float = 10
    log_level: str = "INFO"

    @classmethod
    def load(cls, arguments: Mapping[str, Any], environ: Mapping[str, str]) -> "Config":
        """The settings of a command line (docopt's `--option` keys) and an environment.

        Raises UsageError, which names the setting as the user wrote it.
        """
        spelt = {field.name: "--" + field.name.replace("_", "-") for field in fields(cls)}
        given = {name: (arguments[key], key) for name, key in spelt.items() if arguments.get(key) is not None}
        variables = {name: "GTASK_" + name.upper() for name in spelt}
        exported = {name: (environ[key], key) for name, key in variables.items() if environ.get(key)}
        values = {}
        for name, (text, source) in ChainMap(given, exported).items():
            try:
                values[name] = _PARSERS[name](text)
            except ValueError as error:
                raise UsageError(f"{source} {urls.masked(text)!r}: {error}") from None
        return cls(**values)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(number):
        raise ValueError("not a number")
    if abs(number) > LARGEST:
        raise ValueError(f"must be {LARGEST:,} or less")
    return number


def _not_negative(text: str) -> float:
    if (number := _number(text)) < 0:
        raise ValueError("must be 0 or more")
    return number


def _positive(text: str) -> float:
    if (number := _number(text)) <= 0:
        raise ValueError("must be more than 0")
    return number


def _heartbeat(text: str) -> float:
    number = _number(text)
    if number < 0.5 or not (2 * number).is_integer():
        raise ValueError("twice the heartbeat must be whole seconds, at least 1 (0.5, 1, 1.5, …)")
    return number


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("not a whole number") from None
        if number < least:
            raise ValueError(f"must be {least} or more")
        return number

    return parse


def _function(text: str) -> str:
    module, colon, function = text.partition(":")
    if not (module and colon and all(map(str.isidentifier, function.split(".")))):
        raise ValueError("must be module:function")
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("must be " + " or ".join(choices))
        return text

    return parse


def _log_level(text: str) -> str:
    return _one_of(*(name for name in logging.getLevelNamesMapping() if name != "NOTSET"))(text.upper())


_PARSERS: dict[str, Callable[[str], Any]] = {
    "redis": urls.check,
    "namespace": str,
    "generate": _function,
    "handle": _function,
    "interval": _not_negative,
    "heartbeat": _heartbeat,
    "wait": _positive,
    "concurrency": _count(1),
    "delivery": _one_of(*DELIVERIES),
    "max_backlog": _count(0),
    "grace": _not_negative,
    "log_level": _log_level,
}
