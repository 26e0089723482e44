"""Where generation stands, as text and back; and what is none of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtask.cron.message import LONGEST_NAME, Tick, parse
from gtask.cron.position import Counts, Known, Position, read, settled_by

NAMES = st.from_regex(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}", fullmatch=True)
TIMES = st.integers(0, 250_000_000_000)
TICKS = st.builds(Tick, TIMES, st.just("") | NAMES)
KNOWN = st.builds(Known, st.from_regex("[0-9a-f]{4}", fullmatch=True), TIMES)
COUNTS = st.builds(Counts, *3 * [st.integers(0, 10**17)])
POSITIONS = st.builds(Position, TICKS, st.none() | st.dictionaries(NAMES, KNOWN, max_size=5), COUNTS)


@given(POSITIONS)
def test_a_position_comes_back_from_its_text(position: Position) -> None:
    text = str(position)
    assert text.isascii() and text.isprintable()
    assert read(text) == (position if position.known is not None else Position(position.last))


@given(TICKS, NAMES)
def test_a_known_entry_takes_no_more_than_its_name_when_the_last_tick_says_the_rest(last: Tick, name: str) -> None:
    known = {name: Known("12ab", settled_by(last, name))}
    assert str(Position(last, known)).endswith(f"known={name}~12ab")


@given(NAMES, TIMES)
def test_a_message_names_its_entry_and_its_time(name: str, at: int) -> None:
    tick = Tick(at, name)
    assert parse(tick.message) == (name, tick.time)


@given(st.lists(TICKS, unique=True))
def test_ticks_stand_in_one_total_order(ticks: list[Tick]) -> None:
    """By time and then by name, and what one of them settles is what does not come after it."""
    ordered = sorted(ticks)
    assert ordered == sorted(ticks, key=lambda tick: (tick.at, tick.name))
    for tick in ordered:
        for other in ordered:
            if tick.name and other.name:
                assert (other.at <= settled_by(tick, other.name)) == (other <= tick)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("report@2026-11-24T02:30:00+00:00", "report@2026-11-24T02:30:00+00:00"),
        ("report@2026-11-24T02:30:00Z", "report@2026-11-24T02:30:00+00:00"),
        ("report@2026-11-24T02:30", "report@2026-11-24T02:30:00+00:00"),
        ("report@2026-11-24", "report@2026-11-24T00:00:00+00:00"),
        ("report@2026-11-24T03:30:00.75+01:00", "report@2026-11-24T02:30:00+00:00"),
        ("whatever@2026-11-24", "whatever@2026-11-24T00:00:00+00:00"),
        ("@2026-11-24", "@2026-11-24T00:00:00+00:00"),
    ],
)
def test_any_name_and_time_is_a_position(text: str, last: str) -> None:
    assert read(text).known is None
    assert read(text).last.message == last


FINE = "a@2026-11-24T02:30:00+00:00"
COUNTED = f"{FINE} fired=1 coalesced=0 skipped=0"


@pytest.mark.parametrize(
    "text",
    [
        "", "42", "order 7", "report", "report@", "report@soon", "a b@2026-11-24", "a@2026-11-24T02:30:00+00:00@",
        f"{FINE} ", f"{FINE} fired=1", COUNTED, f"{COUNTED} known=a", f"{COUNTED} known=a~12",
        f"{COUNTED} known=a~12ab:",
        f"{COUNTED} known=a~12ab:x", f"{COUNTED} known=a b~12ab", f"{COUNTED} known=a~12ab\n",
        f"{COUNTED} known=a~12ab:{'9' * 13}", f"{FINE} fired=-1 coalesced=0 skipped=0 known=",
        f"{FINE} fired={'9' * 19} coalesced=0 skipped=0 known=", "a@0000-01-01", "a@9999-12-31T23:59:59-12:00",
        "a@" + "9" * 5000, "\udc80@2026-11-24", "ü@2026-11-24", "a@２０２６-11-24",
    ],
)  # fmt: skip
def test_anything_else_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        read(text)


@given(st.text())
def test_whatever_stands_there_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"{FINE}{text}", f"{COUNTED} known={text}"):
        try:
            position = read(candidate)
        except ValueError:
            continue
        assert read(str(position)) == position


def test_a_hundred_entries_are_short_enough_for_every_heartbeat_and_for_status() -> None:
    """Longer ones travel by a call of their own, and `status` does not show them."""
    known = {f"a-name-of-24-characters{n:02}": Known("12ab", 1_764_210_000) for n in range(100)}
    assert len(str(Position(Tick(1_764_210_000, "zzz"), known, Counts(10**9, 10**6, 10**6)))) < 4096
