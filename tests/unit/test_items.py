"""The messages that a `handle` with a yield brings."""

import re
from collections.abc import Iterator

import pytest

from gtask.items import MOST_FOLLOWUP_BYTES, MOST_FOLLOWUPS, drained


def test_texts_and_bytes_become_messages_in_their_order() -> None:
    assert drained(item for item in ("é", b"\xff", "\udcfe", "")) == ["é".encode(), b"\xff", b"\xfe", b""]


def test_as_much_as_one_step_takes_is_taken() -> None:
    assert len(drained("m" for _ in range(MOST_FOLLOWUPS))) == MOST_FOLLOWUPS == 1000
    assert drained(b"m" * size for size in (MOST_FOLLOWUP_BYTES - 1, 1))


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([7], "handle yielded int; a message is str or bytes"),
        ([None], "handle yielded NoneType; a message is str or bytes"),
        ([("m", "1")], "handle yielded tuple; a message is str or bytes"),
        (["\ud800"], "handle yielded a str that is no text: "),
        (["m"] * 1001, "handle yielded more than one step takes, 1,000 messages or 1,048,576 bytes; "
                       "send a follow-up that continues"),
        (["m" * (1 << 20), "n"], "handle yielded more than one step takes"),
        ([b"m" * (1 << 29)], "handle yielded more than one step takes"),
    ],
)  # fmt: skip
def test_what_is_no_message_or_too_much_is_told_with_its_place_and_the_handler_closed(items, said) -> None:
    steps = []

    def handle(message: str) -> Iterator[object]:
        try:
            yield from items
            steps.append("went on")
        finally:
            steps.append("closed")

    with pytest.raises(ValueError, match="handle yielded") as error:
        drained(handle("m"))  # type: ignore[arg-type]
    assert str(error.value).startswith(said)
    assert re.search(r" \(\S*test_items.py:\d+ handle\)$", str(error.value))
    assert steps == ["closed"]


def test_one_that_cannot_be_closed_is_told_of_what_it_yielded_all_the_same() -> None:
    closed = []

    def handle() -> Iterator[object]:
        try:
            yield 7
        finally:
            closed.append(True)
            raise KeyError("in the end")

    with pytest.raises(ValueError, match="handle yielded int"):
        drained(handle())  # type: ignore[arg-type]
    assert closed


def test_what_it_raises_comes_through() -> None:
    def handle() -> Iterator[str]:
        yield "m"
        raise KeyError("k")

    with pytest.raises(KeyError):
        drained(handle())  # type: ignore[arg-type]
