"""The two displays on paper: what is written, and what is not written again."""

import re

import pytest

from gmonitor.display import TOTALS_EVERY, Plain
from gmonitor.fleet import Fleet
from gmonitor.terminal import Screen, Writer
from gmonitor.view import Line


class Paper(Writer):
    """A writer that keeps what it is given; no terminal."""

    fd = -1

    def __init__(self) -> None:
        self.written = b""

    def open(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def watch(self, gone: object) -> None:
        pass

    def tear_off(self) -> bytes:
        written, self.written = self.written, b""
        return written


def test_lines_tell_the_totals_each_10_seconds_and_at_the_end() -> None:
    paper = Paper()
    plain = Plain(paper, Fleet(), lost=lambda error: None)
    plain.open()
    for _ in range(2 * TOTALS_EVERY + 5):
        plain.tick()
    plain.close()
    assert TOTALS_EVERY == 10
    assert re.fullmatch(rb"(\d\d:\d\d:\d\d totals: generated 0, processed 0, errors 0\n){3}", paper.written)


def test_the_screen_is_drawn_where_something_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    paper = Paper()
    screen = Screen(paper, None, "utf-8", lambda message: None)
    assert screen.enter()

    def drawn(*texts: str) -> list[bytes]:
        screen.draw([Line(text) for text in texts], (80, 24))
        return re.findall(rb"first|second|third|other", paper.tear_off())

    assert drawn("first", "second", "third") == [b"first", b"second", b"third"]
    assert drawn("first", "second", "third") == []
    assert drawn("first", "other", "third") == [b"other"]
    screen.forget()
    assert drawn("first", "other", "third") == [b"first", b"other", b"third"]
