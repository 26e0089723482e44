"""The picture of a fleet, for any size."""

import pytest
import wcwidth
from hypothesis import example, given
from hypothesis import strategies as st

from gmonitor.events import Ended, Noted, Reported, Said, Started, Tick
from gmonitor.fleet import Fleet
from gmonitor.view import Line, cut, render
from gtask.protocol import CreatedTaskId, Generated, Processed, SwitchedToGenerator

KEYS = "[q] end all and quit  [k] end generator"


def fleet_of(count: int, generator: int = 1, dead: tuple[int, ...] = ()) -> Fleet:
    """Tasks 1 to `count` with the pids 101, 102, …"""
    fleet = Fleet()
    for number in range(1, count + 1):
        fleet.apply(Started(100 + number), 0.0)
        fleet.apply(Reported(100 + number, (CreatedTaskId(number), Processed(number * 10, number))), 0.0, "14:03:07")
    fleet.apply(Reported(100 + generator, (SwitchedToGenerator(), Generated(12345))), 1.0, "14:03:08")
    for number in dead:
        fleet.apply(Ended(100 + number, -9), 2.0, "14:03:09")
    return fleet


def shown(fleet: Fleet, width: int = 80, height: int = 24) -> list[str]:
    return [line.text for line in render(fleet, width, height, KEYS)]


def test_the_table_at_eighty_columns() -> None:
    fleet = fleet_of(3, generator=2, dead=(2,))
    fleet.apply(Reported(103, (SwitchedToGenerator(), Generated(20))), 3.4, "14:03:10")
    assert [line.rstrip() for line in shown(fleet)] == [
        " gmonitor  2 of 3 tasks alive",
        "",
        "   pid  taskId  killed?  generator?  generated  processed  errors      ended",
        "   101       1                               0         10       1",
        "×  102       2      yes         was      12345         20       2   signal 9",
        "▶  103       3                  yes         20         30       3",
        "",
        "  total                                  12365         60       6",
        "  per second                               0.0        0.0     0.0",
        "",
        " 14:03:07 task 1 (pid 101) started",
        " 14:03:07 task 2 (pid 102) started",
        " 14:03:07 task 3 (pid 103) started",
        " 14:03:08 task 2 is the generator",
        " 14:03:09 task 2 (pid 102) ended: signal 9",
        " 14:03:10 task 3 became the generator 1.4 s after task 2 was killed",
        *[""] * 7,
        " " + KEYS,
    ]


def test_a_reason_that_is_longer_than_a_row_goes_on_where_rows_are_empty() -> None:
    fleet = Fleet()
    for pid in (101, 102):
        fleet.apply(Started(pid), 0.0)
    for pid in (101, 102):
        fleet.apply(Said(pid, ("gtask: cannot import orders: ModuleNotFoundError: " + "Python looks here, " * 4,)), 1.0)
        fleet.apply(Ended(pid, 64), 1.0, "14:03:07")
    whole = [
        " 14:03:07 pid 101 ended: exit 64: gtask: cannot import orders:",
        "          ModuleNotFoundError: Python looks here, Python looks here, Python",
        "          looks here, Python looks here,",
    ]
    assert [line.rstrip() for line in shown(fleet)[9:16]] == [*whole, whole[0].replace("101", "102"), *whole[1:], ""]
    # Where there are fewer rows, the newest entry has them.
    assert [line.rstrip() for line in shown(fleet, 80, 10)[5:]] == [
        " 14:03:07 pid 101 ended: exit 64: gtask: cannot import orders: ModuleNotFoundEr…",
        *[line.replace("101", "102") for line in whole],
        " " + KEYS,
    ]


def test_the_smallest_screen() -> None:
    fleet = fleet_of(5, generator=4, dead=(1,))
    assert [line.rstrip() for line in shown(fleet, 40, 8)] == [
        "   taskId  generator?  processed  errors",
        "        2                     20       2",
        "▶       4         yes         40       4",
        "  … 3 more, 1 of them ended",
        "  total                      150      15",
        "  per second                 0.0     0.0",
        " task 1 (pid 101) ended: signal 9",
        " " + KEYS,
    ]


@pytest.mark.parametrize("size", [(39, 8), (40, 7), (1, 1), (5, 100)])
def test_smaller_ones_get_a_hint(size: tuple[int, int]) -> None:
    lines = shown(fleet_of(3), *size)
    assert len(lines) == 1
    assert lines[0] == cut(f"too small: {size[0]}x{size[1]}, needs 40x8", size[0])


def test_columns_go_by_their_importance() -> None:
    headings = {width: shown(fleet_of(2, dead=(2,)), width)[2].split() for width in (40, 52, 60, 68, 80)}
    assert headings == {
        40: ["taskId", "generator?", "processed", "errors"],
        52: ["taskId", "generator?", "generated", "processed", "errors"],
        60: ["pid", "taskId", "generator?", "generated", "processed", "errors"],
        68: ["pid", "taskId", "killed?", "generator?", "generated", "processed", "errors"],
        80: ["pid", "taskId", "killed?", "generator?", "generated", "processed", "errors", "ended"],
    }


# Two characters that form a cluster and take other room together than alone: this line was too wide by a cell.
@example(count=0, generator=1, dead=set(), width=40, height=8, text="0" * 17 + "\x1f" * 3 + "\uaa33\U00018d09")
@given(
    count=st.integers(0, 40),
    generator=st.integers(1, 40),
    dead=st.sets(st.integers(1, 40)),
    width=st.integers(40, 200),
    height=st.integers(8, 60),
    text=st.text(max_size=300),
)
def test_every_picture_fits_and_shows_the_generator(
    count: int, generator: int, dead: set[int], width: int, height: int, text: str
) -> None:
    generator = min(generator, count)
    fleet = fleet_of(count, generator, tuple(dead & set(range(1, count + 1)))) if count else Fleet()
    if count:
        fleet.apply(Said(101, (text,)), 5.0, "14:04:00")
    fleet.apply(Noted(text), 5.0, "14:04:00")
    fleet.apply(Tick(), 6.0)
    lines = render(fleet, width, height, KEYS, text.replace("\n", ""))
    assert len(lines) == height
    for line in lines[1:]:
        assert line.text.isprintable()
        assert wcwidth.width(line.text) <= width
    assert lines[-1] == Line(" " + KEYS, "keys")
    marked = [line for line in lines if line.style == "generator"]
    assert len(marked) == (1 if fleet.generators else 0)
    assert all(line.text.startswith("▶") for line in marked)
    more = [line.text for line in lines if not line.style and line.text.startswith("  … ")]
    rows = [
        line for line in lines if line.style in ("generator", "ended") or (not line.style and line.text[:3] == "   ")
    ]
    listed = len(rows)
    assert listed + (int(more[0].split()[1]) if more else 0) == count


def test_the_living_are_shown_before_the_dead() -> None:
    text = "\n".join(shown(fleet_of(20, generator=20, dead=tuple(range(1, 15))), 80, 20))
    for number in range(15, 21):
        assert f" {100 + number}  " in text
    assert "more" in text


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("short", 10, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("one too many", 11, "one too ma…"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字", 7, "漢字漢…"),
        ("漢字漢字", 6, "漢字…"),
        ("e\u0301" * 5, 5, "e\u0301" * 5),
        ("", 0, ""),
    ],
)
def test_text_is_cut_by_the_cells_that_it_takes(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
