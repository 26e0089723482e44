"""Limits of a server: what it does not take, and what it throws away. Real limits, made small."""

import json
from collections.abc import Callable, Iterator

import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.at_most_once import AtMostOnce
from gtask.exceptions import Rejected
from gtask.hand import Hand
from gtask.outcome import failed
from gtask.recovery import recover
from gtask.store import DEATHS_OF_POISON, Came
from tests.hands import Hands
from tests.servers import Server

BINARY = (bytes(range(256)) * 1600).decode("utf-8", "surrogateescape")  # 400 kB, as JSON more than 1 MB


@pytest.fixture
def limit(redis) -> Iterator[Callable[[str, str], None]]:
    """Sets a limit for the time of the test."""
    before = {}

    def set_limit(name: str, value: str) -> None:
        before.update(redis.config_get(name))
        redis.config_set(name, value)

    yield set_limit
    for name, value in before.items():
        redis.config_set(name, value)


class Task(Hands):
    """Asks again after trouble, as a handler does, but not for ever."""

    def __init__(self, server: Server, kind: type[Hand]) -> None:
        super().__init__(server, kind, attempts=30)

    def drain(self, want: int) -> list[str]:
        """All that comes, in batches of this size at most; BLPOP where a batch is too much."""
        got: list[str] = []
        while batch := self.take(want) or self.wait():
            got += batch
            self.finish(*batch)
        self.take(0)
        return got


@pytest.fixture
def task(server: Server) -> Iterator[Callable[[type[Hand]], Task]]:
    made: list[Task] = []

    def make(kind: type[Hand]) -> Task:
        made.append(Task(server, kind))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.mark.parametrize("what", ["proto-max-bulk-len", "client-query-buffer-limit"])
@pytest.mark.parametrize("kind", [AtMostOnce, AtLeastOnce])
def test_a_failed_message_whose_record_is_too_large_is_stored_as_it_is(
    redis, task, limit, caplog: pytest.LogCaptureFixture, kind: type[Hand], what: str
) -> None:
    redis.rpush("messages", BINARY.encode("utf-8", "surrogateescape"), "small")
    limit(what, "1048576")
    one = task(kind)
    for message in one.take(2):
        one.hand.finished(message, failed(message, "ValueError: no", one.id))
    one.take(0)
    large, small = redis.lrange("errors", 0, -1)
    assert large == BINARY.encode("utf-8", "surrogateescape")
    assert json.loads(small)["error"] == "ValueError: no"
    assert "ValueError: no" in caplog.text, "what does not fit is said"
    assert redis.keys("inflight:*") == redis.keys("messages") == []


def test_a_large_poison_is_put_aside_without_being_sent(redis, task, limit) -> None:
    redis.rpush("messages", BINARY.encode("utf-8", "surrogateescape"))
    limit("proto-max-bulk-len", "1048576")
    living = task(AtLeastOnce)
    for _ in range(DEATHS_OF_POISON):
        dead = task(AtLeastOnce)
        assert dead.take(1) == [BINARY]
        redis.zadd("tasks", {dead.id: 1})
        recover(living.store, dead.id)
    assert redis.lrange("errors", 0, -1) == [BINARY.encode("utf-8", "surrogateescape")]
    assert redis.keys("inflight:*") == redis.keys("messages*") == []


def test_no_record_is_sent_before_one_is_needed(redis, server: Server, task) -> None:
    redis.rpush("messages", "m")
    dead, living = task(AtLeastOnce), task(AtLeastOnce)
    dead.take(1)
    redis.zadd("tasks", {dead.id: 1})
    with server.monitor() as monitor:
        recover(living.store, dead.id)
        redis.ping()
        while not monitor.of("PING"):
            pass
    assert not [e for e in monitor.history if "killed the" in " ".join(e.words)]
    assert not monitor.of("LINDEX", f"inflight:{dead.id}", "0") or all(e.in_script for e in monitor.of("LINDEX"))


def test_what_can_never_be_sent_is_no_trouble_that_passes(redis, task, limit) -> None:
    one = task(AtMostOnce)
    limit("proto-max-bulk-len", "1048576")
    with pytest.raises(Rejected, match="invalid bulk length"):
        one.store.settle(one.membership.member, 1, Came(failed=["x" * 2_000_000]))
    assert one.take(2) == []


def test_answers_that_redis_throws_away_are_asked_for_in_smaller_pieces(redis, task, limit, caplog) -> None:
    """At-most-once: what is lost is two batches at most, and each loss is said."""
    redis.rpush("messages", *(f"{n:010000d}" for n in range(2000)))
    limit("client-output-buffer-limit", "normal 1000000 0 0")
    got = task(AtMostOnce).drain(1000)
    print(f"\n{len(got)} of 2,000")
    assert 1700 <= len(got) < 2000, "a batch has about 105 messages"
    assert "an answer of Redis was lost" in caplog.text
    assert redis.llen("messages") == 0


def test_at_least_once_gets_all_of_them(redis, task, limit) -> None:
    messages = [f"{n:010000d}" for n in range(1000)]
    redis.rpush("messages", *messages)
    limit("client-output-buffer-limit", "normal 1000000 0 0")
    assert task(AtLeastOnce).drain(1000) == messages
    assert redis.hget("totals", "processed") == b"1000"


def test_where_no_batch_gets_through_single_messages_do(redis, task, limit) -> None:
    one = task(AtMostOnce)
    redis.rpush("messages", *(f"{n:030000d}" for n in range(300)))
    limit("client-output-buffer-limit", "normal 50000 0 0")
    got = one.drain(100)
    print(f"\n{len(got)} of 300")
    assert len(got) >= 180 and got[-1] == f"{299:030000d}"
