"""What is said while Redis is away, and how long it is asked again (on real servers: system/test_outage.py)."""

import logging
import re

import gevent
import pytest
from gevent.event import Event

from gtask.exceptions import Full, Trouble
from gtask.outage import Outage
from gtask.store import backoff


class Redis:
    """Away for the next `failures` attempts of anybody."""

    def __init__(self, failures: int, *trouble: Trouble) -> None:
        """`trouble`: what it says first, in the place of no answer."""
        self.failures = failures
        self.trouble = list(trouble)

    def attempt(self) -> str:
        if self.failures > 0:
            self.failures -= 1
            raise self.trouble.pop(0) if self.trouble else Trouble("no answer")
        return "answer"


@pytest.fixture
def outage(caplog) -> Outage:
    caplog.set_level(logging.WARNING)
    return Outage("the address", lambda failures: 0.001)


def test_what_redis_answers_is_returned_and_nothing_is_said(outage, caplog) -> None:
    assert outage.retry("me", Redis(0).attempt, Event()) == "answer"
    assert not caplog.messages


def test_one_broken_connection_is_no_outage(outage, caplog) -> None:
    assert outage.retry("me", Redis(1).attempt, Event()) == "answer"
    assert not caplog.messages


def test_an_outage_is_said_once_by_all_and_its_end_once(outage, caplog) -> None:
    redis = Redis(30)
    asking = [gevent.spawn(outage.retry, f"greenlet {i}", redis.attempt, Event()) for i in range(3)]
    gevent.joinall(asking)
    assert [greenlet.value for greenlet in asking] == ["answer"] * 3
    lost, back = caplog.messages
    assert lost == "lost Redis at the address: no answer; trying again"
    assert re.fullmatch(r"Redis is back after \d+\.\d s", back)


def test_who_gives_up_gets_the_last_trouble(outage) -> None:
    give_up = Event()
    redis = Redis(1_000_000)
    asking = gevent.spawn(outage.retry, "me", redis.attempt, give_up)
    gevent.sleep(0.02)
    assert not asking.ready()
    give_up.set()
    with pytest.raises(Trouble, match="no answer"):
        asking.get(timeout=60)


def test_who_fails_otherwise_waits_for_redis_no_more(outage, caplog) -> None:
    """Else the outage would never be over, and the next one not be said."""
    redis = Redis(3)

    def attempt() -> str:
        if redis.failures == 0:
            raise ValueError("another way to fail")
        return redis.attempt()

    for _ in range(2):
        redis.failures = 3
        with pytest.raises(ValueError, match="another way"):
            outage.retry("me", attempt, Event())
    assert [message.split()[0] for message in caplog.messages] == ["lost", "lost"]


def test_a_second_outage_is_said_again(outage, caplog) -> None:
    for _ in range(2):
        outage.retry("me", Redis(3).attempt, Event())
    assert [message.split()[0] for message in caplog.messages] == ["lost", "Redis", "lost", "Redis"]


def test_the_time_between_two_tries_grows_to_a_second_and_is_another_for_each_task() -> None:
    asked: list[int] = []

    def soon(failures: int) -> float:
        asked.append(failures)
        return 0.001

    outage = Outage("the address", soon)
    outage.retry("me", Redis(4).attempt, Event())
    assert asked == [1, 2, 3, 4]
    first, later, last = ([backoff(failures) for _ in range(100)] for failures in (1, 4, 100))
    assert max(first) < min(later) and max(later) <= 1
    assert min(last) > 0.4 and max(last) <= 1
    assert all(len(set(times)) > 50 for times in (first, later, last)), "a fleet would come back all at once"


def test_a_full_redis_is_not_called_lost(outage, caplog) -> None:
    assert outage.retry("me", Redis(3, *[Full("it is full")] * 3).attempt, Event()) == "answer"
    full, room = caplog.messages
    assert full == "it is full; trying again"
    assert re.fullmatch(r"Redis has room again after \d+\.\d s", room)


def test_a_full_redis_that_is_lost_too_is_said_to_be(outage, caplog) -> None:
    assert outage.retry("me", Redis(5, *[Full("it is full")] * 3).attempt, Event()) == "answer"
    full, lost, back = caplog.messages
    assert (full, lost) == ("it is full; trying again", "lost Redis at the address: no answer; trying again")
    assert re.fullmatch(r"Redis is back after \d+\.\d s", back)
