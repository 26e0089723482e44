"""A position beside the message, or alone: where generation goes on, for sources whose messages do not say it."""

import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER
from tests.tasks import TaskProcess, wait_until

JOBS = """
import itertools, os, time

def pairs(last):
    for row in range(int(last or 0) + 1, 50_001):
        yield f"message of row {row}", str(row)

def rare(last):
    for row in itertools.count(int(last or 0) + 1):
        yield (f"row {row}" if row % 300 == 0 else None), b"%d" % row

def alternately(last):
    yield "plain"
    yield "with", "its position"
    yield None, "alone"
    yield b"\\xff"

def three(last):
    yield "message", "position", "more"

def nowhere(last):
    yield "message", None

def number(last):
    yield 17, "position"

def no_text(last):
    yield "message", "\\ud83d"

def broken_off(last):
    yield "first", "1"
    yield "second", 2

def filtering(last):
    with open(f"starts.{os.getpid()}", "a") as starts:
        starts.write(f"{last or 0}\\n")
    for row in itertools.count(int(last or 0) + 1):
        if row % 20 == 0:
            time.sleep(0.001)
        yield (str(row) if row % 1000 == 0 else None), str(row)
"""


@pytest.fixture
def run(server, start, tmp_path: Path) -> Callable[..., TaskProcess]:
    (tmp_path / "jobs.py").write_text(JOBS)

    def run(function: str, *options: str, interval: str = "0", heartbeat: float = 5) -> TaskProcess:
        return start("--redis", server.url, "--generate", f"jobs:{function}", "--handle", "builtins:len",
                     "--heartbeat", str(heartbeat), "--interval", interval, "--wait", "1", *options)  # fmt: skip

    return run


@OTHER_SERVER
def test_the_position_is_that_of_the_last_message_of_a_batch(redis, run) -> None:
    task = run("pairs", "--max-backlog", "0")
    wait_until(lambda: task.total("generated") == 50_000, "all pairs", timeout=60)
    assert redis.hmget("generator", "generated", "last") == [b"50000", b"50000"]
    assert redis.lindex("messages", -1) == b"message of row 50000"
    assert int(redis.hget("generator", "step")) < 5_000, "they went in batches"


@ONE_SERVER
@pytest.mark.parametrize("interval", ["0", "1"])
def test_messages_with_and_without_a_position_mix(redis, run, interval) -> None:
    run("alternately", interval=interval)
    wait_until(lambda: redis.hget("generator", "ended"), "its end")
    assert redis.lrange("messages", 0, -1) == [b"plain", b"with", b"\xff"]
    assert redis.hmget("generator", "generated", "last") == [b"3", b"\xff"]


@ONE_SERVER
def test_a_position_alone_does_not_wait_for_the_interval(redis, run) -> None:
    """Each message comes 299 positions after the one before."""
    run("rare", interval="500")
    wait_until(lambda: redis.lrange("messages", 0, -1)[:3] == [b"row 300", b"row 600", b"row 900"], timeout=60)


@ONE_SERVER
def test_a_position_alone_takes_no_room_in_the_backlog(redis, run) -> None:
    task = run("rare", "--max-backlog", "3")
    wait_until(lambda: task.total("generated") == 3)
    redis.delete("messages")
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"row 1200", b"row 1500", b"row 1800"])


@ONE_SERVER
@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("three", "yielded a tuple of 3; beside a message stands its position, and nothing else"),
        ("nowhere", "yielded a position of type NoneType; it is str or bytes"),
        ("number", "yielded int beside a position; a message is str or bytes, or None"),
        ("no_text", "yielded a str that is no text: UnicodeEncodeError"),
    ],
)
def test_what_is_no_pair_of_message_and_position_ends_the_term(redis, run, function: str, error: str) -> None:
    run(function)
    text = wait_until(lambda: redis.hget("generator", "error")).decode()
    assert f"jobs:{function} {error}" in text
    assert "(jobs.py:" in text
    assert not redis.exists("messages")


@ONE_SERVER
def test_what_was_drawn_before_an_error_keeps_its_own_position(redis, run) -> None:
    """The one before it was pushed. It is not looked for in the queue: after the error the task handles it itself."""
    run("broken_off")
    wait_until(lambda: redis.hget("generator", "error"))
    generated, last = redis.hmget("generator", "generated", "last")
    assert (int(generated or 0) >= 1, last) == (True, b"1")


@ONE_SERVER
@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_filtering_source_over_fifty_takeovers(redis, run, tmp_path) -> None:
    """No gap, no repeat, and no row is looked at again from before the position."""
    tasks = [run("filtering", heartbeat=0.5) for _ in range(3)]

    def generator() -> TaskProcess | None:
        owner = redis.get("generatorId")
        return next((task for task in tasks if owner and task.task_id == int(owner)), None)

    def last() -> int:
        return int(redis.hget("generator", "last") or 0)

    for number in range(50):
        before = last()
        wait_until(lambda before=before: last() > before, "the position to move", timeout=60)
        # The term first: whoever is seen to generate after that, or has ceased to by then, makes room for a later one.
        term = redis.hget("generator", "term")
        task = wait_until(generator, "a generator", timeout=60)
        task.send(signal.SIGTERM if number % 2 else signal.SIGKILL)
        tasks[tasks.index(task)] = run("filtering", heartbeat=0.5)
        wait_until(lambda term=term: redis.hget("generator", "term") != term, "a takeover", timeout=60)
    redis.set("generatorIsActive", 1, ex=600)
    wait_until(lambda: not redis.exists("generatorId"), "the generator to give way")
    assert int(redis.hget("generator", "generated")) == last() // 1000 > 0
    assert int(redis.hget("generator", "term")) >= 51
    starts = sorted(int(line) for file in tmp_path.glob("starts.*") for line in file.read_text().split())
    assert len(starts) >= 51
    assert all(one < other for one, other in pairwise(starts[1:])), "each term began after the one before"
    assert any(row % 1000 for row in starts), "the position moved without a message"
