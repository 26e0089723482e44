"""Both deliveries on real servers: with a network that loses calls and replies, and a Redis that goes back in time."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.at_most_once import AtMostOnce
from gtask.exceptions import Trouble, Unanswered, WrongType
from gtask.hand import Hand
from gtask.outage import Line
from gtask.recovery import recover
from gtask.store import Store
from tests.hands import Hands, texts
from tests.servers import Server

LOSSES = ["call", "reply"]


class Lossy(Store):
    """Loses the next call of `method` ("claim", "give_back", "settle", "blmove"), or its reply, when `lose` says so."""

    method = lose = ""
    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def _lossy(self, method: str, call: Callable[[], Any]) -> Any:
        if method != self.method:
            return call()
        self.method = ""
        if self.lose == "reply":
            call()
        self.meanwhile()
        raise (Unanswered if self.lose == "answer" else Trouble)(f"the {self.lose} is lost")

    def claim(self, *args: Any, **kwargs: Any) -> Any:
        return self._lossy("claim", lambda: super(Lossy, self).claim(*args, **kwargs))

    def give_back(self, *args: Any, **kwargs: Any) -> Any:
        return self._lossy("give_back", lambda: super(Lossy, self).give_back(*args, **kwargs))

    def blmove(self, *args: Any, **kwargs: Any) -> Any:
        return self._lossy("blmove", lambda: super(Lossy, self).blmove(*args, **kwargs))

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        return self._lossy("settle", lambda: super(Lossy, self).settle(*args, **kwargs))


@pytest.fixture
def hands(server: Server) -> Iterator[Callable[[type[Hand]], Hands]]:
    made: list[Hands] = []

    def make(kind: type[Hand]) -> Hands:
        made.append(Hands(server, kind, Lossy))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def failed(redis) -> list[str]:
    return [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_lost_claim_is_made_again_and_counts_once(redis, hands, lose: str) -> None:
    redis.rpush("messages", *"abcdef")
    task = hands(AtLeastOnce)
    task.take(3)
    task.finish("a")
    task.finish("b", fail=True)
    task.store.method, task.store.lose = "claim", lose
    assert task.take(2) == ["d", "e"]
    assert texts(redis, f"inflight:{task.id}") == ["c", "d", "e"]
    assert texts(redis, "messages") == ["f"]
    assert failed(redis) == ["b"]
    assert redis.hgetall("totals") == {b"processed": b"2", b"errors": b"1"}


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("kind", [AtLeastOnce, AtMostOnce])
def test_a_lost_give_back_is_made_again_and_counts_once(redis, hands, kind: type[Hand], lose: str) -> None:
    redis.rpush("messages", *"abcdef")
    task = hands(kind)
    task.take(4)
    task.finish("a")
    task.store.method, task.store.lose = "give_back", lose
    task.give_back()
    assert texts(redis, "messages") == list("bcdef")
    assert task.take(2) == ["b", "c"]
    task.finish("b", "c")
    task.leave()
    assert texts(redis, "messages") == list("def")
    assert redis.keys("inflight:*") == []


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("kind", [AtLeastOnce, AtMostOnce])
def test_a_task_whose_last_call_is_lost_leaves_all_the_same(redis, hands, kind: type[Hand], lose: str) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(kind)
    task.take(3)
    task.finish("a", fail=True)
    task.store.method, task.store.lose = "give_back", lose
    task.leave()
    assert texts(redis, "messages") == list("bcd")
    assert failed(redis) == ["a"]
    assert redis.keys("inflight:*") == redis.keys("tasks*") == []


def test_a_wait_that_is_served_after_its_task_has_left_strands_nothing(redis, hands) -> None:
    task, other = hands(AtLeastOnce), hands(AtLeastOnce)
    task.store.method, task.store.lose = "blmove", "call"
    with pytest.raises(Trouble):
        task.hand.wait(Line(task.store))
    task.leave()
    redis.rpush("messages", "m")
    redis.lmove("messages", f"inflight:{task.id}", "LEFT", "RIGHT")  # the request of which nobody knew where it was
    assert other.store.beat(other.membership.member).dead == []
    redis.zadd("tasks:reaped", {task.id: 1})  # the time of the next look
    assert other.store.beat(other.membership.member).dead == [task.id]
    recover(other.store, task.id)
    assert other.take(1) == ["m"]


def test_the_list_of_a_dead_task_is_looked_at_each_time_twice_as_late_for_an_hour(redis, hands) -> None:
    task, other = hands(AtLeastOnce), hands(AtLeastOnce)
    redis.zadd("tasks", {task.id: 1})
    other.store.reap(task.id)
    now = redis.time()[0]
    for ago in (10, 1000, 3500):
        redis.hset("tasks:claims", task.id, f"died {now - ago}")
        redis.zadd("tasks:reaped", {task.id: now})
        redis.rpush(f"inflight:{task.id}", "late")
        assert other.store.reap(task.id).moved == 1
        assert redis.zscore("tasks:reaped", task.id) == pytest.approx(now + ago, abs=20)
    redis.hset("tasks:claims", task.id, f"died {now - 3601}")
    other.store.reap(task.id)
    assert not redis.exists("tasks:reaped") and not redis.hexists("tasks:claims", task.id)


def test_what_came_late_is_looked_for_again_and_again_each_time_twice_as_late(redis, hands) -> None:
    task, now = hands(AtLeastOnce), 1000.0
    task.hand._clock = lambda: now
    assert task.hand.next_look is None
    task.store.method, task.store.lose = "blmove", "call"
    with pytest.raises(Trouble):
        task.hand.wait(Line(task.store))
    looks: list[Any] = []
    for _ in range(3):
        now += task.hand.next_look or 0
        assert task.hand.owes
        now += 1
        task.take(0)
        looks.append(task.hand.next_look)
    assert looks == [1, 3, 7]
    assert not task.hand.owes


@pytest.mark.parametrize("lose", LOSSES)
def test_a_failure_whose_report_is_lost_is_reported_once(redis, hands, lose: str) -> None:
    redis.rpush("messages", *"ab")
    task = hands(AtMostOnce)
    task.take(2)
    task.finish("a", "b", fail=True)
    task.store.method, task.store.lose = "settle", lose
    task.take(2)
    assert failed(redis) == ["a", "b"]


def test_what_was_given_back_by_a_task_that_was_taken_for_dead_meanwhile_is_the_queue_s_once(redis, hands) -> None:
    redis.rpush("messages", *"abcdef")
    task, other = hands(AtLeastOnce), hands(AtLeastOnce)
    task.take(4)
    member = task.membership.member

    def reaped() -> None:
        task.die(redis)
        other.take(2)
        task.membership.join(instead_of=member)  # the heartbeat learns it first

    task.store.method, task.store.lose, task.store.meanwhile = "give_back", "call", reaped
    task.give_back()
    other.finish("a", "b")
    other.take(0)
    assert task.take(9) == list("cdef")
    task.finish(*"cdef")
    task.take(0)
    assert redis.hget("totals", "processed") == b"6"
    assert redis.keys("inflight:*") == redis.keys("messages") == []


def test_a_redis_that_went_back_in_time_takes_no_acknowledgement_for_another_message(redis, hands) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(AtLeastOnce)
    task.take(2)
    old = {key: redis.dump(key) for key in redis.keys("*")}  # "a" and "b" are in hand
    task.give_back()
    task.take(1)
    task.finish("a")
    task.take(0)
    task.take(3)  # b, c, d
    for key in redis.keys("*"):
        redis.delete(key)
    for key, value in old.items():
        redis.restore(key, 0, value)
    first = task.id
    task.finish(*task.started)
    assert task.take(0) == []
    assert task.id != first, "it asks for a new id, as its last calls never were"
    redis.zadd("tasks", {first: 1})
    recover(task.store, first)
    assert sorted(texts(redis, "messages") + texts(redis, f"inflight:{task.id}")) == list("abcd")


def test_a_failure_that_cannot_be_stored_is_not_acknowledged(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    redis.set("errors", "another program's")
    task = hands(AtLeastOnce)
    task.take(2)
    task.finish("a", "b", fail=True)
    with pytest.raises(WrongType, match="errors holds a string"):
        task.take(1)
    assert texts(redis, f"inflight:{task.id}") == ["a", "b"]


def test_a_list_that_was_emptied_by_hand_holds_up_no_reaper(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    task = hands(AtLeastOnce)
    task.take(1)
    redis.delete(f"inflight:{task.id}")
    task.die(redis)
    assert texts(redis, "messages") == ["b"]


def test_a_full_redis_refuses_new_messages_only(redis, hands) -> None:
    """Work that is there can be finished, which is what makes room."""
    redis.rpush("messages", *"abcdefg")
    task, dead = hands(AtLeastOnce), hands(AtLeastOnce)
    term = task.store.beat(task.membership.member, want=True).term
    dead.take(1)
    task.take(4)
    redis.zadd("tasks", {dead.id: 1})
    redis.config_set("maxmemory", "1")
    try:
        assert task.store.beat(task.membership.member, term=term, want=True).renewed
        with pytest.raises(Trouble, match="maxmemory"):
            task.store.push(task.membership.member, term, 1, [b"new"])
        task.finish("b", fail=True)
        task.finish("c")
        assert task.take(1) == ["f"]
        task.give_back()
        recover(task.store, dead.id)
        assert texts(redis, "messages") == list("adefg")
        task.finish(*task.started)
        assert task.take(1) == ["a"]
        task.leave()
    finally:
        redis.config_set("maxmemory", "0")
    assert failed(redis) == ["b"]
    assert texts(redis, "messages") == list("adefg")
    assert redis.keys("inflight:*") == []
    assert redis.hgetall("totals") == {b"processed": b"2", b"errors": b"1", b"redelivered": b"1"}


def test_tasks_join_a_full_redis_and_handle_what_fills_it(redis, hands) -> None:
    """The first ones, after all have ended, and one that was taken for dead."""
    redis.rpush("messages", *"abcd")
    taken_for_dead = hands(AtLeastOnce)
    taken_for_dead.take(1)
    taken_for_dead.die(redis)
    before = taken_for_dead.id
    redis.config_set("maxmemory", "1")
    try:
        first = hands(AtLeastOnce)
        assert first.take(2) == ["a", "b"]
        assert taken_for_dead.take(1) == ["c"]
        assert (first.id, taken_for_dead.id) == (before + 1, before + 2)
        first.finish("a", "b")
        assert first.take(1) == ["d"]
    finally:
        redis.config_set("maxmemory", "0")
    assert {int(i) for i in redis.hkeys("tasks:members")} == {first.id, taken_for_dead.id}
    assert redis.hgetall("totals") == {b"processed": b"2", b"redelivered": b"1"}


def test_a_task_that_waits_finds_what_a_full_redis_gets_back(redis, hands) -> None:
    """It refuses BLMOVE at any time, so who waited for that alone would wait until there is room."""
    task = hands(AtLeastOnce)
    redis.rpush("messages", "a")
    redis.config_set("maxmemory", "1")
    try:
        assert task.wait() == []
        assert task.take(1) == ["a"]
    finally:
        redis.config_set("maxmemory", "0")


def test_a_full_redis_holds_up_no_at_most_once_handler_that_has_a_failure(redis, hands) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(AtMostOnce)
    task.take(2)
    redis.config_set("maxmemory", "1")
    try:
        task.finish("a", fail=True)
        assert task.take(2) == ["c", "d"]
        task.give_back()
        task.leave()
    finally:
        redis.config_set("maxmemory", "0")
    assert failed(redis) == ["a"]
    assert texts(redis, "messages") == list("bcd")


def test_a_server_that_is_no_primary_any_more_is_trouble_and_no_end(new_server) -> None:
    server = new_server()
    with server.client() as redis:
        redis.rpush("messages", "a")
        task = Hands(server, AtLeastOnce)
        redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        for call in (lambda: task.hand.take(1, task.line), lambda: task.store.beat(task.membership.member)):
            with pytest.raises(Trouble):
                call()
        redis.execute_command("REPLICAOF", "NO", "ONE")
        assert task.take(1) == ["a"]
        task.store.close()
