"""What users' code throws where it does not belong: into workers, into gtask's greenlets, into the main one."""

import json
import signal
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.system.test_ending import hold_flag
from tests.tasks import wait_until

JOB = """
import gc, os, pathlib, signal, sys, time
import gevent

def on_alarm(number, frame):
    if gevent.getcurrent() is gevent.get_hub():  # not in a user's handler: it raises in whatever runs when it comes
        raise TimeoutError("too slow")
    signal.setitimer(signal.ITIMER_REAL, 0.2)

signal.signal(signal.SIGALRM, on_alarm)

def note(what):
    with open("log", "a") as log:
        log.write(what + "\\n")

def kill_heartbeat():
    for greenlet in gc.get_objects():
        if isinstance(greenlet, gevent.Greenlet) and greenlet.name == "heartbeat":
            greenlet.kill(block=False)

def handle(message):
    note("begins " + message)
    word = message.split()[0]
    if word == "leaks":
        gevent.Timeout(0.05).start()
    elif word == "exits":
        gevent.spawn(sys.exit, 3)
    elif word == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    elif word == "kills":
        gevent.spawn(kill_heartbeat)
    elif word == "closes":
        os.closerange(3, 200)
    elif word == "unplugs":
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and "pipe:" in os.readlink(f"/proc/self/fd/{fd}"):
                os.close(fd)
        others = os.pipe()
        os.write(others[1], b"not a signal")
    elif word == "deafens":
        os.close(signal.set_wakeup_fd(-1))
    elif word == "held":
        while not os.path.exists("go"):
            time.sleep(0.3)
    elif word in ("computes", "interrupts"):
        if word == "interrupts":
            os.kill(os.getpid(), signal.SIGINT)
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass
    note("ends " + message)
"""


@pytest.fixture
def log(tmp_path: Path):
    """The lines that the handlers have written."""
    (tmp_path / "job.py").write_text(JOB)
    file = tmp_path / "log"
    return lambda word: [line for line in (file.read_text().splitlines() if file.exists() else []) if word in line]


@ONE_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_leaked_timeout_kills_no_worker(server, redis, start, log, delivery: str) -> None:
    hold_flag(redis)
    redis.rpush("messages", *(f"leaks {number}" for number in range(10)))
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", delivery)
    wait_until(lambda: len(log("ends leaks")) == 10)
    wait_until(lambda: "Timeout was thrown into a worker" in task.stderr, "it is said")
    for number in range(100):  # one by one: each of the ten workers has to take some
        redis.rpush("messages", f"plain {number}")
        wait_until(lambda number=number: log(f"ends plain {number}"), "the workers go on")
    assert task.stderr.count("was thrown into a worker") == 1, "it is said once"
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert task.total("processed") == 110


@ONE_SERVER
@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("exits", "SystemExit: 3 was raised outside generate and handle"),
        (
            "alarm",
            "SIGALRM raised TimeoutError: too slow (job.py:7 on_alarm); for a time limit use gevent.Timeout",
        ),
        ("kills", "GreenletExit was thrown into gtask's own greenlet (heartbeat)"),
    ],
)  # fmt: skip
def test_what_is_thrown_into_gtask_ends_the_task_gracefully_with_one_line(
    server, redis, start, log, tmp_path, word: str, line: str
) -> None:
    hold_flag(redis)
    task = start(
        "--redis", server.url, "--generate", "builtins:iter", "--handle", "job:handle", "--delivery", "at-least-once"
    )
    redis.rpush("messages", "held")
    wait_until(lambda: log("begins held"))
    redis.rpush("messages", word)
    wait_until(lambda: line in task.stderr, "the line")
    assert task.process.poll() is None, "what is in hand is finished first"
    (tmp_path / "go").touch()
    assert task.wait() == 70
    assert log("ends held")
    assert len(task.stderr.splitlines()) == 1
    assert not redis.exists("tasks", "tasks:members", "inflight:1"), "it has left"


@ONE_SERVER
def test_after_the_signal_no_further_message_is_started(server, redis, start, log) -> None:
    """Ten workers have been woken for ten messages that compute; they take turns. The signal comes in the second one,
    and is seen before that ends."""
    hold_flag(redis)
    redis.rpush("messages", "computes 0", "interrupts 1", *(f"computes {number}" for number in range(2, 10)))
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", "at-least-once")
    assert task.wait() == 0
    assert log("begins") == ["begins computes 0", "begins interrupts 1"]
    assert len(log("ends")) == 2
    assert redis.llen("messages") == 8


@ONE_SERVER
def test_at_most_once_what_is_not_finished_within_the_grace_is_a_failure(server, redis, start, log) -> None:
    hold_flag(redis)
    redis.rpush("messages", "held 1", "held 2")
    task = start("--redis", server.url, "--handle", "job:handle", "--grace", "0.5")
    wait_until(lambda: len(log("begins held")) == 2)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    assert {(r["message"], r["error"]) for r in records} == {
        ("held 1", "not finished within --grace 0.5"),
        ("held 2", "not finished within --grace 0.5"),
    }
    assert "2 messages were not finished within --grace 0.5: now in errors" in task.stderr
    assert task.reports("processed")[-1] == {"msg": "processed", "total": 2, "errors": 2}


@ONE_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_a_closed_terminal_is_a_clean_end(server, redis, start, log, tmp_path, delivery: str) -> None:
    hold_flag(redis)
    redis.rpush("messages", *(f"held {number}" for number in range(10)))
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", delivery)
    wait_until(lambda: len(log("begins held")) == 10)
    task.send(signal.SIGHUP)
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert len(log("ends held")) == 10
    assert not redis.exists("messages", "errors")


@ONE_SERVER
def test_under_nohup_a_closed_terminal_is_nothing(server, redis, start, log) -> None:
    hold_flag(redis)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        task = start("--redis", server.url, "--handle", "job:handle")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert task.task_id
    task.send(signal.SIGHUP)
    redis.rpush("messages", "plain")
    wait_until(lambda: log("ends plain"), "it goes on")


@ONE_SERVER
def test_at_most_once_the_record_of_what_was_not_finished_says_that_the_event_loop_broke(
    server, redis, start, log
) -> None:
    hold_flag(redis)
    task = start("--redis", server.url, "--handle", "job:handle")
    redis.rpush("messages", "held")
    wait_until(lambda: log("begins held"))
    redis.rpush("messages", "closes")
    assert task.wait() == 70
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    assert [(r["message"], r["error"]) for r in records if r["message"] == "held"] == [
        ("held", "not finished: the event loop of its task broke")
    ]


@ONE_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
@pytest.mark.parametrize("word", ["closes", "deafens", "unplugs"])
def test_closing_descriptors_that_are_not_one_s_own_ends_the_task_with_a_line_and_costs_nothing(
    server, redis, start, log, word: str, delivery: str
) -> None:
    hold_flag(redis)
    task = start(
        "--redis",
        server.url,
        "--generate",
        "builtins:iter",
        "--handle",
        "job:handle",
        "--delivery",
        delivery,
        "--concurrency",
        "1",
    )
    assert task.task_id
    redis.rpush("messages", "plain 1", word, *(f"plain {number}" for number in range(2, 100)))
    assert task.wait() == 70
    assert task.stderr.count("\n") == 1, task.stderr
    line = task.stderr
    assert "descriptors that are not their own were closed" in line
    assert not redis.exists("tasks:members", "inflight:1"), "it has left"
    handled = log("ends plain")
    waiting = redis.lrange("messages", 0, -1)
    assert [*(line.removeprefix("ends ").encode() for line in handled), *waiting] == [
        b"plain %d" % number for number in range(1, 100)
    ]
