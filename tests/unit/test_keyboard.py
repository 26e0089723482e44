"""Keys, however a terminal delivers them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmonitor.keyboard import HELP, PASTE, PASTED, PATIENCE, Keyboard

TYPED = [
    (b"q", ["end"]),
    (b"k", ["kill"]),
    (b"Q", ["end"]),  # with Caps Lock
    (b"kkq", ["kill", "kill", "end"]),
    (b"\x03", ["end"]),
    (b"\x0c", ["redraw"]),
    (b"x", []),
    ("й".encode(), []),
    (b"\x1b[A", []),
    (b"\x1b[15;2~", []),  # Shift-F5
    (b"\x1bOQ", []),  # F2
    (b"\x1bOq", []),  # a key of the number pad
    (b"\x1b[[Bk", ["kill"]),  # F2 on the Linux console
    (b"\x1bq", []),  # Alt-q
    (b"\x1b\x1b[A", []),  # Alt-Up as some send it
    (b"\x1b[Mqqqk", ["kill"]),  # a mouse, in the old way
    (b"\x1b[<0;10;10Mk", ["kill"]),  # and in the new one
    (b"\x1b]11;rgb:kk/qq/00\x07k", ["kill"]),  # the answer to a question for a colour
    (b"\x1bP1$r0q\x1b\\k", ["kill"]),
    (b"\x1b[1\x03", ["end"]),  # Ctrl-C in the middle of something
    (PASTE + b"make quick\n\x1bq\x1b[201" + PASTED + b"k", ["kill"]),
    (PASTE + b"\x1bk" * 3000 + PASTED, []),
]
SOME = st.lists(st.sampled_from(TYPED[:-1]), max_size=8)


@pytest.mark.parametrize(("typed", "expected"), TYPED)
def test_in_one_read(typed: bytes, expected: list[str]) -> None:
    assert Keyboard().feed(typed, 1.0) == expected


@given(SOME, st.lists(st.integers(1, 12)))
def test_in_whatever_pieces_they_come(typed: list[tuple[bytes, list[str]]], sizes: list[int]) -> None:
    keyboard, at, actions = Keyboard(), 0.0, []
    data = b"".join(keys for keys, _ in typed)
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        at += 0.9 * PATIENCE
        actions += keyboard.feed(piece, at)
    assert actions == [action for _, expected in typed for action in expected]


def test_a_lone_escape_is_forgotten_after_a_while() -> None:
    keyboard = Keyboard()
    assert keyboard.feed(b"\x1b", 1.0) == []
    assert keyboard.feed(b"k", 1.1 + PATIENCE) == ["kill"]


def test_a_paste_takes_its_time_and_no_memory() -> None:
    keyboard = Keyboard()
    assert keyboard.feed(PASTE, 0.0) == []
    for second in range(1, 100):
        assert keyboard.feed(b"quick " * 1000, second) == []
    assert len(keyboard._begun) < 20
    assert keyboard.feed(PASTED[:3], 200.0) == keyboard.feed(PASTED[3:], 300.0) == []
    assert keyboard.feed(b"k", 300.1) == ["kill"]


@given(st.binary(), st.binary())
def test_nothing_makes_it_deaf(noise: bytes, more: bytes) -> None:
    keyboard = Keyboard()
    keyboard.feed(noise, 0.0)
    keyboard.feed(more, 0.1)
    keyboard.feed(PASTED, 0.2)
    assert keyboard.feed(b"k", 0.3 + PATIENCE) == ["kill"]


def test_the_help_names_every_key_that_has_a_help() -> None:
    assert HELP == "[q] end all and quit  [k] end generator"
    assert len(HELP) < 40
