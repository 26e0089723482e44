"""The file of `--cron`: what it may say, and the one line for everything else."""

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtask.cron import crontab
from gtask.exceptions import UsageError

EVERY_FIELD = """
timezone = "Europe/Berlin"

[report]
cron = "30 2 * * *"
command = "python -c 'print(1)' --day=today"
missed = "all"
within = "6h"
timezone = "America/New_York"
timeout = "10m"

[poll]
every = "10s"

["a.dotted_name-7"]
cron = "@daily"
command = ["echo", "a b"]
every = 60
""".replace("every = 60\n", "")

MACROS = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
LONG = "x" * 65
BAD = {
    "": 'it has no entry, such as [report] with cron = "30 2 * * *"',
    'timezone = "UTC"': 'it has no entry, such as [report] with cron = "30 2 * * *"',
    "what is this": "no TOML: Expected '=' after a key in a key/value pair (at line 1, column 6)",
    '[a]\nevery = "1s"\n[a]\nevery = "2s"': "there are two entries a (at line 3, column 3)",
    "a = " + "[" * 5000: "it is nested too deeply",
    "colour = 1": "'colour' is no entry, and the only setting outside of entries is timezone",
    "[a]": "[a] must have either cron or every",
    '[a]\nevery = "1s"\ncron = "* * * * *"': "[a] must have either cron or every, and not both",
    '[a]\nevery = "1s"\nmised = "all"': (
        "[a] has no field 'mised'; there are cron, every, command, missed, within, timezone, timeout"
    ),
    '[a.b]\nevery = "1s"': (
        "[a] has no field 'b'; there are cron, every, command, missed, within, timezone, timeout; "
        'a name with a dot is quoted: ["a.b"]'
    ),
    # names
    '["a@b"]\nevery = "1s"': "[a@b]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    '["a b"]\nevery = "1s"': "[a b]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    '[""]\nevery = "1s"': "[]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    '["ü"]\nevery = "1s"': "[ü]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    '["a\\n"]\nevery = "1s"': "[a\\n]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    f'[{LONG}]\nevery = "1s"': f"[{LONG}]: a name has letters, digits, _ - and ., up to 64, and nothing else",
    # cron
    '[a]\ncron = "0 0 31 2 *"': "[a] cron '0 0 31 2 *': bad day-of-month",
    '[a]\ncron = "61 * * * *"': "[a] cron '61 * * * *': bad minute",
    '[a]\ncron = "* * * * FOO"': "[a] cron '* * * * FOO': bad day-of-week",
    '[a]\ncron = "* * * * MON#1/2"': "[a] cron '* * * * MON#1/2': bad day-of-week",
    '[a]\ncron = "0 0 */30 * MON#3"': "[a] cron '0 0 */30 * MON#3': there is no such date",
    '[a]\ncron = "* * *"': f"[a] cron '* * *': it must have 5 fields, 6 with seconds, or be one of {MACROS}",
    '[a]\ncron = "@reboot"': f"[a] cron '@reboot': it must have 5 fields, 6 with seconds, or be one of {MACROS}",
    "[a]\ncron = 5": "[a] cron 5: must be text",
    f'[a]\ncron = "{"1" * 6000} * * * *"': f"[a] cron '{'1' * 59}…: it cannot be read",
    # every
    '[a]\nevery = "0s"': "[a] every '0s': must be whole seconds, at least 1",
    '[a]\nevery = "500ms"': "[a] every '500ms': must be whole seconds, at least 1",
    '[a]\nevery = "1.5s"': "[a] every '1.5s': must be whole seconds, at least 1",
    '[a]\nevery = "-1s"': "[a] every '-1s': not a duration (500ms, 1s, 10m, 6h, 1d)",
    '[a]\nevery = "soon"': "[a] every 'soon': not a duration (500ms, 1s, 10m, 6h, 1d)",
    "[a]\nevery = true": "[a] every True: must be text or a number",
    "[a]\nevery = nan": "[a] every nan: not a duration (500ms, 1s, 10m, 6h, 1d)",
    '[a]\nevery = "99999999999999d"': "[a] every '99999999999999d': must be 1,000,000,000 or less",
    # zones
    'timezone = "Mars/Base"\n[a]\nevery = "1s"': (
        "timezone 'Mars/Base': there is no such zone, as Europe/Berlin and UTC are"
    ),
    "timezone = 3": "timezone 3: must be text",
    '[timezone]\nevery = "1s"': "timezone {'every': '1s'}: must be text",
    **{
        f'[a]\nevery = "1s"\ntimezone = "{name}"': f"[a] timezone {name!r}: there is no such zone, as Europe/Berlin "
        "and UTC are"
        for name in ("Mars/Base", "", "Europe", "/etc/passwd", "../../etc/passwd", "a" * 40)
    },
    # the rest
    '[a]\nevery = "1s"\nmissed = "some"': "[a] missed 'some': must be latest, all or skip",
    '[a]\nevery = "1s"\nmissed = ["all"]': "[a] missed ['all']: must be latest, all or skip",
    '[a]\nevery = "1s"\nwithin = "0s"': "[a] within '0s': must be whole seconds, at least 1",
    '[a]\nevery = "1s"\ncommand = ""': "[a] command '': must be a command line, or a list of its words",
    '[a]\nevery = "1s"\ncommand = []': "[a] command []: must be a command line, or a list of its words",
    '[a]\nevery = "1s"\ncommand = [1]': "[a] command [1]: must be a command line, or a list of its words",
    '[a]\nevery = "1s"\ncommand = "a \\u0000"': (
        "[a] command 'a \\x00': must be a command line, or a list of its words"
    ),
    '[a]\nevery = "1s"\ncommand = "say \'hi"': '[a] command "say \'hi": no closing quotation',
    '[a]\nevery = "1s"\ncommand = "true"\ntimeout = "long"': (
        "[a] timeout 'long': not a duration (500ms, 1s, 10m, 6h, 1d)"
    ),
    '[a]\nevery = "1s"\ntimeout = "1s"': "[a] timeout is for commands; for --handle there is the option --timeout",
}


def test_a_file_with_every_field() -> None:
    report, poll, dotted = crontab.read(EVERY_FIELD)
    assert (report.name, report.cron, report.every, report.missed) == ("report", "30 2 * * *", None, "all")
    assert report.command == ("python", "-c", "print(1)", "--day=today")
    assert (report.within, report.zone, report.timeout) == (6 * 3600, "America/New_York", 600)
    assert (poll.every, poll.cron, poll.command, poll.timeout) == (10, None, None, None)
    assert (poll.missed, poll.within, poll.zone) == ("latest", 86_400, "Europe/Berlin")
    assert (dotted.name, dotted.command) == ("a.dotted_name-7", ("echo", "a b"))


@pytest.mark.parametrize(("text", "line"), BAD.items(), ids=[line[:60] for line in BAD.values()])
def test_bad_input_is_one_line_that_says_where(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "crontab.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        crontab.load(str(file))
    assert str(refused.value) == f"{file}: {line}"
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes("[a]\n# é".encode("latin-1"))
    for name, why in {"missing": "No such file or directory", "": "Is a directory", "latin1": "it is no UTF-8"}.items():
        with pytest.raises(UsageError) as refused:
            crontab.load(f"{tmp_path}/{name}")
        assert str(refused.value) == f"{tmp_path}/{name}: {why}"


FIELD = st.text("0123456789*/,-LW#", max_size=6) | st.sampled_from(["*", "SUN", "JAN-MAR", "1#2", "5L", "*/7"])
VALUES = st.text(max_size=20) | st.integers() | st.floats() | st.booleans() | st.lists(st.text(max_size=5), max_size=3)


@given(st.lists(FIELD, min_size=5, max_size=6).map(" ".join), st.sampled_from(["UTC", "Europe/Berlin"]))
@settings(deadline=None)
def test_whatever_stands_for_a_cron_line_has_ticks_or_is_refused(line: str, zone: str) -> None:
    try:
        [entry] = crontab.read(f'[a]\ncron = "{line}"\ntimezone = "{zone}"')
    except ValueError as error:
        why = str(error)
        assert why.startswith("[a] cron ")
    else:
        assert 0 < next(entry.schedule.after(0)) < next(entry.schedule.after(2**31), 2**40)


@given(st.dictionaries(st.sampled_from(crontab.FIELDS), VALUES, min_size=1), st.booleans())
def test_whatever_stands_in_a_field_is_taken_or_refused(fields: dict[str, object], valid: bool) -> None:
    fields = {"every": "1s"} | fields if valid else fields
    table = "\n".join(f"{name} = {toml(value)}" for name, value in fields.items())
    try:
        [entry] = crontab.read(f"[a]\n{table}")
    except ValueError as error:
        why = str(error)
        assert "[a]" in why
    else:
        assert entry.within >= 1


def toml(value: object) -> str:
    """A value as the file has it."""
    match value:
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
        case bool() | float():
            return str(value).lower()
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("date | cat", "|"), ("a && b", "&&"), ("a || b", "||"), ("a & b", "&"), ("cd x; a", "x;"), ("a ; b", ";"),
        ("a > f", ">"), ("a >f", ">f"), ("a 2>&1", "2>&1"), ("a < f", "<"), ("a &>f", "&>f"), ("a >> 'f'", ">>"),
        ("a $HOME/b", "$HOME"), ('a "at $GTASK_TICK"', "$GTASK_TICK"), ("a $(b)", "$("), ("a `b`", "`"),
        ("a ${B}", "${"), ("A=1 b", "A=1"),
    ],
)  # fmt: skip
def test_what_only_a_shell_would_understand_is_refused(line: str, word: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"no shell runs it, so {word} would be handed on")) as caught:
        crontab.read(f"[a]\nevery = '1s'\ncommand = {json.dumps(line)}")
    assert '["sh", "-c", "..."]' in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "curl http://host/?a=1&b=2;c", "grep 'a | b' file", "find . -exec rm {} \\;", 'a "|" ">"', r"a \$HOME \| b",
        "a '$HOME'", "date +%X", "a --pattern=x$", "sh -c 'a | b; echo $HOME'",
        "a B=1", "a \"it's\" b 'c | d'", "costs $5",
    ],
)  # fmt: skip
def test_what_a_shell_would_take_as_it_is_is_accepted(line: str) -> None:
    [entry] = crontab.read(f"[a]\nevery = '1s'\ncommand = {json.dumps(line)}")
    assert entry.command == tuple(shlex.split(line))


def test_a_list_of_words_is_taken_as_it_is() -> None:
    [entry] = crontab.read("[a]\nevery = '1s'\ncommand = ['a', '|', '$HOME']")
    assert entry.command == ("a", "|", "$HOME")
