"""What is due, in one order, and what becomes of ticks that were missed."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtask.cron.agenda import KEPT, Agenda
from gtask.cron.crontab import Crontab
from gtask.cron.crontab import read as read_crontab
from gtask.cron.message import Tick
from gtask.cron.position import Position, read

NOON = 1_764_244_800  # 2025-11-27T12:00:00+00:00


def crontab(**entries: str) -> Crontab:
    return read_crontab("\n".join(f"[{name}]\n{fields}" for name, fields in entries.items()))


def begin(table: Crontab, position: str | None, now: int) -> Agenda:
    return Agenda(table, None if position is None else read(position), now)


def fire_due(agenda: Agenda, now: int) -> list[str]:
    """The messages up to `now`, as `name+seconds after noon`; before them what was dropped, as `name-number`."""
    said = [f"{d.name}-{d.number}{'c' if d.coalesced else 's'}" for d in agenda.drop(now)]
    while (tick := agenda.next) and tick.at <= now:
        agenda.fire(tick)
        said.append(f"{tick.name}+{tick.at - NOON}")
    return said


def test_nothing_is_fired_for_a_time_before_the_first_start() -> None:
    table = crontab(a='every = "10s"\nmissed = "all"', b='cron = "0 12 * * *"\nmissed = "all"')
    agenda = begin(table, None, NOON)
    assert fire_due(agenda, NOON) == []
    assert fire_due(agenda, NOON + 20) == ["a+10", "a+20"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('missed = "latest"', ["a-5c", "a+60"]),
        ("", ["a-5c", "a+60"]),
        ('missed = "all"', ["a+10", "a+20", "a+30", "a+40", "a+50", "a+60"]),
        ('missed = "all"\nwithin = "25s"', ["a-3s", "a+40", "a+50", "a+60"]),
        ('missed = "latest"\nwithin = "5s"', ["a-5c", "a+60"]),
        ('missed = "latest"\nwithin = "4s"', ["a-6s"]),
        ('missed = "all"\nwithin = "4s"', ["a-6s"]),
        ('missed = "skip"', ["a-5s", "a+60"]),  # the newest one is only 5 s late
        ('missed = "skip"\nwithin = "4s"', ["a-6s"]),
    ],
)
def test_what_was_missed_is_fired_as_the_entry_says(fields: str, expected: list[str]) -> None:
    table = crontab(a=f'every = "10s"\n{fields}')
    agenda = begin(table, "a@2025-11-27T12:00", NOON + 65)
    assert fire_due(agenda, NOON + 65) == expected


def test_a_tick_that_is_late_by_more_than_a_takeover_is_not_fired_with_skip() -> None:
    table = crontab(a='cron = "0 * * * *"\nmissed = "skip"')
    assert fire_due(begin(table, "a@2025-11-27T11:00", NOON + 10), NOON + 10) == ["a+0"]
    assert fire_due(begin(table, "a@2025-11-27T11:00", NOON + 11), NOON + 11) == ["a-1s"]


def test_a_new_entry_does_not_fire_for_the_past_and_its_neighbours_do() -> None:
    table = crontab(a='every = "10s"\nmissed = "all"')
    before = str(begin(table, "a@2025-11-27T12:00", NOON + 5).position)
    more = crontab(a='every = "10s"\nmissed = "all"', b='every = "10s"\nmissed = "all"')
    agenda = begin(more, before, NOON + 30)
    assert agenda.news == ["b is new"]
    assert fire_due(agenda, NOON + 40) == ["a+10", "a+20", "a+30", "a+40", "b+40"]


def test_that_it_is_known_since_then_outlives_the_generator() -> None:
    """The next one fires what came due in between."""
    table = crontab(a='every = "1d"', b='every = "10s"')
    known = str(begin(table, str(begin(crontab(a='every = "1d"'), None, NOON).position), NOON + 15).position)
    assert "b~" in known and f":{NOON + 15}" in known
    assert fire_due(begin(table, known, NOON + 42), NOON + 42) == ["b-2c", "b+40"]


def test_removing_an_entry_loses_nothing_of_the_others() -> None:
    both = crontab(a='every = "10s"\nmissed = "all"', b='every = "15s"\nmissed = "all"')
    agenda = begin(both, None, NOON)
    assert fire_due(agenda, NOON + 30) == ["a+10", "b+15", "a+20", "a+30", "b+30"]
    alone = begin(crontab(b='every = "15s"\nmissed = "all"'), str(agenda.position), NOON + 60)
    assert fire_due(alone, NOON + 60) == ["b+45", "b+60"]


def test_an_entry_that_an_older_file_did_not_have_is_missed_and_not_new() -> None:
    """A rolling deploy may hand the flag from a new file to an older one and back."""
    new, old = crontab(a='every = "10s"', b='every = "10s"\nmissed = "all"'), crontab(a='every = "10s"')
    first = begin(new, None, NOON)
    fire_due(first, NOON + 10)
    second = begin(old, str(first.position), NOON + 15)
    fire_due(second, NOON + 30)
    third = begin(new, str(second.position), NOON + 35)
    assert third.news == []
    assert fire_due(third, NOON + 35) == ["b+20", "b+30"]
    later = begin(old, str(second.position), NOON + KEPT + 60)
    assert "b~" not in str(later.position)


def test_an_entry_whose_schedule_was_changed_begins_anew() -> None:
    agenda = begin(crontab(a='cron = "0 2 * * *"'), "a@2025-11-27T02:00", NOON)
    changed = begin(crontab(a='cron = "0 11 * * *"'), str(agenda.position), NOON)
    assert changed.news == ["a has another schedule"]
    assert fire_due(changed, NOON) == []
    same = begin(crontab(a='cron = "0 2 * * *"\nmissed = "all"\ncommand = "true"'), str(agenda.position), NOON)
    assert same.news == []


def test_everything_after_a_position_that_was_set_by_hand_is_due_again() -> None:
    table = crontab(a='every = "10s"\nmissed = "all"', b='every = "10s"\nmissed = "all"')
    assert fire_due(begin(table, "a@2025-11-27T12:00:10", NOON + 20), NOON + 20) == ["b+10", "a+20", "b+20"]
    assert fire_due(begin(table, "@2025-11-27T12:00:10", NOON + 20), NOON + 20) == ["a+20", "b+20"]
    assert fire_due(begin(table, "nobody@2025-11-27T12:00:10", NOON + 20), NOON + 20) == ["a+20", "b+20"]


def test_a_year_of_missed_seconds_costs_neither_minutes_nor_memory() -> None:
    table = crontab(a='cron = "* * * * * *"', b='every = "1s"', c='every = "1s"\nmissed = "all"\nwithin = "3s"')
    agenda = begin(table, "c@2024-11-27T12:00", NOON)
    [a, b, c] = agenda.drop(NOON)
    year = 365 * 86_400
    assert (a.number, a.exact, a.coalesced) == (33_333, False, True)
    assert (b.number, b.exact, b.coalesced) == (year - 1, True, True)
    assert (c.number, c.exact, c.coalesced) == (year - 4, True, False)
    assert fire_due(agenda, NOON) == ["c+-3", "c+-2", "c+-1", "a+0", "b+0", "c+0"]


TABLE = {
    "a": 'every = "7s"\nmissed = "all"\nwithin = "40s"', "b": 'every = "5s"', "c": 'every = "5s"\nmissed = "skip"',
    "d": 'cron = "*/3 * * * * *"\nmissed = "all"', "e": 'cron = "* * * * *"\nwithin = "30s"',
}  # fmt: skip


def looks(gaps: list[int]) -> Iterator[int]:
    now = NOON
    for gap in gaps:
        now += gap
        yield now


@given(st.lists(st.integers(-3, 90), min_size=1, max_size=12), st.data())
@settings(deadline=None)
def test_every_tick_is_fired_coalesced_or_skipped_once_whoever_generates(gaps: list[int], data) -> None:
    """Generators whose clocks disagree, and who stop in the middle: the counts say what became of each tick."""
    table = crontab(**TABLE)
    text, fired, last_now = str(begin(table, None, NOON).position), [], NOON
    for now in looks(gaps):
        agenda = begin(table, text, now)
        agenda.drop(now)
        most = data.draw(st.integers(0, 100))
        while (tick := agenda.next) and tick.at <= now and most:
            agenda.fire(tick)
            fired.append(tick)
            most -= 1
        text = str(agenda.position)
        last_now = max(now, last_now)
    agenda = begin(table, text, last_now)
    agenda.drop(last_now)
    while (tick := agenda.next) and tick.at <= last_now:
        agenda.fire(tick)
        fired.append(tick)
    assert len(set(fired)) == len(fired)
    assert fired == sorted(fired)
    counts = agenda.position.counts
    due = Counter({e.name: e.schedule.count(NOON, last_now, 10**9, lambda: None)[0] for e in table})
    assert counts.fired == len(fired)
    assert counts.fired + counts.coalesced + counts.skipped == due.total()
    assert {t for t in fired if t.name == "d"} == {Tick(t, "d") for t in range(NOON + 3, last_now + 1, 3)}


def test_a_position_keeps_its_counts() -> None:
    agenda = begin(crontab(a='every = "10s"'), None, NOON)
    fire_due(agenda, NOON + 30)
    again = begin(crontab(a='every = "10s"'), str(agenda.position), NOON + 35)
    fire_due(again, NOON + 40)
    assert str(again.position).startswith("a@2025-11-27T12:00:40+00:00 fired=2 coalesced=2 skipped=0 known=a~")
    assert Position(Tick(NOON, "a")).counts.fired == 0
