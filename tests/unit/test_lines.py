"""From bytes to lines, and from lines to what a person sees of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmonitor.lines import LONGEST, readable
from gtask.lines import Lines


def fed(lines: Lines, data: bytes, size: int) -> list[bytes]:
    """The lines of this data, read in pieces of this size."""
    return [line for start in range(0, len(data), size) for line in lines.feed(data[start : start + size])]


@pytest.mark.parametrize("size", range(1, 60))
def test_lines_come_whole_however_they_are_read(size: int) -> None:
    lines = Lines()
    data = b"one\r\ntwo\n\nthree\r\r\n10 %\r20 %\r100 %\r\n\rleft\r    \rright\nfour\rrest\r"
    assert fed(lines, data, size) == [b"one", b"two", b"", b"three", b"100 %", b"right"]
    assert lines.close() == [b"rest"]
    assert lines.close() == []


@given(st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n"])), st.integers(1, 5))
def test_what_follows_the_last_return_is_the_line(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    whole = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in data.split(b"\n")]
    lines = Lines()
    assert fed(lines, data, size) == whole[:-1]
    assert lines.close() == ([whole[-1]] if whole[-1] else [])


def test_a_line_without_an_end_is_not_kept() -> None:
    lines = Lines(limit=10)
    for _ in range(1000):
        assert lines.feed(b"x" * 1000) == []
    assert lines.feed(b"y\nnext\n") == [b"x" * 10, b"next"]
    assert lines.feed(b"x" * 1000 + b"\rThe reason") == []
    assert lines.feed(b"\n") == [b"The reason"]


def test_an_unfinished_line_is_given_when_it_is_asked_for_again() -> None:
    lines = Lines()
    assert lines.unfinished() == b""
    lines.feed(b"one\nPassword: ")
    assert [lines.unfinished() for _ in range(3)] == [b"", b"Password: ", b""]
    lines.feed(b"\n10 %\r")
    assert [lines.unfinished() for _ in range(3)] == [b"", b"10 %", b""]
    lines.feed(b"20 %\r")
    assert [lines.unfinished() for _ in range(2)] == [b"20 %", b""]
    assert lines.feed(b"\nother") == [b"20 %"]
    assert lines.unfinished() == b""
    assert lines.close() == [b"other"]
    assert [lines.unfinished() for _ in range(2)] == [b"", b""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2m12:00\x1b[0m \x1b[1;38;5;208mwarning\x1b[0m no route", "12:00 warning no route"),
        ("\x1b[32mgreen\x1b(B\x1b[m", "green"),  # as `tput sgr0` ends it
        ("\x9b31mred\x9bm", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("see \x1b]8;;https://example.org\x1b\\the page\x1b]8;;\x1b\\", "see the page"),
        ("\x1bPq#0~\x1b\\picture", "picture"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1b[31", "31"),
        ("\x1b7\x1b[5;5H\x1bcx\x1b8", "x"),
        ("bell\x07 tab\t \x1b", "bell\\x07 tab\\t \\x1b"),
        ("\x1b[0m  \x1b[K", ""),
        ("漢字 é", "漢字 é"),
        ("x" * 100_000, "x" * LONGEST),
        ("\x1b[1m" * 1000 + "reason", "reason"),
    ],
)
def test_people_see_text_without_colours_and_the_like(text: str, expected: str) -> None:
    assert readable(text) == expected


@given(st.text(st.sampled_from("\x1b[]()P;:\x07\\\x9b\x9c\x90m0? a\r\n\t") | st.characters()))
def test_nothing_that_is_shown_can_move_a_cursor(text: str) -> None:
    assert readable(text).isprintable()
