"""Who handles a message of a schedule."""

from datetime import UTC, datetime

import pytest

from gtask import Reject, Retry
from gtask.cron.crontab import read
from gtask.cron.dispatch import dispatcher

TABLE = read('[backup]\nevery = "1m"\ncommand = "tar c /"\ntimeout = "5m"\n[poll]\nevery = "10s"\n'
             '[quick]\nevery = "1s"\ncommand = "true"\ntimeout = 0')  # fmt: skip
TICK = "2026-11-24T02:30:00+00:00"
NOW = datetime(2026, 11, 24, 2, 30, 1, tzinfo=UTC).timestamp()


class Calls:
    def __init__(self) -> None:
        self.commands: list[tuple] = []
        self.handled: list[str] = []

    def run(self, words, *, name, message, tick, timeout) -> None:
        self.commands.append((words, name, message, tick, timeout))

    def handle(self, message: str) -> str:
        self.handled.append(message)
        return "result"


def test_an_entry_s_command_runs_and_learns_what_it_is_for() -> None:
    calls = Calls()
    dispatch = dispatcher(TABLE, calls.run, None, lambda: NOW)
    assert dispatch(f"backup@{TICK}") is None
    dispatch(f"quick@{TICK}")
    assert calls.commands == [
        (("tar", "c", "/"), "backup", f"backup@{TICK}", TICK, 300),
        (("true",), "quick", f"quick@{TICK}", TICK, None),
    ]


@pytest.mark.parametrize("message", [f"poll@{TICK}", "what somebody has pushed", "@", "poll@soon"])
def test_the_user_s_handle_gets_entries_without_a_command_and_whatever_is_no_tick(message: str) -> None:
    calls = Calls()
    assert dispatcher(TABLE, calls.run, calls.handle, lambda: NOW)(message) == "result"
    assert calls.handled == [message]
    assert not calls.commands


def test_without_a_handle_what_is_no_tick_has_failed() -> None:
    with pytest.raises(ValueError, match="it is no NAME@TIME"):
        dispatcher(TABLE, Calls().run, None, lambda: NOW)("what somebody has pushed")


def test_an_entry_that_this_task_s_file_does_not_have_is_left_to_others_for_a_day() -> None:
    calls = Calls()
    with pytest.raises(Retry, match=r"no entry \[other\]") as asked:
        dispatcher(TABLE, calls.run, calls.handle, lambda: NOW)(f"other@{TICK}")
    assert asked.value.after == 30
    with pytest.raises(Reject, match=r"no entry \[other\]"):
        dispatcher(TABLE, calls.run, calls.handle, lambda: NOW + 86_401)(f"other@{TICK}")
    assert not calls.handled
