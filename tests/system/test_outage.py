"""Redis that is not there, refuses, goes away and comes back: nobody dies of it, and nothing in hand is dropped."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_NEW_SERVER
from tests.tasks import wait_until

COMMANDS = pytest.mark.parametrize("command", [(), ("getErrors",), ("retryErrors",), ("status",)])


# -- at the start


@COMMANDS
def test_no_redis_at_the_start_is_one_line_with_address_reason_and_what_to_do(start, command, unused_port) -> None:
    task = start(*command, "--redis", f"redis://127.0.0.1:{unused_port}/3")
    assert task.wait() == 69
    assert task.lines == []
    [line] = task.stderr.splitlines()
    assert line.startswith(f"gtask: no Redis at redis://127.0.0.1:{unused_port}/3: ")
    assert "refused" in line
    assert "start one, or name another with --redis or GTASK_REDIS" in line


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:{}/0", "redis://127.0.0.1:{}/0?password=secret"])
def test_a_password_is_not_shown(start, unused_port, url: str) -> None:
    task = start("--redis", url.format(unused_port))
    assert task.wait() == 69
    assert f"127.0.0.1:{unused_port}/0: " in task.stderr
    assert "secret" not in task.stderr


def test_a_socket_that_does_not_exist_is_named(start, tmp_path) -> None:
    task = start("--redis", f"unix://{tmp_path}/none.sock")
    assert task.wait() == 69
    [line] = task.stderr.splitlines()
    assert f"unix://{tmp_path}/none.sock" in line and "No such file" in line


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Nobody else can listen there meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("command", "password"),
    [((), ""), ((), ":wrong@"), ((), "user:wrong@"), (("getErrors",), ""), (("retryErrors",), ""), (("status",), "")],
)
@ONE_NEW_SERVER
def test_a_wrong_or_missing_password_is_77_and_not_shown(new_server, start, command, password: str) -> None:
    server = new_server("requirepass", "secret")
    task = start(*command, "--redis", f"redis://{password}127.0.0.1:{server.port}/0")
    assert task.wait() == 77
    assert task.lines == []
    [line] = task.stderr.splitlines()
    assert re.match(rf"gtask: Redis at redis://\S*127\.0\.0\.1:{server.port}/0 refuses: ", line)
    assert "wrong" not in line.partition(" refuses: ")[0]
    assert "user:password@host" in line


@COMMANDS
@ONE_SERVER
def test_another_program_s_data_under_a_key_of_ours_is_one_line_and_70(server, redis, start, command) -> None:
    redis.mset({"messages": "text", "errors": "text"})
    task = start(*command, "--redis", server.url)
    assert task.wait() == 70
    assert redis.mget("messages", "errors") == [b"text", b"text"]
    assert "Traceback" not in task.stderr
    [line] = task.stderr.splitlines()
    assert re.search(r"gtask: (messages|errors) holds a string, where gtask has a list", line) and "--namespace" in line


def test_the_right_password_lets_a_task_work(new_server, start) -> None:
    server = new_server("requirepass", "secret")
    task = start("--redis", f"redis://:secret@127.0.0.1:{server.port}/0", "--interval", "5")
    wait_until(lambda: task.total("generated") > 5)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "secret" not in task.stderr


# -- while tasks run


def log_of(task) -> list[str]:
    """What it said about Redis being away."""
    said = ("lost Redis", "Redis is back", "no Redis", "Traceback")
    return [line for line in task.stderr.splitlines() if any(words in line for words in said)]


def said_once(task) -> bool:
    """Lost once, back once, and how long it was."""
    log = log_of(task)
    return (
        len(log) == 2
        and "lost Redis at" in log[0]
        and (back := re.search(r"Redis is back after (\d+\.\d) s", log[1])) is not None
        and float(back[1]) < 60
    )


@ONE_NEW_SERVER
def test_tasks_outlive_a_redis_that_is_killed_and_comes_back_empty(new_server, start, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import gevent, pathlib\n"
        "def handle(message):\n"
        "    if message == 'in hand':\n"
        "        pathlib.Path('started').touch()\n"
        "        while not pathlib.Path('go').exists(): gevent.sleep(0.01)\n"
        "        raise ValueError('while nobody listened')\n"
    )
    server = new_server()
    # With a shorter heartbeat a server that stands still for a moment would be lost, too.
    options = ["--redis", server.url, "--interval", "20", "--handle", "job:handle", "--heartbeat", "3"]
    tasks = [start(*options) for _ in range(2)]
    wait_until(lambda: all(t.is_generator() or t.total("processed") > 3 for t in tasks), "all work")
    before = {task.task_id for task in tasks}
    with server.client() as client:
        client.lpush("messages", "in hand")
    wait_until((tmp_path / "started").exists)
    server.kill()
    wait_until(lambda: all(log_of(task) for task in tasks), "all have noticed")
    (tmp_path / "go").touch()
    counts = [len(task.reports("createdTaskId")) for task in tasks]
    assert counts == [1, 1]
    server.start()
    wait_until(lambda: all(len(t.reports("createdTaskId")) == 2 for t in tasks), "all have a new id")
    after = {task.task_id for task in tasks}
    assert len(after) == 2 and after & before, "ids are given out again, each to one"
    with server.client() as client:
        record = json.loads(wait_until(lambda: client.lindex("errors", 0), "the failure is stored later"))
        assert record["message"] == "in hand"
        assert record["error"] == "ValueError: while nobody listened (job.py:6 handle)"
        generated = int(client.hget("generator", "generated") or 0)
        wait_until(lambda: int(client.hget("generator", "generated") or 0) > generated + 5, "they generate again")
        totals = [task.total("processed") for task in tasks]
        wait_until(lambda: sum(t.total("processed") for t in tasks) > sum(totals) + 5, "they handle again")
        assert client.llen("errors") == 1
    wait_until(lambda: all(said_once(task) for task in tasks), "lost once, back once")
    assert all(task.process.poll() is None for task in tasks)
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]
    assert all(said_once(task) for task in tasks)


@OTHER_NEW_SERVER
def test_tasks_outlive_a_redis_that_stands_still(new_server, start) -> None:
    server = new_server()
    with server.monitor() as monitor:
        options = ["--redis", server.url, "--interval", "10", "--wait", "1", "--heartbeat", "2"]
        tasks = [start(*options) for _ in range(2)]
        wait_until(lambda: any(t.total("processed") for t in tasks), "they work")
        server.pause()
        wait_until(lambda: all(log_of(task) for task in tasks), "both have noticed")
        time.sleep(4)  # long enough for the thread that beats when the heartbeat is late
        server.go_on()
        wait_until(lambda: all(said_once(task) for task in tasks), "lost once, back once")
        count = len(monitor.of("RPUSH", "messages"))
        wait_until(lambda: len(monitor.of("RPUSH", "messages")) > count + 20, "they generate again")
        numbers = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
    assert numbers == list(range(1, len(numbers) + 1))
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]


@ONE_NEW_SERVER
def test_a_task_ends_within_its_grace_when_redis_is_away(new_server, start) -> None:
    server = new_server()
    task = start("--redis", server.url, "--interval", "10", "--grace", "1")
    wait_until(lambda: task.total("generated"))
    server.kill()
    wait_until(lambda: log_of(task), "it has noticed")
    began = time.monotonic()
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert time.monotonic() - began < 9, "the usual grace is 10 s"
    assert "Traceback" not in task.stderr


@ONE_NEW_SERVER
def test_tasks_end_soon_after_their_grace_when_redis_stands_still(new_server, start) -> None:
    """It answers nobody, and refuses nobody either: each call lasts until its time is over."""
    server = new_server()
    options = ["--redis", server.url, "--interval", "10", "--grace", "1"]
    generator = start(*options)
    wait_until(generator.is_generator)
    handlers = [start(*options, "--delivery", delivery) for delivery in ("at-most-once", "at-least-once")]
    wait_until(lambda: all(task.total("processed") > 10 for task in handlers), "they work")
    server.pause()
    began = time.monotonic()
    tasks = [generator, *handlers]
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait(60) for task in tasks] == [0, 0, 0]
    assert time.monotonic() - began < 12, "4 s, one for the last reports, and what a busy machine needs"
    for task in tasks:
        assert "Redis has not answered; ending 4 s after this was asked for" in task.stderr
        assert "Traceback" not in task.stderr
