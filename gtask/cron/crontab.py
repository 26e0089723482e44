"""The file of `--cron`: TOML -> entries. Whatever is wrong with it is one line, which says where."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gtask.config import duration
from gtask.cron.message import LONGEST_NAME, is_name
from gtask.cron.ticks import Cron, Every, Schedule
from gtask.exceptions import UsageError
from gtask.text import printable, shortened

LATEST, ALL, SKIP = "latest", "all", "skip"
MISSED = (LATEST, ALL, SKIP)
WITHIN = 86_400  # seconds, by default
SHOWN = 60  # characters of a value
FIELDS = ("cron", "every", "command", "missed", "within", "timezone", "timeout")

_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
_OPERATOR = re.compile(r"[|&;()]+|.*;|[0-9]*[<>].*|&>.*")
_VARIABLE = re.compile(r"\$[A-Za-z_]\w*|\$[{(]|`")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Entry:
    """One table of the file. Durations are in seconds.

    `command`: its words; None: `--handle` handles the entry. `missed`: what becomes of ticks that could not be fired in
    time: LATEST fires the newest, ALL each, SKIP none. `within`: an older tick is never fired. `timeout`: how long the
    command may run, None: as long as `--timeout` says.
    """

    name: str
    cron: str | None
    every: int | None
    command: tuple[str, ...] | None
    missed: str
    within: int
    zone: str
    timeout: float | None
    schedule: Schedule = field(compare=False, repr=False)


@dataclass(frozen=True)
class Crontab:
    """The entries of a file, by their names and in their order."""

    entries: Mapping[str, Entry]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def get(self, name: str) -> Entry | None:
        """None: the file has no such entry."""
        return self.entries.get(name)


def load(path: str) -> Crontab:
    """Raises UsageError in one line for a file that cannot be read, and for everything in it that makes no sense."""
    try:
        return read(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        why = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UsageError(f"{path}: {printable(why)}") from None


def read(text: str) -> Crontab:
    """The entries of a text. Raises ValueError, which names the entry and the field."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        twice = re.fullmatch(r"Cannot declare \('([^']*)',\) twice(.*)", str(error))
        raise ValueError(f"there are two entries {twice[1]}{twice[2]}" if twice else f"no TOML: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    zone = _zone(tables.pop("timezone", "UTC"), "timezone")
    entries = {name: _entry(name, table, zone) for name, table in tables.items()}
    if not entries:
        raise ValueError('it has no entry, such as [report] with cron = "30 2 * * *"')
    return Crontab(entries)


def _entry(name: str, table: object, zone: ZoneInfo) -> Entry:
    if not isinstance(table, dict):
        raise ValueError(f"{_shown(name)} is no entry, and the only setting outside of entries is timezone")
    if not is_name(name):
        raise ValueError(f"[{name}]: a name has letters, digits, _ - and ., up to {LONGEST_NAME}, and nothing else")
    try:
        return _checked(name, table, zone)
    except ValueError as error:
        raise ValueError(f"[{name}] {error}") from None


def _checked(name: str, table: dict[str, Any], default_zone: ZoneInfo) -> Entry:
    for key, value in table.items():
        if key not in FIELDS:
            quoted = f'; a name with a dot is quoted: ["{name}.{key}"]' if isinstance(value, dict) else ""
            raise ValueError(f"has no field {_shown(key)}; there are {', '.join(FIELDS)}{quoted}")
    cron, every = table.get("cron"), table.get("every")
    if (cron is None) == (every is None):
        raise ValueError("must have either cron or every" + ("" if cron is None else ", and not both"))
    zone = _zone(table["timezone"], "timezone") if "timezone" in table else default_zone
    seconds = None if every is None else _whole_seconds("every", every)
    timeout = _seconds("timeout", table["timeout"]) if "timeout" in table else None
    command = _command(table["command"]) if "command" in table else None
    if timeout is not None and command is None:
        raise ValueError("timeout is for commands; for --handle there is the option --timeout")
    return Entry(
        name, cron, seconds, command, _missed(table.get("missed", LATEST)),
        _whole_seconds("within", table["within"]) if "within" in table else WITHIN,
        zone.key, timeout, Every(seconds) if seconds else _cron(cron, zone),
    )  # fmt: skip


def _cron(value: object, zone: ZoneInfo) -> Cron:
    text = _text("cron", value)
    try:
        return Cron(text, zone)
    except ValueError as error:
        raise ValueError(f"cron {_shown(value)}: {error}") from None


def _zone(value: object, what: str) -> ZoneInfo:
    name = _text(what, value)
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # not found, a folder, a path
        raise ValueError(f"{what} {_shown(name)}: there is no such zone, as Europe/Berlin and UTC are") from None


def _missed(value: object) -> str:
    if value not in MISSED:
        raise ValueError(f"missed {_shown(value)}: must be {', '.join(MISSED[:-1])} or {MISSED[-1]}")
    return str(value)


def _command(value: object) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"command {_shown(value)}: {str(error).lower()}") from None
    if isinstance(value, str) and (found := _for_a_shell(value)):
        raise ValueError(f"command {_shown(value)}: no shell runs it, so {found} would be handed on as it is; write "
                         """["sh", "-c", "..."], or put it into '...'""")  # fmt: skip
    if not (isinstance(words, list) and words and all(isinstance(word, str) and "\0" not in word for word in words)):
        raise ValueError(f"command {_shown(value)}: must be a command line, or a list of its words")
    return tuple(words)


def _for_a_shell(line: str) -> str:
    """What means something to a shell alone, in the first word that has such a thing; "" when there is none. Quoted
    text is left out, but for variables in double quotes."""
    bare = _QUOTED.sub(lambda quoted: "_" + "".join(_VARIABLE.findall(quoted[0])) if quoted[0][0] == '"' else "_", line)
    for number, word in enumerate(bare.split()):
        if variable := _VARIABLE.search(word):
            return variable[0]
        if _OPERATOR.fullmatch(word) or (number == 0 and _ASSIGNMENT.match(word)):
            return word
    return ""


def _whole_seconds(what: str, value: object) -> int:
    seconds = _seconds(what, value)
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f"{what} {_shown(value)}: must be whole seconds, at least 1")
    return int(seconds)


def _seconds(what: str, value: object) -> float:
    try:
        if type(value) not in (str, int, float):
            raise ValueError("must be text or a number")
        return duration(str(value))
    except ValueError as error:
        raise ValueError(f"{what} {_shown(value)}: {error}") from None


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} {_shown(value)}: must be text")
    return value


def _shown(value: object) -> str:
    return shortened(repr(value), SHOWN)
