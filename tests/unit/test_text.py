"""Text on its way: nothing of a message is lost, and nothing of it reaches a terminal that could harm it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtask.text import NO_UTF8, failure_record, one_line, printable, read_record, to_bytes


@given(st.binary())
def test_any_bytes_come_back_from_a_str_and_from_a_record(message: bytes) -> None:
    text = message.decode("utf-8", NO_UTF8)
    assert to_bytes(text) == message
    record = read_record(failure_record(text, "no", 7))
    assert to_bytes(str(record["message"])) == message
    assert (record["error"], record["taskId"]) == ("no", 7)


def test_a_record_says_after_how_many_attempts_where_there_were_several() -> None:
    assert "attempts" not in read_record(failure_record("m", "no", 7, 1))
    assert read_record(failure_record("m", "no", 7, 3))["attempts"] == 3


@pytest.mark.parametrize(
    "entry",
    [
        "", "{", '{"message": "m"}', "[" * 100_000, '{"message": 1, "error": "", "taskId": 1, "at": ""}',
        '{"message": "m", "error": "", "taskId": 1, "at": "", "attempts": "3"}',
        '{"message": "m", "error": "", "taskId": 1, "at": "", "more": 3}',
        '{"message": "m", "error": "", "taskId": 1, "attempts": 3}',
    ],
)  # fmt: skip
def test_what_is_no_record_of_ours_is_a_message(entry: str) -> None:
    assert read_record(entry) == {"message": entry}


@given(st.text())
def test_printable_text_is_printable_and_one_line(text: str) -> None:
    assert printable(text).isprintable()
    assert printable("plain 漢字 é") == "plain 漢字 é"


def test_control_characters_are_shown_as_what_they_are() -> None:
    assert printable("a\x1b[2Jb\x07\r\n\t\x9b") == r"a\x1b[2Jb\x07\r\n\t\x9b"


def test_an_error_is_one_line_with_its_notes() -> None:
    error = ValueError("no\nsuch thing")
    error.add_note("it was here\nyesterday")
    assert one_line(error) == "ValueError: no such thing it was here yesterday"


def test_of_a_syntax_error_no_code_is_quoted() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("a b", "jobs.py", "exec")
    assert one_line(caught.value) == "SyntaxError: invalid syntax"
