"""Fuzzed input: whatever children print, and whatever stands in a URL, an option or the environment.

HOSTILE_EXAMPLES=20000 tries so many examples of each kind, other ones each time.
"""

import json
import os

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gmonitor import cli as gmonitor
from gmonitor.config import Config as MonitorConfig
from gmonitor.events import Reported, Said, Started, Tick
from gmonitor.fleet import Fleet
from gmonitor.lines import condense
from gmonitor.view import cut, render
from gtask import cli as gtask
from gtask.config import Config, read
from gtask.exceptions import UsageError
from gtask.lines import LIMIT, Lines
from gtask.protocol import decode, encode
from gtask.store import Store
from gtask.text import printable
from gtask.urls import check, masked

EXAMPLES = os.environ.get("HOSTILE_EXAMPLES")
fuzzed = settings(max_examples=int(EXAMPLES or 150), derandomize=not EXAMPLES, deadline=None)

TEXT = st.text(st.characters(exclude_characters="\0"), max_size=40)  # lone surrogates are what bytes of no UTF-8 become
SPICE = st.sampled_from(["", "nan", "-inf", "1e308", "²", "٧", "9" * 5000, "-1", "0", "1_0", " 7 ", "\x1b[2J", "\udcff",
                         "os:path", "a:b", "at-least-once", "debug"])  # fmt: skip
WORD = TEXT | SPICE | st.integers().map(str) | st.floats().map(str)
SECRET = "s3cret"


# -- what children print

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda inner: st.lists(inner, max_size=3)
)
FIELDS = st.dictionaries(
    st.sampled_from(["msg", "taskId", "total", "errors", "more"]),
    VALUES | st.sampled_from(["generated", "processed", "createdTaskId", "switchedToGenerator Mode"]),
)
LINE = st.one_of(
    st.binary(max_size=200),
    FIELDS.map(lambda fields: json.dumps(fields).encode()),
    st.sampled_from([b"[" * 3000, b'{"msg": "createdTaskId", "taskId": %s}' % (b"9" * 4000), b"\x1b]0;title\x07",
                     b"x" * 9000, b'{"msg": "processed", "total": 1e999, "errors": 1}', b"\x9b2J", b"\r"]),
)  # fmt: skip
END = st.sampled_from([b"\n", b"\r\n", b"", b"\r"])
CHUNKS = st.lists(st.tuples(LINE, END).map(b"".join), max_size=20)


@fuzzed
@given(CHUNKS, st.integers(1, 200), st.integers(1, 60))
def test_whatever_children_print_is_bounded_and_drawn_without_harm(
    chunks: list[bytes], width: int, height: int
) -> None:
    fleet, streams = Fleet(), (Lines(), Lines())
    fleet.apply(Started(7), 0.0)
    for at, chunk in enumerate(chunks):
        found, said = (stream.feed(chunk) for stream in streams)
        assert all(len(line) <= LIMIT and b"\n" not in line for line in [*found, streams[0].unfinished()])
        fleet.apply(Reported(7, tuple(condense(found)), streams[0].unfinished().decode("utf-8", "replace")), float(at))
        fleet.apply(Said(7, tuple(line.decode("utf-8", "replace") for line in said)), float(at))
        fleet.apply(Tick(), float(at))
    lines = render(fleet, width, height, "keys")
    assert len(lines) in (1, height)
    for line in lines:
        assert line.text.isprintable()
        assert cut(line.text, width) == line.text
    assert str(fleet.totals).isprintable()


@fuzzed
@given(LINE)
def test_a_line_that_is_a_report_says_the_same_when_it_is_written_again(line: bytes) -> None:
    report = decode(line)
    if report is not None and not hasattr(report, "text"):
        assert decode(encode(report)) == report


# -- URLs

URL = st.one_of(
    WORD,
    st.builds(
        "{}{}:{}{}@{}{}{}".format,
        st.sampled_from(["redis://", "rediss://", "unix://", "redis:/", "http://", ""]),
        TEXT, TEXT, st.just(SECRET), st.sampled_from(["h", "[::1", "[::1]", "/run/s", "", "h" * 300]) | TEXT,
        st.sampled_from([":1/0", ":²", ":99999", "/٧", ":1"]) | TEXT,
        st.sampled_from(["", "?db=x", "?ssl_cert_reqs=none", "?socket_timeout=x", "?protocol=9", "?password=" + SECRET,
                         "?max_connections=-1", "?unknown=1", "#", "?db=" + "9" * 5000]) | TEXT,
    ),
)  # fmt: skip


@fuzzed
@given(URL)
def test_any_url_is_taken_or_refused_in_words_that_keep_the_password(url: str) -> None:
    assert SECRET not in masked(url) or SECRET not in url.partition("@")[0]
    try:
        check(url)
    except ValueError as error:
        said = str(error)
    else:
        try:
            Store(url, "")
        except UsageError as error:
            said = str(error)
        else:
            return
    assert SECRET not in said
    assert said


# -- options and the environment

GTASK = ["--" + name.replace("_", "-") for name in Config.__dataclass_fields__]
GMONITOR = ["--tasks", "--redis", "--plain", "--log", "--grace"]
VALUE = WORD | URL


def environment(prefix: str, options: list[str]) -> st.SearchStrategy[dict[str, str]]:
    names = [prefix + option[2:].upper().replace("-", "_") for option in options]
    return st.dictionaries(st.sampled_from(names), VALUE, max_size=3)


def words(options: list[str], more: list[str]) -> st.SearchStrategy[list[str]]:
    option = st.tuples(st.sampled_from(options), VALUE).flatmap(lambda o: st.sampled_from([list(o), ["=".join(o)]]))
    return st.lists(option | st.sampled_from(more).map(lambda w: [w]) | VALUE.map(lambda w: [w]), max_size=4).map(
        lambda lists: [word for words in lists for word in words]
    )


def judge(said: str) -> None:
    assert SECRET not in said
    assert len(said.splitlines()) == 1 and printable(said) == said


@fuzzed
@given(
    words(GTASK, ["getErrors", "status", "retryErrors", "--json", "--limit", "--nothing", "-", "--"]),
    environment("GTASK_", GTASK),
)
@example(["getErrors", "--limit", "²"], {})
@example(["redis://:s3cret@h:1/0'"], {})
@example(["--redis=redis://:s3cret@h/\"'", "\x1b[2J"], {})
def test_any_command_line_of_gtask_is_taken_or_refused_in_one_line(
    arguments: list[str], environ: dict[str, str]
) -> None:
    try:
        Config.load(read("gtask", gtask.USAGE, arguments), environ)
    except UsageError as error:
        judge(str(error))
    except SystemExit as end:
        if end.code:  # --help and --version end with 0
            raise


@fuzzed
@given(words(GMONITOR, ["-n", "-n5", "--", "gtask", "--nothing", "-"]), environment("GMONITOR_", GMONITOR))
def test_any_command_line_of_gmonitor_is_taken_or_refused_in_one_line(
    arguments: list[str], environ: dict[str, str]
) -> None:
    try:
        assert isinstance(gmonitor.parse(arguments, environ), MonitorConfig)
    except UsageError as error:
        judge(str(error))
    except SystemExit as end:
        if end.code:  # --help and --version end with 0
            raise
