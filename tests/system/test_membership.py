"""A task's place among the others: who joins, who does not, and what is found again."""

import signal

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

# A message is handled until the test lets it go on; one with "fail" in its name fails then.
GATE = """
import gevent, pathlib
def handle(message):
    pathlib.Path("started " + message).touch()
    while not pathlib.Path("go").exists():
        gevent.sleep(0.01)
    if "fail" in message:
        raise ValueError(message)
"""


def no_members(redis) -> bool:
    return not redis.exists("tasks", "tasks:members")


@ONE_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_task_that_is_ending_takes_no_new_id(server, redis, start, tmp_path, delivery) -> None:
    (tmp_path / "job.py").write_text(GATE)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "in hand")
    options = ["--handle", "job:handle", "--heartbeat", "0.5", "--delivery", delivery]
    task = start("--redis", server.url, *options)
    wait_until((tmp_path / "started in hand").exists)
    with server.monitor() as monitor:
        task.send(signal.SIGTERM)
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
    task = start("--redis", server.url, "--handle", "job:handle", "--heartbeat", "0.5")
    wait_until((tmp_path / "started fail").exists)
    task.send(signal.SIGTERM)
    redis.hdel("tasks:members", task.task_id)
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert redis.llen("errors") == 1
    wait_until(lambda: not redis.hlen("tasks:members"), "and leaves with it")
