"""When an entry is due: Debian's rules where the clock is changed, and the same ticks wherever one begins to look."""

from datetime import UTC, datetime
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from gtask.cron.ticks import Cron, Every, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
ORDINARY = ["Europe/Berlin", "America/New_York", "Australia/Sydney", "Asia/Kolkata", "UTC"]
# Clocks that are changed by half an hour, at midnight, or by more than an hour; a day that was left out.
STRANGE = [
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Antarctica/Troll",
]
EXPRESSIONS = [
    "30 2 * * *", "0,30 2 * * *", "0 1-3 * * *", "15 0 * * *", "0 0 * * 0", "0 0 1 * *", "59 23 L * *", "0 12 29 2 *",
    "*/10 2 * * *", "* * * * *", "0 */6 * * *", "*/30 0-3 * * 1-5", "30 2 * * * *", "*/20 * 2 * * *", "0 0 0 1 1 *",
    "5 4 * * SUN#2", "1 0 LW * *", "*/7 1 1,15 * 5",
]  # fmt: skip
DAY = 86_400
FIRST, LAST = (int(datetime(year, 12, 1, tzinfo=UTC).timestamp()) for year in (2011, 2031))


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def shown(schedule: Schedule, begin: str, count: int) -> list[str]:
    """The first ticks after a time, as UTC."""
    return [f"{datetime.fromtimestamp(t, UTC):%m-%d %H:%M}" for t in islice(schedule.after(utc(begin)), count)]


def ticks(schedule: Schedule, after: int, until: int, most: int = 300) -> list[int]:
    return list(islice(takewhile(lambda tick: tick <= until, schedule.after(after)), most))


@cache
def changes(zone: str) -> list[int]:
    """The days on which the clock is changed; that of a zone without such days is as good as any."""
    offsets = {day: datetime.fromtimestamp(day, ZoneInfo(zone)).utcoffset() for day in range(FIRST, LAST, DAY)}
    return [day for day in offsets if offsets[day] != offsets.get(day + DAY, offsets[day])] or [FIRST]


ANY_TIME = st.integers(FIRST, LAST)


def times(zone: str) -> st.SearchStrategy[int]:
    """Any time, and about as often one shortly before or after a change of the clock."""
    return ANY_TIME | st.tuples(st.sampled_from(changes(zone)), st.integers(-DAY, DAY)).map(sum)


@pytest.mark.parametrize(
    ("expression", "begin", "expected"),
    [
        # 2026-03-29 02:00 -> 03:00: what is left out runs just after it, once
        ("30 2 * * *", "2026-03-28T00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0,30 2 * * *", "2026-03-29T00:00", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),
        ("*/30 2 * * *", "2026-03-28T12:00", ["03-30 00:00", "03-30 00:30"]),
        ("0 * * * *", "2026-03-28T23:30", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        # 2026-10-25 03:00 -> 02:00: what comes twice runs the first time; jobs of every hour run in each
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        (
            "*/30 2 * * *",
            "2026-10-24T12:00",
            ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-26 01:00"],
        ),
        ("0 * * * *", "2026-10-24T23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
        ("0 30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-25 01:30", "10-26 01:30"]),
    ],
)
def test_debian_s_rules_where_the_clock_is_changed(expression: str, begin: str, expected: list[str]) -> None:
    assert shown(Cron(expression, BERLIN), begin, len(expected)) == expected


@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ORDINARY), st.data())
@settings(deadline=None, max_examples=150)
def test_the_ticks_are_those_of_cronsim(expression: str, zone: str, data) -> None:
    """Which, asked in the hour that comes twice, says a time once more that is already past."""
    time = data.draw(times(zone))
    schedule, sim = Cron(expression, ZoneInfo(zone)), CronSim(expression, datetime.fromtimestamp(time, ZoneInfo(zone)))
    theirs = (int(tick.timestamp()) for tick in sim)
    assert list(islice(schedule.after(time), 30)) == list(islice((tick for tick in theirs if tick > time), 30))


@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ORDINARY + STRANGE), st.integers(0, 12 * 3600), st.data())
@settings(deadline=None, max_examples=150)
def test_it_does_not_matter_where_one_begins_to_look(expression: str, zone: str, later: int, data) -> None:
    begin = data.draw(times(zone))
    schedule, end = Cron(expression, ZoneInfo(zone)), begin + 3 * DAY
    all_ticks = ticks(schedule, begin, end)
    left = [tick for tick in all_ticks if tick > begin + later]
    assert ticks(schedule, begin + later, end)[: len(left)] == left
    assert all(one < other for one, other in pairwise(all_ticks))


@given(st.sampled_from([*EXPRESSIONS, "every"]), st.sampled_from(ORDINARY), st.integers(0, 3 * DAY), st.data())
@settings(deadline=None, max_examples=100)
def test_the_newest_and_the_count_are_those_of_the_ticks_in_between(expression, zone, length, data) -> None:
    begin = data.draw(times(zone))
    schedule = Every(977) if expression == "every" else Cron(expression, ZoneInfo(zone))
    between = ticks(schedule, begin, begin + length, most=10_000)
    assert schedule.newest(begin, begin + length) == (between[-1] if between else None)
    assert schedule.count(begin, begin + length, 10_000, lambda: None) == (len(between), True)


def test_a_count_ends_at_its_limit_and_pauses_on_the_way() -> None:
    pauses: list[None] = []
    assert Cron("* * * * * *", BERLIN).count(0, DAY, 1000, lambda: pauses.append(None)) == (1000, False)
    assert len(pauses) == 15
    assert Cron("* * * * *", BERLIN).count(0, 120, 9, lambda: None) == (2, True)
    assert Every(1).count(0, DAY, 1000, lambda: pauses.append(None)) == (DAY, True)


def test_every_is_aligned_to_the_epoch() -> None:
    assert list(islice(Every(10).after(1_764_210_003), 3)) == [1_764_210_010, 1_764_210_020, 1_764_210_030]
    assert next(Every(10).after(1_764_210_010)) == 1_764_210_020


@pytest.mark.parametrize("schedule", [Every(10), Cron("* * * * *", BERLIN), Cron("30 2 * * *", BERLIN)])
def test_ticks_end_with_python_s_time(schedule: Schedule) -> None:
    assert next(schedule.after(utc("9999-12-31T23:59:59")), None) is None
    assert schedule.newest(utc("9999-12-31T23:59:59"), utc("9999-12-31T23:59:59")) is None


def test_two_schedules_have_the_same_mark_when_they_say_the_same() -> None:
    same = [Cron("0 0 * * *", BERLIN), Cron("@daily", BERLIN), Cron(" 0  0 * * * ", BERLIN)]
    assert len({schedule.mark for schedule in same}) == 1
    others = [Cron("0 0 * * *", ZoneInfo("UTC")), Cron("1 0 * * *", BERLIN), Every(10), Every(11), same[0]]
    assert len({schedule.mark for schedule in others}) == 5
