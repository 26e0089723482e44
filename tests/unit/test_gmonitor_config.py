"""gmonitor's settings: three spellings, one precedence, clear complaints; and its keys."""

import subprocess
import sys

import pytest

from gmonitor.cli import parse
from gmonitor.config import Config
from gtask import config, task
from gtask.exceptions import UsageError


def test_the_defaults() -> None:
    assert Config.load({}, {}) == Config(tasks=5, redis=None, plain=False, log=None, grace=15.0, command=("gtask",))


def test_a_task_with_its_own_grace_has_the_time_to_end_by_itself_though_redis_stands_still() -> None:
    assert Config.load({}, {}).grace > config.Config().grace + task.LAST_CALL + task.LAST_REPORT


@pytest.mark.parametrize(
    ("arguments", "environ", "field", "value"),
    [
        ([], {"GMONITOR_TASKS": "7"}, "tasks", 7),
        (["-n", "8"], {"GMONITOR_TASKS": "7"}, "tasks", 8),
        (["--tasks=9"], {}, "tasks", 9),
        (["--tasks", "5"], {"GMONITOR_TASKS": "7"}, "tasks", 5),  # the default, but said
        ([], {"GMONITOR_TASKS": ""}, "tasks", 5),
        ([], {"GMONITOR_PLAIN": "1"}, "plain", True),
        ([], {"GMONITOR_PLAIN": "0"}, "plain", False),
        (["--plain"], {"GMONITOR_PLAIN": "0"}, "plain", True),
        ([], {"GMONITOR_REDIS": "unix:///s"}, "redis", "unix:///s"),
        (["--redis", "redis://h"], {"GMONITOR_REDIS": "unix:///s"}, "redis", "redis://h"),
        (["--log", "file"], {}, "log", "file"),
        ([], {"GMONITOR_LOG": "file"}, "log", "file"),
        (["--grace", "0.5"], {"GMONITOR_GRACE": "3"}, "grace", 0.5),
        ([], {"GMONITOR_GRACE": "3"}, "grace", 3.0),
        (["--", "true", "-n", "3", "--", "x"], {}, "command", ("true", "-n", "3", "--", "x")),
        ([], {}, "command", (sys.executable, "-m", "gtask")),
        (["--", "gtask", "--interval", "0"], {}, "command", (sys.executable, "-m", "gtask", "--interval", "0")),
    ],
)
def test_the_command_line_beats_the_environment(
    arguments: list[str], environ: dict[str, str], field: str, value: object
) -> None:
    config = parse(arguments, environ)
    assert getattr(config, field) == value


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ({"tasks": "0"}, {}),
        ({"tasks": "-1"}, {}),
        ({"tasks": "1.5"}, {}),
        ({"tasks": "²"}, {}),
        ({"tasks": ""}, {}),
        ({}, {"GMONITOR_TASKS": "five"}),
        ({"grace": "-1"}, {}),
        ({"grace": "nan"}, {}),
        ({"grace": "soon"}, {}),
        ({"redis": "localhost"}, {}),
        ({"log": ""}, {}),
        ({}, {"GMONITOR_PLAIN": "perhaps"}),
    ],
)
def test_a_bad_value_is_named_as_it_was_spelled(options: dict[str, str], environ: dict[str, str]) -> None:
    given = {f"--{name}": value for name, value in options.items()}
    spelling, value = next(iter({**given, **environ}.items()))
    with pytest.raises(UsageError) as error:
        Config.load(given, environ)
    assert str(error.value).startswith(f"{spelling} {value!r}: ")


@pytest.mark.parametrize("module", ["gmonitor", "gmonitor.__main__", "gmonitor.cli", "gmonitor.app"])
def test_importing_patches_nothing_and_needs_no_redis(module: str) -> None:
    check = (
        f"import sys, socket, os, {module}; from gevent import monkey;"
        "assert not monkey.is_module_patched('socket'); assert 'redis' not in sys.modules, 'redis'"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
