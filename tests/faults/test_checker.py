"""The checker rejects a planted fault for each of its rules, and accepts a good history; and the history is read as
the server wrote it."""

from dataclasses import replace

import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.outcome import Later, Outcome
from tests.faults import checker, history, plan
from tests.faults.history import Elected, Emptied, End, Event, Followed, Lost, Pushed, PutOff, Takeover
from tests.hands import Hands
from tests.servers import ONE_NEW_SERVER
from tests.tasks import wait_until

A, B = "100.1", "200.1"  # authors
ONE, TWO, THREE, FOUR = Pushed(1, A), Pushed(2, A), Pushed(3, B), Pushed(4, B)
GOOD: list[Event] = [Elected(1), ONE, TWO, Lost(), Elected(2), THREE, FOUR, Lost()]
GOOD_END = End(handled=(ONE, ONE), errors=(TWO,), waiting=(THREE,), in_flight=(FOUR,), processed=2)  # ONE came twice
# Another one, which the server has forgotten; what was in the tasks' hands then is handled all the same.
FORGOTTEN: list[Event] = [Elected(1), Pushed(1, "50.1"), Pushed(2, "50.1"), Pushed(3, "50.1"), Emptied()]
REPORTS = [
    b'{"msg": "createdTaskId", "taskId": 7}\r\n',
    b'{"msg": "processed", "total": 4, "errors": 1}\r\n',
    b'{"msg": "switchedToGenerator Mode"}\r\n',
    b'{"msg": "generated", "total": 12}\r\n',
]


def test_a_good_history_is_accepted_by_every_rule() -> None:
    assert not [
        *checker.deposed_is_silent(GOOD),
        *checker.only_the_holder_pushes(GOOD),
        *checker.numbers_are_whole(GOOD),
        *checker.nothing_is_lost(GOOD, GOOD_END),
        *checker.nothing_is_invented(GOOD, GOOD_END),
        *checker.reports_are_whole(REPORTS),
        *checker.takeovers_are_fast([Takeover(flag_life=0.6, took=0.85, stalled=0.01)]),
    ]


def test_a_history_begins_anew_where_the_server_was_emptied() -> None:
    end = replace(GOOD_END, handled=(ONE, ONE, Pushed(2, "50.1")))
    assert not [
        *checker.deposed_is_silent(FORGOTTEN + GOOD),
        *checker.only_the_holder_pushes(FORGOTTEN + GOOD),
        *checker.numbers_are_whole(FORGOTTEN + GOOD),
        *checker.nothing_is_lost(FORGOTTEN + GOOD, end),
        *checker.nothing_is_invented(FORGOTTEN + GOOD, end),
    ]


def test_a_generator_that_goes_on_where_the_server_was_emptied_is_seen() -> None:
    went_on: list[history.Event] = [Pushed(1, A), Emptied(), Pushed(2, A)]
    assert len(list(checker.deposed_is_silent(went_on))) == 1
    assert list(checker.numbers_are_whole(went_on)) == ["message 2 of 100.1 came where 1 was due"]
    started_anew: list[history.Event] = [Pushed(1, A), Emptied(), Pushed(1, A)]
    assert len(list(checker.deposed_is_silent(started_anew))) == 1


def test_what_was_acknowledged_for_the_server_before_it_was_emptied_does_not_count_for_it_afterwards() -> None:
    assert "3 were acknowledged" in next(checker.nothing_is_lost(FORGOTTEN + GOOD, replace(GOOD_END, processed=3)))


def test_a_deposed_generator_that_pushes_is_seen() -> None:
    broken = [Pushed(1, A), Pushed(2, B), Pushed(3, A)]
    assert list(checker.deposed_is_silent(broken)) == ["message 3 is of 100.1, after its successor 200.1 had begun"]
    assert not list(checker.numbers_are_whole(broken))


@pytest.mark.parametrize("gone", [Lost(), Emptied()])
def test_a_push_without_the_flag_is_seen(gone: Event) -> None:
    assert list(checker.only_the_holder_pushes([Elected(1), ONE, gone, TWO])) == [
        "message 2 of 100.1 came while no task held the flag"
    ]
    assert len(list(checker.only_the_holder_pushes([ONE]))) == 1


@pytest.mark.parametrize(
    ("numbers", "violation"),
    [
        ((2,), "message 2 of 100.1 came where 1 was due"),
        ((1, 3), "message 3 of 100.1 came where 2 was due"),
        ((1, 2, 2), "message 2 of 100.1 came where 3 was due"),
        ((1, 2, 1, 2), "message 1 of 100.1 came where 3 was due"),
    ],
)
def test_a_gap_and_a_repeat_are_seen(numbers: tuple[int, ...], violation: str) -> None:
    assert next(checker.numbers_are_whole([Pushed(number, A) for number in numbers])) == violation


def test_a_lost_message_is_seen() -> None:
    end = replace(GOOD_END, errors=())
    assert list(checker.nothing_is_lost(GOOD, end)) == ["message 2 of 100.1 is lost"]


def test_sums_that_do_not_add_up_are_seen() -> None:
    twice = replace(GOOD_END, processed=3)
    assert "3 were acknowledged" in next(checker.nothing_is_lost(GOOD, twice))
    in_two_places = replace(GOOD_END, waiting=(THREE, FOUR))
    assert "2 wait and 1 are in flight" in next(checker.nothing_is_lost(GOOD, in_two_places))


FIVE, EIGHT = Pushed(5, A), Pushed(8, A)  # by plan the one brings two messages, and the other fails twice
FIRST, SECOND = (Followed(Pushed(5, plan.name(A, which))) for which in range(2))
BY_PLAN: list[Event] = [Elected(1), FIVE, EIGHT, PutOff(EIGHT, 1, 1), FIRST, SECOND, PutOff(EIGHT, 2, 2), ONE, TWO]
HANDLED = End(handled=(FIVE, EIGHT, FIRST.message, SECOND.message), errors=(), waiting=(ONE, TWO), in_flight=())


def broken(events: list[Event], end: End) -> list[str]:
    return [*checker.follow_ups_are_whole(events, end), *checker.attempts_are_counted(events, end)]


def test_follow_ups_and_retries_by_plan_are_accepted_and_what_an_emptied_server_knew_does_not_count() -> None:
    assert broken(BY_PLAN, HANDLED) == []
    assert not list(checker.nothing_is_lost(BY_PLAN, replace(HANDLED, processed=4)))
    assert broken([FIVE, FIRST, PutOff(EIGHT, 3, 3), Emptied(), *BY_PLAN], HANDLED) == []


@pytest.mark.parametrize(
    ("events", "violation"),
    [
        ([FIVE, FIRST], "follow-up 5 of 100.1+1 did not come"),
        ([FIVE, FIRST, SECOND, FIRST], "follow-up 5 of 100.1+0 came 2 times"),
        ([EIGHT, Followed(Pushed(8, "100.1+0"))], "follow-up 8 of 100.1+0 came of no message that was handled"),
        ([FIVE, FIRST, SECOND, Followed(Pushed(5, "9.9+0"))], "5 of 9.9+0 came of no message that was handled"),
        ([EIGHT, PutOff(EIGHT, 1, 1), PutOff(EIGHT, 1, 1)], "after 1 attempts, 1 of them failed; the time before"),
        ([EIGHT, PutOff(EIGHT, 2, 1)], "after 2 attempts, 1 of them failed; the time before, after 0 and 0"),
        ([EIGHT, PutOff(EIGHT, 1, 2)], "after 1 attempts, 2 of them failed"),
        ([EIGHT, PutOff(EIGHT, 1, 1), PutOff(EIGHT, 2, 0)], "after 2 attempts, 0 of them failed"),
        ([EIGHT, *(PutOff(EIGHT, n, n) for n in range(1, plan.RETRIES + 2))], "comes again after 7 failures"),
    ],
)
def test_follow_ups_and_attempts_that_are_too_many_or_too_few_are_seen(events: list[Event], violation: str) -> None:
    [line] = broken(events, HANDLED)
    assert violation in line


def test_a_message_that_failed_before_its_time_or_brought_something_all_the_same_is_seen() -> None:
    failed = replace(HANDLED, errors=(FIVE,))
    assert broken(BY_PLAN, failed) == [
        "follow-up 5 of 100.1+0 came of no message that was handled",
        "follow-up 5 of 100.1+1 came of no message that was handled",
        "message 5 of 100.1 is in errors after 0 failures",
    ]
    used_up: list[Event] = [EIGHT, *(PutOff(EIGHT, n, n) for n in range(1, plan.RETRIES + 1))]
    assert broken(used_up, replace(HANDLED, errors=(EIGHT,))) == []
    assert len(broken(used_up[:-1], replace(HANDLED, errors=(EIGHT,)))) == 1
    assert broken(used_up[:-1], replace(HANDLED, errors=(EIGHT,), for_good=frozenset({EIGHT}))) == []


@pytest.mark.parametrize("where", ["handled", "errors", "waiting", "in_flight"])
def test_an_invented_message_is_seen(where: str) -> None:
    end = replace(End(handled=(), errors=(), waiting=(), in_flight=()), **{where: (Pushed(5, B),)})  # type: ignore[arg-type]
    assert list(checker.nothing_is_invented(GOOD, end)) == [f"message 5 of 200.1 ({where}) was never pushed"]


@pytest.mark.parametrize(
    "line",
    [b'{"msg": "generated", "to\r\n', b'{"msg": "generated", "total": 13}', b"printed by a job\r\n",
     b'{"msg": "generated", "total": -1}\r\n', b'{"msg": "unknown"}\r\n', b'{"msg": "generated"}\r\n'],
)  # fmt: skip
def test_a_report_that_is_not_whole_is_seen(line: bytes) -> None:
    assert list(checker.reports_are_whole([*REPORTS, line])) == [f"no whole report: {line!r}"]


def test_a_total_that_shrinks_is_seen() -> None:
    falling = [*REPORTS, b'{"msg": "generated", "total": 11}\r\n']
    assert list(checker.reports_are_whole(falling)) == ["Generated.total fell from 12 to 11"]


def test_a_slow_takeover_is_seen_but_not_on_a_machine_that_stood_still() -> None:
    slow, excused = Takeover(0.6, 0.95, stalled=0.01), Takeover(0.6, 0.95, stalled=0.2)
    assert len(list(checker.takeovers_are_fast([slow]))) == 1
    assert not list(checker.takeovers_are_fast([excused]))
    assert checker.judged([slow, excused]) == [slow]


def test_the_history_is_what_the_server_wrote_also_over_restarts(new_server) -> None:
    server = new_server(*history.OPTIONS)
    push = "redis.call('RPUSH', 'messages', unpack(ARGV)); redis.call('HSET', 'generator', 'step', 1, 'generated', 1)"
    renew = """
        redis.call('SET', 'generatorIsActive', '1', 'EX', 9)
        redis.call('SET', 'generatorId', ARGV[1], 'EX', 9)
    """
    elect = renew + "redis.call('HINCRBY', 'generator', 'term', 1)"
    with server.client() as client:
        client.eval(elect, 0, 1)
        client.eval(push, 0, "1 100.1", "2 100.1")
        client.eval(renew, 0, 1)
        client.rpush("messages", "7 another")  # not by a generator
        client.delete("generatorIsActive", "generatorId")
    server.kill()
    server.start()
    with server.client() as client:
        client.eval(elect, 0, 2)
        client.eval(push, 0, "3 200.1 and padding")
        client.set("generatorIsActive", 1, px=1)  # another program
        wait_until(lambda: not client.exists("generatorIsActive"))
    before = [Elected(1), ONE, TWO, Lost(), Elected(2), THREE, Lost(), Lost()]
    assert history.read(server.folder) == before
    server.kill()
    history.set_aside(server.folder)
    server.start()
    with server.client() as client:
        assert not client.keys()
        client.eval(push, 0, "1 300.1")
    assert history.read(server.folder) == [*before, Emptied(), Pushed(1, "300.1")]


@ONE_NEW_SERVER
def test_what_came_of_messages_is_read_as_the_server_wrote_it(new_server) -> None:
    server = new_server(*history.OPTIONS)
    task = Hands(server, AtLeastOnce)
    with server.client() as client:
        client.rpush("messages", "5 100.1", "8 100.1")
        task.take(2)
        task.finish("5 100.1", outcome=Outcome(followups=(b"5 100.1+0",)))
        task.finish("8 100.1", outcome=Outcome("no", later=Later(1000)))
        task.take(0)
        [(item, at)] = client.zrange("messages:later", 0, -1, withscores=True)
        client.zadd("messages:later", {item: at - 1})  # as when the clock has stepped back
    task.store.close()
    assert history.read(server.folder) == [Followed(Pushed(5, "100.1+0")), PutOff(EIGHT, 1, 1)]
