"""The monitor's state: scenarios replayed with a clock of their own."""

import pytest

from gmonitor.events import Ended, Event, GroupAsked, KillAsked, Noted, Reported, Said, Started, Tick
from gmonitor.fleet import Fleet, Rates
from gmonitor.lines import OUTPUTS, condense
from gtask.protocol import CreatedTaskId, Generated, Output, Processed, Report, SwitchedToGenerator, Totals, encode


def replay(*events: tuple[float, Event]) -> tuple[Fleet, list[str]]:
    """A fleet that has seen these events, and its log."""
    fleet = Fleet()
    log = [entry.text for at, event in events for entry in fleet.apply(event, at)]
    return fleet, log


def born(pid: int, task_id: int) -> list[tuple[float, Event]]:
    return [(0.0, Started(pid)), (0.0, Reported(pid, (CreatedTaskId(task_id), Processed(0, 0))))]


def elected(pid: int) -> Reported:
    return Reported(pid, (SwitchedToGenerator(),))


PAIR = [*born(4711, 3), *born(4712, 7)]


def generated(pid: int, *totals: int) -> Reported:
    return Reported(pid, tuple(map(Generated, totals)))


STORIES: dict[str, tuple[list[tuple[float, Event]], list[str]]] = {
    "the first one": ([(1.0, elected(4711))], ["task 3 is the generator"]),
    "killed by a signal": (
        [(1.0, elected(4711)), (5.0, Ended(4711, -9)), (6.4, elected(4712))],
        [
            "task 3 is the generator",
            "task 3 (pid 4711) ended: signal 9",
            "task 7 is the generator",
            "task 7 became the generator 1.4 s after task 3 was killed",
        ],
    ),
    "ended by k, which it obeys": (
        [(1.0, elected(4711)), (5.0, KillAsked(4711)), (5.2, Ended(4711, 0)), (5.3, elected(4712))],
        [
            "task 3 is the generator",
            "k: interrupted the generator, task 3 (pid 4711)",
            "task 3 (pid 4711) ended: exit 0",
            "task 7 is the generator",
            "task 7 became the generator 0.3 s after task 3 was killed",
        ],
    ),
    "ended by itself": (
        [(1.0, elected(4711)), (5.0, Ended(4711, 70)), (7.0, elected(4712))],
        [
            "task 3 is the generator",
            "task 3 (pid 4711) ended: exit 70",
            "task 7 is the generator",
            "task 7 became the generator 2.0 s after task 3 ended",
        ],
    ),
    "killed by a signal, and the news of it come last": (
        [(1.0, elected(4711)), (5.0, elected(4712)), (5.5, Tick()), (5.6, Ended(4711, -9)), (8.0, Tick())],
        [
            "task 3 is the generator",
            "task 7 is the generator",
            "task 3 (pid 4711) ended: signal 9",
            "task 7 became the generator 0.0 s after task 3 was killed",
        ],
    ),
    "deposed without knowing it, and ended with all others": (
        [(1.0, elected(4711)), (5.0, elected(4712)), (5.5, Ended(4711, 0))],
        [
            "task 3 is the generator",
            "task 7 is the generator",
            "task 3 (pid 4711) ended: exit 0",
            "task 7 became the generator in place of task 3",
        ],
    ),
    "deposed, and the next one, too": (
        [(1.0, elected(4711)), (5.0, elected(4712)), (5.5, elected(4711)), (7.5, Tick())],
        [
            "task 3 is the generator",
            "task 7 is the generator",
            "task 7 became the generator in place of task 3",
            "task 3 is the generator",
            "task 3 became the generator in place of task 7",
        ],
    ),
    "deposed without knowing it": (
        [(1.0, elected(4711)), (5.0, elected(4712)), (6.9, Tick()), (7.0, Tick())],
        ["task 3 is the generator", "task 7 is the generator", "task 7 became the generator in place of task 3"],
    ),
    "gave it up": (
        [(1.0, elected(4711)), (4.0, Reported(4711, (Processed(1, 0),))), (5.0, elected(4712))],
        [
            "task 3 is the generator",
            "task 7 is the generator",
            "task 7 became the generator after task 3 gave it up",
        ],
    ),
    "elected again": (
        [(1.0, elected(4711)), (4.0, Reported(4711, (Processed(1, 0),))), (5.0, elected(4711))],
        ["task 3 is the generator", "task 3 is the generator"],
    ),
    "a wrapper keeps the interruption for itself": (
        [
            (1.0, elected(4711)),
            (5.0, KillAsked(4711)),
            *((5.0 + step / 2, generated(4711, 10 + step)) for step in range(1, 8)),
            (9.0, GroupAsked(4711)),
            (9.5, generated(4711, 30)),
        ],
        [
            "task 3 is the generator",
            "k: interrupted the generator, task 3 (pid 4711)",
            "k: task 3 (pid 4711) still generates: interrupted its whole group",
        ],
    ),
    "replaced, and what it pushed last is told late": (
        [(1.0, elected(4711)), (5.0, elected(4712)), (5.3, generated(4711, 12)), (7.0, Tick())],
        ["task 3 is the generator", "task 7 is the generator", "task 7 became the generator in place of task 3"],
    ),
    "replaced, and it generates on": (
        [
            (1.0, elected(4711)),
            (5.0, elected(4712)),
            (5.3, generated(4711, 12)),
            (5.8, generated(4711, 13)),
            (7.0, Tick()),
        ],
        [
            "task 3 is the generator",
            "task 7 is the generator",
            "task 7 became the generator in place of task 3",
            "task 3 generates again",
        ],
    ),
    "a program that only tells how much it generates": (
        [(1.0, generated(4711, 0)), (1.5, generated(4711, 1)), (2.0, generated(4711, 2))],
        ["task 3 is the generator"],
    ),
    "a new id": (
        [(1.0, Reported(4711, (CreatedTaskId(9),)))],
        ["task 3 goes on as task 9"],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_the_log_tells_the_story(story: str) -> None:
    events, expected = STORIES[story]
    _, log = replay(*PAIR, *events)
    assert log[2:] == expected
    assert log[:2] == ["task 3 (pid 4711) started", "task 7 (pid 4712) started"]


def test_the_generator_is_the_last_one_that_said_so() -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), (2.0, elected(4712)))
    assert fleet.generators == [fleet.tasks[4712]]
    fleet.apply(Reported(4711, (Processed(5, 1),)), 3.0)  # the old one learns it late
    assert fleet.generators == [fleet.tasks[4712]]


def test_a_processed_after_the_switch_means_handler_again() -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), (2.0, Reported(4711, (Processed(5, 1),))))
    assert fleet.generators == []
    assert fleet.tasks[4711].was_generator


@pytest.mark.parametrize(
    ("totals", "ignored"),
    [
        (((5.4, 11),), False),
        (((5.4, 11), (7.0, 11)), False),  # the same again, while it finishes what it has in hand
        (((6.9, 11),), False),  # the first total may be from before, however late it comes
        (((5.4, 11), (5.9, 12)), False),  # within a second
        (((5.4, 11), (5.9, 12), (6.4, 13)), True),
    ],
)
def test_whoever_generates_a_second_after_it_was_interrupted_has_ignored_it(
    totals: tuple[tuple[float, int], ...], ignored: bool
) -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), (2.0, generated(4711, 10)), (5.0, KillAsked(4711)))
    for at, total in totals:
        fleet.apply(generated(4711, total), at)
    assert fleet.tasks[4711].ignored_interrupt is ignored


def test_there_may_be_more_than_one_generator_and_the_end_of_one_leaves_the_other() -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), (2.0, elected(4712)), (2.5, generated(4711, 1, 2)))
    assert [task.pid for task in fleet.generators] == [4711, 4712]
    fleet.apply(Ended(4712, 0), 3.0)
    assert [task.pid for task in fleet.generators] == [4711]


def test_generated_after_the_switch_keeps_the_role() -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), (2.0, Reported(4711, (Generated(5),))))
    assert fleet.generators == [fleet.tasks[4711]]


def test_totals_are_absolute_and_dead_tasks_stay_in_the_sums() -> None:
    fleet, _ = replay(
        *PAIR,
        (1.0, Reported(4711, (Processed(10, 2), Processed(12, 3)))),
        (1.0, Reported(4712, (Generated(40),))),
        (2.0, Ended(4711, -9)),
    )
    assert fleet.totals == Totals(40, 12, 3)
    assert fleet.alive == 1


def test_an_absurd_figure_breaks_nothing() -> None:
    fleet, _ = replay(*PAIR, (1.0, Tick()), (1.5, Reported(4711, (Processed(10**400, 10**400),))), (2.0, Tick()))
    assert fleet.rates.processed == fleet.totals.processed == 10**15


def test_rates_are_taken_over_the_last_seconds() -> None:
    fleet, _ = replay(*PAIR)
    for second in range(20):
        total = 10 * second if second < 10 else 90  # then it stands still
        fleet.apply(Reported(4711, (Processed(total, second),)), second)
        fleet.apply(Tick(), second)
        if second == 9:
            assert fleet.rates == Rates(0.0, 10.0, 1.0)
    assert fleet.rates == Rates(0.0, 0.0, 1.0)


def test_rates_need_two_looks() -> None:
    assert replay(*PAIR, (1.0, Tick()))[0].rates == Rates(0.0, 0.0, 0.0)


def test_an_end_says_why_and_says_it_once() -> None:
    fleet, printed = replay(
        (0.0, Started(4711)),
        (0.1, Said(4711, ("Traceback …", "\x1b[31mModuleNotFoundError: No module named 'x'\x1b[0m", ""))),
        (0.2, Ended(4711, 64)),
    )
    assert printed == [
        "pid 4711: Traceback …",
        "pid 4711: ModuleNotFoundError: No module named 'x'",
        "pid 4711 ended: exit 64",
    ]
    assert [entry.text for entry in fleet.latest(9)] == [
        "pid 4711: Traceback …",
        "pid 4711 ended: exit 64: ModuleNotFoundError: No module named 'x'",
    ]


@pytest.mark.parametrize("code", [0, -15])
def test_last_words_explain_nothing_where_nothing_failed(code: int) -> None:
    _, log = replay((0.0, Started(1)), (0.1, Said(1, ("all is well",))), (0.2, Ended(1, code)))
    assert "well" not in log[-1]


@pytest.mark.parametrize(
    "event", [Said(1, ("a\rb\x07",)), Said(1, (), 0, "a\rb\x07"), Reported(1, (Output("a\rb\x07"),)), Noted("a\rb\x07")]
)
def test_nothing_in_the_log_can_move_a_cursor(event: Event) -> None:
    _, log = replay((0.0, Started(1)), (0.1, event))
    assert r"a\rb\x07" in log[0]


def test_an_unfinished_line_is_kept_up_to_date_until_it_ends() -> None:
    def shown(*events: Event) -> tuple[list[str], list[str]]:
        fleet, printed = replay((0.0, Started(1)), *[(0.1, event) for event in events])
        return [entry.text for entry in fleet.latest(9)], printed

    asks, progress = Reported(1, (), "go on?"), [Said(1, (), 0, f"{percent} %") for percent in (10, 20)]
    other, done = Said(1, ("other",)), Said(1, ("100 %",))
    assert shown(*progress, asks) == (["pid 1: 20 %", "pid 1: go on?"], ["pid 1: 10 %", "pid 1: go on?"])
    assert shown(progress[0], asks, progress[1]) == (["pid 1: 20 %", "pid 1: go on?"], ["pid 1: 10 %", "pid 1: go on?"])
    assert shown(progress[0], done) == (["pid 1: 100 %"], ["pid 1: 10 %", "pid 1: 100 %"])
    assert shown(progress[0], other, asks, Reported(1, ()))[0] == ["pid 1: other"]
    assert shown(asks, Ended(1, 0))[0] == ["pid 1: go on?", "pid 1 ended: exit 0"]


def test_what_tasks_print_does_not_push_events_out_of_sight() -> None:
    fleet, _ = replay(*PAIR, (1.0, elected(4711)), *[(2.0, Said(4711, (f"line {n}",))) for n in range(1000)])
    shown = [entry.text for entry in fleet.latest(6)]
    assert shown == [
        "task 3 (pid 4711) started",
        "task 7 (pid 4712) started",
        "task 3 is the generator",
        "task 3: line 997",
        "task 3: line 998",
        "task 3: line 999",
    ]
    assert [entry.text for entry in fleet.latest(1)] == ["task 3 is the generator"]
    assert fleet.latest(0) == []


def test_an_idle_log_is_filled_with_what_tasks_print() -> None:
    fleet, _ = replay((0.0, Started(1)), *[(2.0, Said(1, (f"line {n}",))) for n in range(9)])
    assert [entry.text for entry in fleet.latest(3)] == ["pid 1: line 6", "pid 1: line 7", "pid 1: line 8"]


# From bytes to reports


def test_only_the_last_of_totals_in_a_row_is_kept() -> None:
    reports: list[Report] = [
        Processed(1, 0),
        Processed(2, 1),
        SwitchedToGenerator(),
        Generated(1),
        Generated(2),
        Processed(3, 1),
    ]
    assert condense(map(encode, reports)) == [
        Processed(2, 1),
        SwitchedToGenerator(),
        Generated(2),
        Processed(3, 1),
    ]


def test_a_flood_of_output_is_cut_but_no_report_is_lost() -> None:
    lines = [b"noise %d" % number for number in range(1000)]
    lines.insert(500, encode(Generated(7)))
    kept = condense(lines)
    assert kept[0] == Output(f"… {1000 - OUTPUTS} lines left out")
    assert Generated(7) in kept
    assert kept[-1] == Output("noise 999")
    assert len(kept) == OUTPUTS + 2
