"""The reports: what is written, and what a reader takes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtask.protocol import CreatedTaskId, Generated, Output, Processed, Report, SwitchedToGenerator, decode, encode

LINES = [
    (CreatedTaskId(7), b'{"msg": "createdTaskId", "taskId": 7}\r\n'),
    (SwitchedToGenerator(), b'{"msg": "switchedToGenerator Mode"}\r\n'),
    (Generated(12), b'{"msg": "generated", "total": 12}\r\n'),
    (Processed(40, 6), b'{"msg": "processed", "total": 40, "errors": 6}\r\n'),
]


@pytest.mark.parametrize(("report", "line"), LINES)
def test_reports_are_written_to_the_letter(report: Report, line: bytes) -> None:
    assert encode(report) == line
    assert decode(line) == report
    assert decode(line.rstrip()) == decode(line.rstrip() + b"\n") == report


def test_the_other_spelling_is_read() -> None:
    assert decode(b'{"msg": "switchedToGeneratorMode"}\r\n') == SwitchedToGenerator()


def test_extra_fields_are_skipped() -> None:
    assert decode(b'{"total": 3, "at": [1, {}], "msg": "generated"}') == Generated(3)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n",
        b"  \n",
        b'{"msg": "somethingNew", "total": 1}',
        b'{"msg": null}',
        b'{"msg": ["generated"]}',
        b'{"total": 1}',
        b'{"msg": "generated"}',
        b'{"msg": "generated", "total": -1}',
        b'{"msg": "generated", "total": 1.5}',
        b'{"msg": "generated", "total": true}',
        b'{"msg": "generated", "total": "1"}',
        b'{"msg": "processed", "total": 1}',
        b'{"msg": "createdTaskId", "taskId": null}',
    ],
)
def test_what_is_no_report_of_ours_is_skipped(line: bytes) -> None:
    assert decode(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"hello\r\n", "hello"),
        (b"{broken\n", "{broken"),
        (b"[1, 2]", "[1, 2]"),
        (b"17", "17"),
        (b'"text"', '"text"'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 100_000),
    ],
)
def test_everything_else_is_output(line: bytes, text: str) -> None:
    assert decode(line) == Output(text)


@given(st.binary())
def test_no_line_breaks_the_reader(line: bytes) -> None:
    decode(line)


@given(st.integers(0), st.integers(0))
def test_figures_of_any_size_travel(total: int, errors: int) -> None:
    line = encode(Processed(total, errors))
    assert decode(line) == Processed(total, errors)
    assert json.loads(line) == {"msg": "processed", "total": total, "errors": errors}
