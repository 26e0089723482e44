"""What the user's generate, its source and the way to Redis can do to a term; none of it may end the tasks, and none of
it may go unsaid."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import TaskProcess, wait_until

QUICKLY = ("--heartbeat", "0.5", "--interval", "0", "--handle", "builtins:len", "--wait", "1")


def number_of_terms(redis) -> int:
    return int(redis.hget("generator", "term") or 0)


def generated(redis) -> int:
    return int(redis.hget("generator", "generated") or 0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Writes the user's module `jobs`."""
    return lambda text: (tmp_path / "jobs.py").write_text(text) and None


@pytest.fixture
def run(server, start) -> Callable[..., TaskProcess]:
    """Starts a task with `jobs:generate`, and nothing that takes long."""
    return lambda *options: start("--redis", server.url, "--generate", "jobs:generate", *QUICKLY, *options)


# -- a source that is away

SOURCE = """
import gevent, socket

def generate(last):
    number = int(last or 0)
    with open("source"):
        pass
    while True:
        number += 1
        yield str(number)
        gevent.sleep(0.01)
        if number % 20 == 0:
            with open("source"):
                pass
"""


@ONE_SERVER
def test_a_fleet_outlives_a_source_that_is_away_for_3_s(server, redis, run, write, tmp_path) -> None:
    write(SOURCE)
    source = tmp_path / "source"
    source.touch()
    with server.monitor() as monitor:
        tasks = [run() for _ in range(3)]
        wait_until(lambda: generated(redis) > 20, "it generates")
        before = number_of_terms(redis)
        source.unlink()
        wait_until(lambda: redis.hget("generator", "error"), "the failure")
        count = generated(redis)
        time.sleep(3)
        assert 2 <= number_of_terms(redis) - before + 1 <= 4, "at 0, 1 and 3 s, less the jitter"
        assert generated(redis) == count
        source.touch()
        wait_until(lambda: generated(redis) > count + 20, "it generates again")
        assert redis.hmget("generator", "error", "retry_at", "failures", "failed") == [None] * 4
        numbers = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(task.process.poll() is None for task in tasks)
    lines = [line for task in tasks for line in task.stderr.splitlines()]
    said = [line for line in lines if "term" in line]
    assert 2 <= len(said) <= 4 and lines == said, "one line a failure, and nothing else"
    for line in said:
        assert re.search(
            r"WARNING term \d+ failed: jobs:generate raised FileNotFoundError: .*'source' "
            r"\(jobs\.py:(6|13) generate\); generating is tried again in \d\.\d s$",
            line,
        )
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0, 0]


@ONE_SERVER
def test_the_task_that_failed_handles_on_and_leaves_the_next_term_to_another_one(redis, run, write, tmp_path) -> None:
    """Its own machine may be what is wrong. Alone it tries again."""
    write(
        "import os\n"
        "def generate(last):\n"
        "    with open('terms', 'a') as file: print(os.getpid(), file=file)\n"
        "    raise OSError('bad machine')\n"
        "    yield\n"
    )
    first = run()
    wait_until(lambda: redis.hget("generator", "failures") == b"2", "alone it tries again")
    second = run()
    wait_until(lambda: redis.hget("generator", "failures") == b"4", "two more terms")
    pids = [int(pid) for pid in (tmp_path / "terms").read_text().split()]
    assert pids[:4] == [first.pid, first.pid, second.pid, first.pid]
    redis.rpush("messages", *range(100))
    wait_until(lambda: first.total("processed") + second.total("processed") == 100, "both handle")


@ONE_SERVER
def test_the_traceback_is_there_at_debug(redis, run, write) -> None:
    write("def generate(last):\n    raise OSError('why')\n    yield\n")
    task = run("--log-level", "DEBUG")
    wait_until(lambda: "Traceback" in task.stderr)
    assert 'jobs.py", line 2, in generate' in wait_until(lambda: "why" in task.stderr and task.stderr)


@ONE_SERVER
def test_status_shows_the_error_its_place_and_when_it_is_tried_again(server, redis, run, write, tmp_path) -> None:
    write("def generate(last):\n    raise OSError('the\\x1b[2J\\nsource')\n    yield\n")
    run()
    wait_until(lambda: redis.hget("generator", "failures") == b"3")

    def status(*options: str) -> str:
        command = [sys.executable, "-m", "gtask", "status", "--redis", server.url, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    failure = json.loads(status("--json"))["failure"]
    assert failure["failures"] >= 3
    assert (
        failure["error"].startswith("jobs:generate raised OSError: the") and "(jobs.py:2 generate)" in failure["error"]
    )
    assert "\x1b" not in failure["error"] and "\n" not in failure["error"]
    assert 0 < failure["retryIn"] <= 16
    assert re.search(
        r"^failed +\d times in a row, tried again in \d\.\d s: jobs:generate raised OSError.*$", status(), re.M
    )
