"""Settings: three spellings, one precedence, and a clear word about each that cannot be used."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from gmonitor.cli import USAGE as GMONITORS_USAGE
from gtask.cli import USAGE
from gtask.config import DEMO, Backoff, Config, read
from gtask.exceptions import UsageError

GOOD = {
    "redis": ("redis://h:1/2", "redis://h:1/2"),
    "namespace": ("{orders}", "{orders}"),
    "generate": ("a.b:c", "a.b:c"),
    "handle": ("d:e", "d:e"),
    "cron": ("crontab.toml", "crontab.toml"),
    "interval": ("0", 0),
    "heartbeat": ("1.5", 1.5),
    "wait": ("0.5", 0.5),
    "concurrency": ("3", 3),
    "delivery": ("at-least-once", "at-least-once"),
    "max_backlog": ("7", 7),
    "retries": ("3", 3),
    "backoff": ("500ms..2m", "500ms..2m"),
    "timeout": ("2.5", 2.5),
    "grace": ("0", 0),
    "log_level": ("debug", "DEBUG"),
}


def test_every_setting_has_a_default_and_a_sample_here() -> None:
    assert set(GOOD) == {field.name for field in fields(Config)}


def test_the_defaults_are_those_of_the_specification() -> None:
    assert Config.load({}, {}) == Config(
        redis="redis://127.0.0.1:6379/0", namespace="", generate="gtask.demo:generate", handle="gtask.demo:handle",
        interval=500, heartbeat=1, wait=5, concurrency=10, delivery="at-most-once", max_backlog=0, grace=10,
        log_level="INFO", retries=0, backoff=Backoff("1s..60s"), timeout=0,
    )  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_command_line_beats_environment_beats_default(name: str) -> None:
    option, variable = "--" + name.replace("_", "-"), "GTASK_" + name.upper()
    text, value = GOOD[name]
    default = getattr(Config(), name)
    assert getattr(Config.load({option: text}, {variable: "not even valid"}), name) == value != default
    assert getattr(Config.load({option: None}, {variable: text}), name) == value
    assert getattr(Config.load({option: None}, {variable: ""}), name) == default


@pytest.mark.parametrize(
    ("generate", "pace"), [(DEMO, (500, 0)), ("jobs:generate", (0, 1000)), ("gtask.demo:other", (0, 1000))]
)
def test_the_pace_of_the_demo_is_the_source_s_and_of_ones_own_job_that_of_its_handlers(generate: str, pace) -> None:
    """By the name of `generate`, wherever it was given."""
    for config in (
        Config.load({"--generate": generate}, {"GTASK_GENERATE": "any:other"}),
        Config.load({"--generate": None}, {"GTASK_GENERATE": generate}),
        Config.of({}, {"GTASK_GENERATE": "any:other"}, generate=generate),
    ):
        assert (config.interval, config.max_backlog) == pace
    told = Config.load({"--generate": generate, "--interval": "7"}, {"GTASK_MAX_BACKLOG": "8"})
    assert (told.interval, told.max_backlog) == (7, 8)


def test_a_schedule_is_one_s_own_job_delivered_at_least_once_and_each_of_it_can_be_set() -> None:
    for config in (Config.load({"--cron": "c.toml"}, {}), Config.load({}, {"GTASK_CRON": "c.toml"})):
        assert (config.cron, config.generate, config.handle) == ("c.toml", "gtask.cron:generate", "")
        assert (config.interval, config.max_backlog, config.delivery) == (0, 1000, "at-least-once")
    told = Config.load(
        {"--cron": "c.toml", "--interval": "7"}, {"GTASK_DELIVERY": "at-most-once", "GTASK_HANDLE": "a:b"}
    )
    assert (told.interval, told.delivery, told.handle) == (7, "at-most-once", "a:b")


@pytest.mark.parametrize(
    ("line", "environ", "generate", "cron"),
    [
        ({"--cron": "c.toml"}, {"GTASK_GENERATE": "a:b"}, "gtask.cron:generate", "c.toml"),
        ({"--cron": "c.toml"}, {"GTASK_GENERATE": "a:b", "GTASK_CRON": "other.toml"}, "gtask.cron:generate", "c.toml"),
        ({"--generate": "a:b"}, {"GTASK_CRON": "c.toml"}, "a:b", ""),
        ({"--generate": DEMO}, {"GTASK_CRON": "c.toml", "GTASK_GENERATE": "a:b"}, DEMO, ""),
        ({"--cron": ""}, {"GTASK_CRON": "c.toml", "GTASK_GENERATE": "a:b"}, "a:b", ""),
    ],
)
def test_a_schedule_or_a_generate_on_the_command_line_beats_either_in_the_environment(
    line: dict[str, str], environ: dict[str, str], generate: str, cron: str
) -> None:
    config = Config.load(line, environ)
    config.check_together()
    assert (config.generate, config.cron) == (generate, cron)


def test_a_generate_in_a_call_beats_a_schedule_in_the_environment() -> None:
    config = Config.of({}, {"GTASK_CRON": "c.toml"}, generate="jobs:generate")
    config.check_together()
    assert (config.generate, config.cron, config.delivery) == ("jobs:generate", "", "at-most-once")


@pytest.mark.parametrize(
    "load",
    [
        lambda: Config.load({"--cron": "c.toml", "--generate": "a:b"}, {}),
        lambda: Config.load({}, {"GTASK_CRON": "c.toml", "GTASK_GENERATE": "a:b"}),
        lambda: Config.load({"--cron": "c.toml", "--generate": DEMO}, {}),
        lambda: Config.of({"cron": "c.toml"}, {}, generate="a:b"),
    ],
)
def test_a_schedule_and_a_generate_exclude_each_other_where_a_task_runs(load: Callable[[], Config]) -> None:
    config = load()
    with pytest.raises(UsageError, match="there can be only one"):
        config.check_together()


def test_retries_need_at_least_once_where_a_task_runs() -> None:
    config = Config.load({}, {"GTASK_RETRIES": "3"})
    with pytest.raises(UsageError, match=r"--retries 3: at-most-once .*; add --delivery at-least-once"):
        config.check_together()
    Config.load({"--delivery": "at-least-once"}, {"GTASK_RETRIES": "3"}).check_together()


@pytest.mark.parametrize(
    ("text", "first", "longest"), [("1s..60s", 1, 60), ("500ms..2m", 0.5, 120), ("3", 3, 3), ("1h..1d", 3600, 86400)]
)
def test_a_backoff_is_two_durations(text: str, first: float, longest: float) -> None:
    assert (Backoff(text).first, Backoff(text).longest) == (first, longest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("2m..1m", "longer than"), ("1w", "not a duration"), ("..", "not a duration"), ("1..2..3", "not a duration"),
     ("-1..2", "not a duration"), ("1.2.3s", "not a duration"), ("9999999d", "must be"),
     ("1-60", r"; write one, or two as in 1s\.\.60s$")],
)  # fmt: skip
def test_what_is_no_backoff_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Config.load({"--backoff": text}, {})


@pytest.mark.parametrize("name", GOOD)
def test_the_help_shows_every_option_as_the_command_line_takes_it(name: str) -> None:
    option, default = "--" + name.replace("_", "-"), getattr(Config(), name)
    assert read("gtask", USAGE, [option, "anything"])[option] == "anything"
    assert read("gtask", USAGE, [])[option] is None, "else the environment could never win"
    described = USAGE.split(f"\n  {option} ")[1].split("\n  --")[0]
    assert f"(default: {default})" in described or name in ("interval", "max_backlog") or default == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("push", "push lacks an argument; it is written gtask push [options] [--] MESSAGE..."),
        ("cron --next 3", "cron lacks an argument; it is written gtask cron FILE [--next N]"),
        ("--redis redis://h/0 push -x", "unknown, misplaced or given twice: push -x; it is written gtask "),
        ("rewind --to 5 --purge", "unknown, misplaced or given twice: --purge; it is written gtask rewind [--to "),
        ("status status", "unknown, misplaced or given twice: status; it is written gtask status "),
        ("check --redis", "--redis requires argument; it is written gtask check [options]"),
        ("--retries 1 --retries 2", "unknown, misplaced or given twice: --retries (gtask --help shows what there is)"),
        ("statsu", "unknown, misplaced or given twice: statsu (gtask --help shows what there is)"),
    ],
)
def test_a_command_that_is_written_wrong_is_answered_with_how_it_is_written(arguments: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read("gtask", USAGE, arguments.split())
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "said"), [("interval", "500 for the demo, 0"), ("max-backlog", "0 for the demo, 1000")]
)
def test_the_help_says_both_defaults_of_the_pace(name: str, said: str) -> None:
    described = " ".join(USAGE.split(f"\n  --{name} ")[1].split("\n  --")[0].split())
    assert described.endswith(f"(default: {said} for your own)")


@pytest.mark.parametrize("usage", [USAGE, GMONITORS_USAGE], ids=["gtask", "gmonitor"])
def test_the_help_fits_on_a_terminal_of_80_columns(usage: str) -> None:
    assert [line for line in usage.splitlines() if len(line) > 80] == []
    # docopt would take such a line of a description for another option.
    assert [line for line in usage.splitlines() if line.strip().startswith("-") and line.startswith(" " * 3)] == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("interval", "-1", "must be 0 or more"),
        ("interval", "soon", "not a number"),
        ("interval", "1s", "not a number of milliseconds, such as 500"),
        ("timeout", "10s", "not a number of seconds, such as 10"),
        ("interval", "nan", "not a number"),
        ("interval", "inf", "not a number"),
        ("heartbeat", "0.3", "whole seconds"),
        ("heartbeat", "0", "whole seconds"),
        ("heartbeat", "0.75", "whole seconds"),
        ("heartbeat", "nan", "not a number"),
        ("heartbeat", "-1", "whole seconds"),
        ("wait", "0", "more than 0"),
        ("concurrency", "0", "1 or more"),
        ("concurrency", "1.5", "not a whole number"),
        ("max_backlog", "-1", "0 or more"),
        ("grace", "-0.1", "0 or more"),
        ("delivery", "exactly-once", "at-most-once or at-least-once"),
        ("log_level", "LOUD", "must be"),
        ("generate", "module", "module:function"),
        ("handle", ":f", "module:function"),
        ("redis", "http://h", "redis://, rediss:// or unix://"),
        ("redis", "localhost:6379", "redis://, rediss:// or unix://"),
        ("redis", "redis://h:99999", "port"),
        ("redis", "redis://h/db", "must be a number"),
        ("redis", "unix://", "path of a socket"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_as_it_was_spelt(name: str, text: str, reason: str) -> None:
    option, variable = "--" + name.replace("_", "-"), "GTASK_" + name.upper()
    for source, call in ((option, lambda: Config.load({option: text}, {})),
                         (variable, lambda: Config.load({}, {variable: text}))):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == 64
        assert str(caught.value).startswith(f"{source} {text!r}: ")
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0.5", "1", "1.5", "2", "30"])
def test_a_heartbeat_whose_double_is_whole_seconds_is_accepted(text: str) -> None:
    assert Config.load({"--heartbeat": text}, {}).heartbeat == float(text)
