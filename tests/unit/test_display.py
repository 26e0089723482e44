"""The two displays on paper: what is written, and what is not written again."""

import re

import pytest

from gmonitor.display import TOTALS_EVERY, Live, Plain
from gmonitor.events import Ended, Said, Started
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

    def write_within(self, data: bytes, seconds: float) -> bytes:
        self.write(data)
        return b""

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


def test_what_stays_on_the_terminal_says_why_the_first_task_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("gmonitor.terminal.start_output", lambda fd: None)
    paper, fleet = Paper(), Fleet()
    live = Live(Screen(paper, None, "utf-8", lambda message: None), fleet, lambda action: None, lambda error: None)
    live.open()
    for pid in (101, 102, 103, 104):
        fleet.apply(Started(pid), 0.0)
        fleet.apply(Said(pid, (f"reason\a of {pid}" + "!" * 10_000,)), 0.0)
    fleet.apply(Ended(101, 0), 0.0)
    fleet.apply(Ended(102, 64), 0.0)
    fleet.apply(Ended(103, 69), 0.0)
    live.ending("")
    live.close()
    reason, sums = paper.tear_off().decode().splitlines()[-2:]
    assert re.search(r"gmonitor: pid 102 ended: exit 64: reason\\x07 of 102!{400,500}$", reason)
    assert sums == "gmonitor: 4 tasks, generated 0, processed 0, errors 0"


def test_tasks_that_were_told_to_end_leave_no_reason_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("gmonitor.terminal.start_output", lambda fd: None)
    paper, fleet = Paper(), Fleet()
    live = Live(Screen(paper, None, "utf-8", lambda message: None), fleet, lambda action: None, lambda error: None)
    live.open()
    fleet.apply(Started(101), 0.0)
    live.ending("")
    fleet.apply(Said(101, ("interrupted",)), 0.0)
    fleet.apply(Ended(101, 130), 0.0)
    live.close()
    assert b"interrupted" not in paper.tear_off()
