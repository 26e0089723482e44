"""A task's place among the others: who joins, who does not, and what is found again."""

import signal
import time
from typing import Any

import pytest

from gtask.exceptions import Trouble
from gtask.membership import Membership
from gtask.store import Beat, Store
from tests.servers import ONE_NEW_SERVER, ONE_SERVER
from tests.tasks import GATE, wait_until, waits


def no_members(redis) -> bool:
    return not redis.exists("tasks", "tasks:members")


@ONE_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_task_that_is_ending_takes_no_new_id(server, redis, start, tmp_path, delivery) -> None:
    (tmp_path / "job.py").write_text(GATE)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "in hand")
    options = ["--handle", "job:handle", "--heartbeat", "0.5", "--delivery", delivery, "--grace", "60"]
    task = start("--redis", server.url, *options)
    wait_until((tmp_path / "started in hand").exists)
    wait_until(lambda: waits(redis), "another worker waits")
    with server.monitor() as monitor:
        task.send(signal.SIGTERM)
        wait_until(lambda: not waits(redis), "it is ending")
        redis.hdel("tasks:members", task.task_id)
        redis.zrem("tasks", task.task_id)
        wait_until(lambda: len(monitor.of("HGET", "tasks:members")) > 3, "it asks again and again")
        (tmp_path / "go").touch()
        assert task.wait() == 0
    assert redis.get("taskId") == b"1"
    assert no_members(redis)


@ONE_SERVER
def test_a_task_that_is_ending_takes_a_new_id_only_to_store_what_would_be_lost(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(GATE)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "fail")
    task = start("--redis", server.url, "--handle", "job:handle", "--heartbeat", "0.5", "--grace", "60")
    wait_until((tmp_path / "started fail").exists)
    wait_until(lambda: waits(redis), "another worker waits")
    task.send(signal.SIGTERM)
    wait_until(lambda: not waits(redis), "it is ending")
    redis.hdel("tasks:members", task.task_id)
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert redis.llen("errors") == 1
    wait_until(lambda: not redis.hlen("tasks:members"), "and leaves with it")


@ONE_SERVER
def test_who_joins_after_the_counter_was_lost_takes_the_next_number_that_is_free(server, redis, start) -> None:
    first = [start("--redis", server.url).task_id for _ in range(2)]
    redis.delete("taskId")
    assert [start("--redis", server.url).task_id for _ in range(2)] == [3, 4]
    assert first == [1, 2]
    assert redis.hlen("tasks:members") == 4


@ONE_NEW_SERVER
def test_who_joins_first_after_an_outage_takes_nobody_for_dead(new_server, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(GATE)
    server = new_server()
    options = ["--redis", server.url, "--handle", "job:handle", "--heartbeat", "1.5", "--delivery", "at-least-once"]
    with server.client() as redis:
        redis.set("generatorIsActive", 1, ex=600)
        redis.rpush("messages", "in hand")
        living = start(*options)
        wait_until((tmp_path / "started in hand").exists)
        server.pause()
        living.send(signal.SIGSTOP)  # so that it is not the first to come back
        time.sleep(5.5 * 1.5)  # T is 1.5 s, so that the living one has time to come back after the first
        server.go_on()
        joined = start(*options)
        assert joined.task_id == 2
        with server.monitor() as monitor:
            wait_until(lambda: monitor.of("ZADD", "tasks"), "its next heartbeat")
        living.send(signal.SIGCONT)
        with server.monitor() as monitor:
            beats = "the living one goes on"
            wait_until(lambda: any(e.words[-1] == "1" for e in monitor.of("ZADD", "tasks")), beats)
        assert redis.hkeys("tasks:members") == [b"1", b"2"]
        assert redis.lrange("inflight:1", 0, -1) == [b"in hand"]


def test_a_join_whose_reply_was_lost_burns_no_number(server, redis) -> None:
    store: Any = Store(server.url, "")
    membership = Membership(store, 1, 5, "job:generate")
    beat = store.beat

    def lose_the_reply(*arguments, **options) -> Beat:
        beat(*arguments, **options)
        raise Trouble("no answer")

    store.beat = lose_the_reply
    for _ in range(3):
        with pytest.raises(Trouble):
            membership.first_join()
    store.beat = beat
    membership.first_join()
    assert membership.member.task_id == 1
    assert redis.get("taskId") == b"1"
    store.close()


@ONE_SERVER
def test_what_a_dead_task_held_comes_back_though_somebody_deleted_the_index(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(GATE)
    options = ["--redis", server.url, "--handle", "job:handle", "--heartbeat", "0.5", "--delivery", "at-least-once"]
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "in hand")
    holder = start(*options)
    wait_until((tmp_path / "started in hand").exists)
    other = start(*options)
    assert other.task_id == 2
    holder.kill()
    redis.delete("tasks")
    (tmp_path / "go").touch()
    wait_until(lambda: redis.hget("totals", "processed") == b"1", "the other one handles it")
    assert redis.hkeys("tasks:members") == [b"2"]
    assert not redis.exists("inflight:1")


@ONE_SERVER
def test_a_message_that_a_lost_wait_brings_late_does_not_stay_with_a_generator(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text("def generate(last): return ()\ndef handle(message): pass\n")
    redis.set("generatorIsActive", 1, ex=600)
    options = ["--generate", "job:generate", "--handle", "job:handle", "--heartbeat", "2"]
    task = start("--redis", server.url, *options, "--delivery", "at-least-once")
    waiting = wait_until(lambda: next((c for c in redis.client_list() if c["cmd"] == "blmove"), None), "it waits")
    redis.client_kill_filter(_id=waiting["id"])  # as if its request were still on its way
    redis.delete("generatorIsActive")
    wait_until(task.is_generator)
    with server.monitor() as monitor:
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive")) >= 3, "it is the generator for a while")
    redis.rpush("inflight:1", "late")  # where a BLMOVE puts it
    wait_until(lambda: not redis.exists("inflight:1"), "it is found")
    handler = start("--redis", server.url, *options, "--delivery", "at-least-once")
    wait_until(lambda: redis.hget("totals", "processed") == b"1", "it is handled")
    assert task.is_generator() and not handler.is_generator()
