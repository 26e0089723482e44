"""How a task ends: what is in hand is finished, what is not goes back, and the flag is free."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from subprocess import PIPE

import pytest

from gtask.task import LAST_CALL
from tests.servers import ONE_SERVER, OTHER_SERVER
from tests.tasks import GATE, PATIENCE, wait_until, waits

IDLE = "60000"
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def hold_flag(redis) -> None:
    """Another program generates, so that tasks handle."""
    redis.set("generatorIsActive", 1, ex=600)


def insist(task, number: int) -> None:
    """Signals until the task has ended: what comes soon after the first signal says nothing new."""
    wait_until(lambda: task.send(number) or task.process.poll() is not None, "it ends")


@OTHER_SERVER
@SIGNALS
def test_a_task_finishes_what_it_has_in_hand_and_leaves_nothing_behind(server, redis, start, tmp_path, number) -> None:
    (tmp_path / "job.py").write_text(GATE)
    hold_flag(redis)
    redis.rpush("messages", "one", "fail two")
    # With the usual --wait there is a moment every few seconds in which nobody waits, though the task asks for more.
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "3", "--wait", "60")
    wait_until((tmp_path / "started fail two").exists)
    wait_until(lambda: waits(redis), "its third worker waits for a message")
    task.send(number)
    wait_until(lambda: not waits(redis), "it asks for no more messages")
    redis.rpush("messages", "for others")
    assert task.process.poll() is None
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert task.reports()[-1] == {"msg": "processed", "total": 2, "errors": 1}
    assert redis.lrange("messages", 0, -1) == [b"for others"]
    assert b"fail two" in redis.lpop("errors")
    assert sorted(redis.keys("*")) == [b"generatorIsActive", b"messages", b"taskId"]


@ONE_SERVER
@SIGNALS
def test_a_generator_gives_the_flag_up_and_sends_its_last_total(server, redis, start, number) -> None:
    # It must not handle what it has pushed, as it would do if it lost the flag on a busy machine.
    task = start("--redis", server.url, "--interval", "1", "--heartbeat", "20")
    wait_until(lambda: task.total("generated") > 50)
    task.send(number)
    assert task.wait() == 0
    assert not redis.exists("generatorIsActive", "generatorId", "tasks")
    count = redis.llen("messages")
    assert int(redis.hget("generator", "generated")) == count
    assert redis.lrange("messages", 0, -1) == [str(i + 1).encode() for i in range(count)]
    assert task.reports()[-1] == {"msg": "generated", "total": count}


@pytest.mark.serial
@ONE_SERVER
def test_while_a_generator_finishes_what_it_has_in_hand_another_one_generates(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(GATE)
    options = ["--redis", server.url, "--interval", "20", "--heartbeat", "10", "--handle", "job:handle"]
    hold_flag(redis)
    redis.rpush("messages", "in hand")
    first = start(*options)
    wait_until((tmp_path / "started in hand").exists)
    redis.delete("generatorIsActive")
    redis.publish("generatorIsActive", "")  # its next heartbeat would be up to 10 s later
    wait_until(first.is_generator)
    second = start(*options, "--concurrency", "1")
    assert second.task_id == 2
    began = time.monotonic()
    first.send(signal.SIGTERM)
    wait_until(second.is_generator)
    assert time.monotonic() - began < 9, "the flag would have lived for 10 to 20 s"
    assert first.process.poll() is None
    (tmp_path / "go").touch()
    assert first.wait() == 0
    assert first.reports()[-1] == {"msg": "processed", "total": 1, "errors": 0}


@OTHER_SERVER
def test_messages_that_were_not_started_return_to_the_head_in_their_old_order(server, redis, start, tmp_path) -> None:
    # Fast messages make the task take many at once; the first slow one ends the task while others are in hand.
    (tmp_path / "job.py").write_text(
        "import gevent, os, signal\n"
        "def handle(message):\n"
        "    if message.startswith('slow'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        gevent.sleep(0.5)\n"  # a busy machine needs a while until the signal has come
    )
    hold_flag(redis)
    slow = [b"slow %d" % i for i in range(3000)]
    redis.rpush("messages", *(b"fast %d" % i for i in range(5000)), *slow)
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "1")
        assert task.wait() == 0
        returned = monitor.of("LPUSH", "messages")
    assert len(returned) > 5, "nothing was in hand, so this test has shown nothing"
    handled = task.total("processed") - 5000
    assert 1 <= handled <= 3
    assert redis.lrange("messages", 0, -1) == slow[handled:]


@pytest.mark.serial
@ONE_SERVER
def test_what_is_not_finished_within_the_grace_is_given_up(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(GATE)
    hold_flag(redis)
    redis.rpush("messages", "endless")
    task = start("--redis", server.url, "--handle", "job:handle", "--grace", "1")
    wait_until((tmp_path / "started endless").exists)
    began = time.monotonic()
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert 0.9 < time.monotonic() - began < 9, "the usual grace is 10 s"
    assert "1 message was not finished within --grace 1" in task.stderr


@ONE_SERVER
@pytest.mark.parametrize(("delivery", "where"), [("at-most-once", "errors"), ("at-least-once", "messages")])
def test_a_task_that_stood_still_until_its_grace_was_over_tells_redis_what_was_not_finished(
    server, redis, start, tmp_path, delivery: str, where: str
) -> None:
    """Somebody has stopped it, or its machine slept."""
    (tmp_path / "job.py").write_text(GATE)
    hold_flag(redis)
    redis.rpush("messages", "endless")
    task = start("--redis", server.url, "--handle", "job:handle", "--grace", "1", "--delivery", delivery)
    wait_until((tmp_path / "started endless").exists)
    wait_until(lambda: waits(redis), "a worker that waits for the next message")
    task.send(signal.SIGTERM)
    wait_until(lambda: not waits(redis), "the end has begun")
    task.send(signal.SIGSTOP)
    time.sleep(1 + LAST_CALL + 0.5)  # it is the time itself that matters
    task.send(signal.SIGCONT)
    assert task.wait() == 0, task.stderr
    assert redis.llen(where) == 1
    assert not redis.exists("tasks", "tasks:members", "inflight:1"), "it has left"
    assert "Redis has not answered" not in task.stderr


@ONE_SERVER
def test_a_generate_that_does_not_end_ends_its_task_with_75_even_without_any_grace(
    server, redis, start, tmp_path
) -> None:
    (tmp_path / "job.py").write_text(
        "import time\n"
        "def generate(last):\n"
        "    while True:\n"
        "        try:\n"
        "            yield 'message'\n"
        "            time.sleep(0.01)\n"
        "        except BaseException:\n"
        "            time.sleep(1000)\n"
    )
    task = start("--redis", server.url, "--generate", "job:generate", "--grace", "0")
    wait_until(lambda: task.total("generated") > 3)
    task.send(signal.SIGTERM)
    assert task.wait() == 75
    assert "job:generate was told to end and is still there after 0.5 s (job.py:8 generate)" in task.stderr
    assert not redis.exists("generatorIsActive")


@pytest.mark.serial
@SIGNALS
@ONE_SERVER
def test_a_second_signal_ends_at_once(server, redis, start, tmp_path, number) -> None:
    (tmp_path / "job.py").write_text(GATE)
    hold_flag(redis)
    redis.rpush("messages", "endless")
    task = start("--redis", server.url, "--handle", "job:handle", "--grace", "60", "--wait", "60")
    wait_until((tmp_path / "started endless").exists)
    wait_until(lambda: waits(redis), "the others wait for a message")
    task.send(signal.SIGTERM)
    wait_until(lambda: not waits(redis), "it is ending")
    began = time.monotonic()
    insist(task, number)
    assert task.wait() == 128 + number
    assert time.monotonic() - began < 30, "the grace is 60 s"


@ONE_SERVER
def test_two_signals_at_once_are_one(server, redis, start, tmp_path) -> None:
    """`timeout` signals its child and, in the same instant, its child's group."""
    (tmp_path / "job.py").write_text(GATE)
    hold_flag(redis)
    redis.rpush("messages", "in hand")
    task = start("--redis", server.url, "--handle", "job:handle", "--wait", "60")
    wait_until((tmp_path / "started in hand").exists)
    task.send(signal.SIGTERM)
    task.send(signal.SIGINT)
    wait_until(lambda: not waits(redis), "it is ending")
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert task.reports()[-1] == {"msg": "processed", "total": 1, "errors": 0}


@pytest.mark.serial
@ONE_SERVER
def test_a_second_signal_ends_a_task_whose_handler_computes_for_ever(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import pathlib\ndef handle(message):\n    pathlib.Path('started').touch()\n    while True: pass\n"
    )
    hold_flag(redis)
    redis.rpush("messages", "endless")
    task = start("--redis", server.url, "--handle", "job:handle", "--grace", "60")
    wait_until((tmp_path / "started").exists)
    began = time.monotonic()
    insist(task, signal.SIGTERM)
    assert task.wait() == 143
    assert time.monotonic() - began < 30, "the grace is 60 s"


@pytest.mark.serial
@ONE_SERVER
@pytest.mark.parametrize("role", ["handler", "generator"])
def test_an_idle_task_ends_at_once(server, redis, start, role: str) -> None:
    took = []
    for _ in range(3):
        if role == "handler":
            hold_flag(redis)
        task = start("--redis", server.url, "--interval", IDLE, "--wait", "60")
        if role == "handler":
            wait_until(lambda: waits(redis), "it waits for a message")
        else:
            wait_until(lambda task=task: task.total("generated") == 1)
        began = time.monotonic()
        task.send(signal.SIGTERM)
        assert task.process.wait(PATIENCE) == 0
        took.append(time.monotonic() - began)
        redis.flushall()
    assert min(took) < 0.5 and median(took) < 2, took


@ONE_SERVER
def test_a_monitored_task_ends_when_its_monitor_is_gone(server, redis, start) -> None:
    task = start(
        "--redis", server.url, "--interval", "5", "--heartbeat", "20", env={"GTASK_MONITORED": "1"}, stdin=PIPE
    )
    task.process.stdin.write(b"what is written there means nothing\n")
    task.process.stdin.flush()
    wait_until(lambda: task.total("generated") > 5)
    assert task.process.poll() is None
    task.process.stdin.close()
    assert task.wait() == 0
    assert not redis.exists("generatorIsActive")
    assert task.reports()[-1] == {"msg": "generated", "total": redis.llen("messages")}


@ONE_SERVER
@pytest.mark.parametrize("monitored", [None, "", "0"])
def test_a_task_that_was_started_by_hand_does_not_care_about_stdin(server, redis, start, monitored) -> None:
    env = {} if monitored is None else {"GTASK_MONITORED": monitored}
    task = start("--redis", server.url, "--interval", "5", env=env, stdin=PIPE)
    task.process.stdin.close()
    wait_until(lambda: task.total("generated") > 150, "it goes on for a second and more")
    assert task.process.poll() is None


@OTHER_SERVER
def test_a_task_whose_standard_files_are_closed_works_and_ends(server, redis, start, tmp_path) -> None:
    (tmp_path / "closed.py").write_text(
        "import os, sys\n"
        "for fd in (0, 1, 2): os.close(fd)\n"
        f"os.execv(sys.executable, [sys.executable, '-m', 'gtask', '--redis', '{server.url}', '--interval', '5'])\n"
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[2]), "GTASK_MONITORED": "0"}
    process = subprocess.Popen([sys.executable, str(tmp_path / "closed.py")], env=env)
    try:
        wait_until(lambda: redis.llen("messages") > 20, "it generates")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert not redis.exists("generatorIsActive")
