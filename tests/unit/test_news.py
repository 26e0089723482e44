"""What is told to the guard arrives as it was said."""

from typing import get_args

import pytest

from gmonitor.news import (
    Goodbye,
    Grace,
    Message,
    ScreenLeft,
    ScreenShown,
    ServerStarted,
    TaskEnded,
    TaskStarted,
    decode,
    encode,
)

MODES = [1280, 5, 191, 35387, 15, 15, [b"\x03", b"\x1c", b"\n", 1, 0, b"\xff"]]
SAMPLES = [
    Grace(12.5),
    TaskStarted(4711, 1234567),
    TaskEnded(4711),
    ServerStarted(4712, "/tmp/valkey-ä\nb\udc80"),
    ScreenShown(MODES, MODES, b"\x1b[?1049l\n"),
    ScreenShown(None, None, b""),
    ScreenLeft(b"gmonitor: \xe2\x80\xa6\n"),
    Goodbye(),
]


@pytest.mark.parametrize("message", SAMPLES, ids=repr)
def test_a_message_is_one_line_and_arrives_as_it_was(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line[:-1]) == message


def test_every_message_has_a_sample_here() -> None:
    assert {type(sample) for sample in SAMPLES} == set(get_args(Message))
