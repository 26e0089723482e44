"""The settings of both programs: a table of options for each, and one loader for both tables.

A setting is `--max-backlog` on the command line, `GTASK_MAX_BACKLOG` in the environment and `Config.max_backlog` here.
The command line beats the environment, and the environment beats the default.
"""

import ast
import io
import logging
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, Self

from docopt import DocoptExit, docopt

from gtask import __version__, urls
from gtask.exceptions import EXIT_READER_GONE, Unwritable, UsageError
from gtask.text import printable

LARGEST = 1_000_000_000  # seconds, or milliseconds: what clocks, sockets and Redis can still count
COUNTABLE = 10**18  # Redis counts in 64 bits
AT_MOST_ONCE, AT_LEAST_ONCE = "at-most-once", "at-least-once"
UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # seconds
SECONDS, MILLISECONDS = "seconds, such as 10", "milliseconds, such as 500"
DEMO = "gtask.demo:generate"  # whoever names another one runs a job of one's own
DEMO_HANDLE = "gtask.demo:handle"
CRON = "gtask.cron:generate"  # what --cron generates by
WIDTH = 80  # columns of the help text
NO_BREAK = "\N{NO-BREAK SPACE}"  # where a line of it must not end
GUTTER = 23  # columns before the descriptions of options

# docopt names what it could not place as the repr of its own objects; the text in them has either kind of quotes.
_UNPLACED = re.compile(r"""(?:Option|Argument)\((?:None, )?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")

Parser = Callable[[str], Any]  # raises ValueError with the reason


def option(default: Any, parse: Parser, value: str, text: str, short: str = "", own: Any = None) -> Any:
    """A row of a table of options. `value`: what the help calls its value, empty for a switch; `short`: such as -n;
    `own`: the default for one's own job, where that of the demo would not do."""
    return field(default=default, metadata={"parse": parse, "value": value, "text": text, "short": short, "own": own})


class Settings:
    """What the settings of both programs share. A subclass is a frozen dataclass, and its options are its table."""

    prefix: ClassVar[str]  # of the names in the environment

    @classmethod
    def load(cls, arguments: Mapping[str, Any], environ: Mapping[str, str], **more: Any) -> Self:
        """The settings of a command line (docopt's `--option` keys) and an environment; `more` beats both.

        Raises UsageError, which names the setting as the user wrote it.
        """
        line, environment = dict(more), {}
        for row in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            if row.name in more:
                continue
            name, variable = _long(row.name), cls.prefix + row.name.upper()
            given = arguments.get(name)
            if given is not None and given is not False:  # False: docopt's word for a switch that is not there
                line[row.name] = value_of(name, row.metadata["parse"], str(given))
            elif "parse" in row.metadata and environ.get(variable):
                environment[row.name] = value_of(variable, row.metadata["parse"], environ[variable])
        for name in cls.overruled(line):
            environment.pop(name, None)
        told = environment | line
        return cls(**cls.defaults(told) | told)

    @classmethod
    def overruled(cls, line: Mapping[str, Any]) -> set[str]:
        """The settings whose place another one has on this command line, so that the environment's do not count."""
        return set()

    @classmethod
    def defaults(cls, told: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that follow from what was told, and so are not those of the table."""
        return {}

    @classmethod
    def of(cls, settings: Mapping[str, object], environ: Mapping[str, str], **more: Any) -> Self:
        """The settings of a call, by their names here; `more` beats all. Raises UsageError, as `load` does."""
        names = {row.name for row in fields(cls) if row.name not in more}  # type: ignore[arg-type]
        if unknown := settings.keys() - names:
            raise UsageError(f"there is no setting {min(unknown)}; there are {', '.join(sorted(names))}")
        return cls.load({_long(name): value for name, value in settings.items()}, environ, **more)

    @classmethod
    def describe(cls) -> str:
        """The table of options as the help shows it, and as docopt reads it."""
        lines = []
        for row in fields(cls):  # type: ignore[arg-type]
            if "parse" in row.metadata:
                names = filter(None, (row.metadata["short"], _long(row.name)))
                spelt = ", ".join(f"{name} {row.metadata['value']}".rstrip() for name in names)
                lines += textwrap.wrap(
                    row.metadata["text"] + _default(row),
                    WIDTH,
                    initial_indent=f"  {spelt}  ".ljust(GUTTER),
                    subsequent_indent=" " * GUTTER,
                    break_on_hyphens=False,
                )
        return "\n".join(lines).replace(NO_BREAK, " ")


def _default(row: "Field[Any]") -> str:
    """What the help says of it."""
    if row.default in ("", None) or row.default is False:
        return ""
    own = row.metadata["own"]
    both = "" if own is None else f" for the demo, {own} for your own"
    return f" (default:{NO_BREAK}{row.default}{both})"


def _long(name: str) -> str:
    return "--" + name.replace("_", "-")


def value_of(source: str, parse: Parser, text: str) -> Any:
    """The value of a setting. Raises UsageError, which names its `source` and hides what may be a password."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{source} {urls.masked(text)!r}: {error}") from None


def read(program: str, usage: str, arguments: Sequence[str]) -> dict[str, Any]:
    """docopt's arguments. Raises UsageError in one line, and SystemExit when the help or the version was printed (or
    nobody reads it), or Unwritable."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            return dict(docopt(usage, list(arguments), version=f"{program} {__version__}"))
    except DocoptExit as error:
        first = str(error).split("\n", 1)[0]
        command, spelt = _command(program, usage, arguments)
        if unplaced := [ast.literal_eval(word) for word in _UNPLACED.findall(first)]:
            words = " ".join(printable(urls.masked(word)) for word in unplaced)
            once = command is not None and list(arguments).count(command) == 1
            lacking = once and command in unplaced and all(word in spelt for word in unplaced)
            first = f"{command} lacks an argument" if lacking else f"unknown, misplaced or given twice: {words}"
        elif first.startswith(("Usage", "Warning")):
            first = "unknown or misplaced arguments"
        raise UsageError(first + (spelt or f" ({program} --help shows what there is)")) from None
    except SystemExit:
        _write(printed.getvalue().encode())
        raise


def _write(data: bytes) -> None:
    """Writes to stdout at once. What Python keeps in a buffer may turn out to be unwritable only when it ends, and then
    it says so in words of its own."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        raise SystemExit(EXIT_READER_GONE) from None
    except OSError as error:
        raise Unwritable(f"cannot write: {error.strerror}") from None


def _command(program: str, usage: str, arguments: Sequence[str]) -> tuple[str | None, str]:
    """The command among the arguments, and the end of a message that says how the usage spells it."""
    for word in filter(str.isalpha, arguments):
        if line := re.search(rf"^  ({program} {word} .*)$", usage, flags=re.MULTILINE):
            return word, f"; it is written {line[1]}"
    return None, ""


def number(text: str, unit: str = SECONDS) -> float:
    """A time that can be waited for. What is no number is answered with the unit, for it may have one of its own."""
    try:
        parsed = float(text)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise ValueError(f"not a number of {unit}")
    if abs(parsed) > LARGEST:
        raise ValueError(f"must be {LARGEST:,} or less")
    return parsed


def not_negative(text: str, unit: str = SECONDS) -> float:
    """The same, from 0 on."""
    if (parsed := number(text, unit)) < 0:
        raise ValueError("must be 0 or more")
    return parsed


def positive(text: str) -> float:
    """The same, but for 0."""
    if (parsed := number(text)) <= 0:
        raise ValueError("must be more than 0")
    return parsed


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` on."""

    def parse(text: str) -> int:
        try:
            parsed = int(text)
        except ValueError:
            raise ValueError("not a whole number") from None
        if parsed < least:
            raise ValueError(f"must be {least} or more")
        if parsed >= COUNTABLE:
            raise ValueError("too large to be counted")
        return parsed

    return parse


def duration(text: str) -> float:
    """Seconds, from a number with a unit (`500ms`, `1s`, `10m`, `6h`, `1d`) or without one, which means seconds."""
    found = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+) ?(ms|s|m|h|d|)", text.strip())
    if not found:
        raise ValueError("not a duration (500ms, 1s, 10m, 6h, 1d)")
    seconds = not_negative(found[1]) * UNITS[found[2]]
    if seconds > LARGEST:
        raise ValueError(f"must be {LARGEST:,} s or less")
    return seconds


class Backoff(str):
    """How long a failed message waits: `first` seconds after its first failure, twice as long after each further one,
    and never longer than `longest`. Written as `1s..60s`."""

    first: float
    longest: float

    def __new__(cls, text: str) -> Self:
        """Raises ValueError."""
        self = super().__new__(cls, text)
        first, dots, longest = text.partition("..")
        try:
            self.first = duration(first)
            self.longest = duration(longest) if dots else self.first
        except ValueError as error:
            raise ValueError(f"{error}; write one, or two as in 1s..60s") from None
        if self.first > self.longest:
            raise ValueError("the first wait is longer than the longest one")
        return self


def _heartbeat(text: str) -> float:
    parsed = number(text)
    if parsed < 0.5 or not (2 * parsed).is_integer():
        raise ValueError("twice the heartbeat must be whole seconds, at least 1 (0.5, 1, 1.5, …)")
    return parsed


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


@dataclass(frozen=True)
class Config(Settings):
    """What one gtask process was told. Durations are in seconds, except `interval` (milliseconds)."""

    prefix = "GTASK_"

    redis: str = option("redis://127.0.0.1:6379/0", urls.check, "URL", "redis://, rediss:// or unix://")
    namespace: str = option("", str, "NAME", "put before every key, so that several jobs can share one Redis")
    generate: str = option(DEMO, _function, "SPEC", "module:function that yields messages")
    handle: str = option(DEMO_HANDLE, _function, "SPEC", "module:function that handles one message")
    cron: str = option(
        "",
        str,
        "FILE",
        "generates by the schedule in this TOML file (docs/cron.md), and delivers at-least-once; then --handle is for "
        "entries without a command",
    )
    interval: float = option(
        500,
        partial(not_negative, unit=MILLISECONDS),
        "MS",
        "milliseconds between two generated messages, 0 = none",
        own=0,
    )
    heartbeat: float = option(
        1,
        _heartbeat,
        "SECONDS",
        "how often a task says that it lives: 0.5, 1, 1.5, ...; a takeover takes at most twice this",
    )
    wait: float = option(5, positive, "SECONDS", "how long one BLPOP or BLMOVE waits for a message")
    concurrency: int = option(10, whole(1), "N", "how many messages this process handles at once")
    delivery: str = option(
        AT_MOST_ONCE,
        _one_of(AT_MOST_ONCE, AT_LEAST_ONCE),
        "MODE",
        "at-most-once (BLPOP): a crash loses what is in hand; at-least-once (BLMOVE): it is handled again by another "
        "task",
    )
    max_backlog: int = option(0, whole(0), "N", "the generator pauses while N messages wait, 0 = never", own=1000)
    retries: int = option(
        0, whole(0), "N", "how often a message that failed is handled again before it is in errors (at-least-once)"
    )
    backoff: Backoff = option(
        Backoff("1s..60s"), Backoff, "RANGE", "how long it waits before that; each failure doubles it"
    )
    timeout: float = option(
        0,
        not_negative,
        "SECONDS",
        "a handler that takes longer has failed, and is interrupted where it waits; 0 = never",
    )
    grace: float = option(
        10, not_negative, "SECONDS", "how long a task that is told to end may finish what it has in hand"
    )
    log_level: str = option("INFO", _log_level, "LEVEL", "DEBUG, INFO, WARNING, ERROR")

    @classmethod
    def overruled(cls, line: Mapping[str, Any]) -> set[str]:
        """--generate and --cron are two answers to one question."""
        return {other for name, other in (("generate", "cron"), ("cron", "generate")) if line.get(name)}

    @classmethod
    def defaults(cls, told: Mapping[str, Any]) -> dict[str, Any]:
        """The demo keeps the source's pace. One's own job goes as fast as its messages are handled. A schedule is one's
        own job, and none of its ticks is to be lost."""
        if told.get("cron"):
            return cls.defaults({"generate": CRON}) | {"generate": CRON, "handle": "", "delivery": AT_LEAST_ONCE}
        if told.get("generate", cls.generate) == DEMO:
            return {}
        return {row.name: row.metadata["own"] for row in fields(cls) if row.metadata["own"] is not None}

    def check_together(self) -> None:
        """Raises UsageError when no task can run with these settings together. Other commands do not mind: the settings
        may be those of the task beside which they are called."""
        if self.cron and self.generate != CRON:
            raise UsageError(f"--generate {self.generate} and --cron {self.cron}: there can be only one")
        if self.retries and self.delivery == AT_MOST_ONCE:
            raise UsageError(f"--retries {self.retries}: at-most-once delivery takes a message out of Redis, so it "
                             f"cannot come again; add --delivery {AT_LEAST_ONCE}")  # fmt: skip
