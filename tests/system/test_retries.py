"""What a handler asks for: another attempt, now and then, or none at all. And what it can ask about itself."""

import json

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = ONE_SERVER

JOBS = """
import contextvars, pathlib, threading, time
from gtask import Reject, Retry, current

def note(message):
    pathlib.Path("attempts").open("a").write(f"{message} {current().attempt} {time.time()}\\n")

def fails(message):
    note(message)
    if current().attempt <= 2:
        raise ValueError("not yet")

def always(message):
    note(message)
    raise ValueError("never")

def busy(message):
    note(message)
    if current().attempt <= 2:
        raise Retry("busy", after=0.3)

def busy_with_followups(message):
    note(message)
    yield f"child {current().attempt}"
    if message == "parent" and current().attempt == 1:
        raise Retry(after=0)

def refuses(message):
    note(message)
    raise Reject("no such customer")

def hangs(message):
    note(message)
    if current().attempt == 1:
        time.sleep(600)

def in_a_thread(message):
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(fails, message))
    thread.start()
    thread.join()
    fails(message)
"""


@pytest.fixture
def run(server, redis, start, tmp_path):
    """A task that handles with a function of JOBS, at least once."""
    (tmp_path / "jobs.py").write_text(JOBS)
    redis.set("generatorIsActive", 1, ex=600)

    def run(function: str, *arguments: str, delivery: str = "at-least-once"):
        options = ["--redis", server.url, "--handle", f"jobs:{function}", "--delivery", delivery, "--wait", "0.2"]
        return start(*options, *arguments)

    return run


def attempts(tmp_path) -> list[tuple[str, int, float]]:
    """Message, number and time of each, in their order."""
    if not (tmp_path / "attempts").exists():
        return []
    lines = [line.rsplit(" ", 2) for line in (tmp_path / "attempts").read_text().splitlines()]
    return [(message, int(number), float(at)) for message, number, at in lines]


def records(redis) -> list[dict]:
    return [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]


def nothing_is_left(redis) -> bool:
    return redis.keys("messages*") == redis.keys("inflight:*") == []


def test_a_failed_message_comes_again_until_it_succeeds(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("fails", "--retries", "3", "--backoff", "100ms..1s")
    wait_until(lambda: task.total("processed") == 1, "the third attempt")
    assert [number for _, number, _ in attempts(tmp_path)] == [1, 2, 3]
    first, second, third = (at for _, _, at in attempts(tmp_path))
    assert second - first >= 0.05 and third - second >= 0.1, "half of 0.1 s and of 0.2 s at least"
    assert task.total("processed", "errors") == 0 and not redis.exists("errors")
    wait_until(lambda: nothing_is_left(redis))
    assert redis.hmget("totals", "processed", "errors", "postponed") == [b"1", None, b"2"]


def test_after_the_last_retry_it_is_in_errors_with_the_number_of_attempts(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("always", "--retries", "2", "--backoff", "10ms..20ms")
    wait_until(lambda: task.total("processed", "errors") == 1, "the failure")
    assert task.total("processed") == 1
    [record] = wait_until(lambda: records(redis))
    assert record["attempts"] == 3 and record["error"] == "ValueError: never (jobs.py:15 always)"
    assert [number for _, number, _ in attempts(tmp_path)] == [1, 2, 3]
    wait_until(lambda: nothing_is_left(redis))
    assert redis.hmget("totals", "processed", "errors") == [b"1", b"1"]


def test_the_log_says_of_a_failed_attempt_when_its_message_comes_again(redis, server, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("fails", "--retries", "3", "--backoff", "100ms..100ms")
    wait_until(lambda: task.total("processed") == 1)
    [line] = [line for line in task.stderr.splitlines() if "attempt" in line]
    assert "an attempt failed with ValueError: not yet (jobs.py:11 fails); its message comes again in 0.1 s" in line


def test_retry_says_when_and_costs_none_of_the_retries(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("busy")
    wait_until(lambda: task.total("processed") == 1, "the third attempt")
    first, second, third = (at for _, _, at in attempts(tmp_path))
    assert second - first >= 0.3 and third - second >= 0.3
    assert task.total("processed", "errors") == 0 and not redis.exists("errors")
    assert "attempt" not in task.stderr, "it was asked for"


def test_a_handle_that_yields_and_then_asks_for_a_retry_sends_none(redis, run, tmp_path) -> None:
    redis.rpush("messages", "parent")
    task = run("busy_with_followups", "--concurrency", "1")
    wait_until(lambda: len(attempts(tmp_path)) >= 3)
    task.kill()
    assert [message for message, _, _ in attempts(tmp_path)][:3] == ["parent", "parent", "child 2"]


def test_reject_puts_a_message_into_errors_at_once(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("refuses", "--retries", "5")
    wait_until(lambda: task.total("processed", "errors") == 1)
    [record] = wait_until(lambda: records(redis))
    assert record["error"] == "gtask.Reject: no such customer (jobs.py:30 refuses)" and "attempts" not in record
    assert len(attempts(tmp_path)) == 1


def test_a_message_that_timed_out_is_tried_again_as_any_that_failed(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("hangs", "--timeout", "0.3", "--retries", "1", "--backoff", "10ms..10ms")
    wait_until(lambda: task.total("processed") == 1, "the second attempt")
    assert [number for _, number, _ in attempts(tmp_path)] == [1, 2]
    assert not redis.exists("errors")
    assert "an attempt failed with time-out: not handled within --timeout 0.3 (jobs.py:35 hangs)" in task.stderr


def test_at_most_once_a_retry_is_a_failure_that_says_what_it_needs(redis, run) -> None:
    redis.rpush("messages", "m")
    task = run("busy", delivery="at-most-once")
    wait_until(lambda: task.total("processed", "errors") == 1)
    [record] = wait_until(lambda: records(redis))
    need = "; a message can come again with --delivery at-least-once only"
    assert record["error"] == f"gtask.Retry: busy (jobs.py:20 busy){need}"


def test_a_thread_with_the_context_of_its_message_knows_the_attempt_too(redis, run, tmp_path) -> None:
    redis.rpush("messages", "m")
    task = run("in_a_thread", "--retries", "2", "--backoff", "10ms..10ms")
    wait_until(lambda: task.total("processed") == 1)
    assert [number for _, number, _ in attempts(tmp_path)] == [1, 1, 2, 2, 3, 3]


TERMS = """
import pathlib
from gtask import current

def generate(last):
    yield f"term {current().term} of task {current().task_id}"
    try:
        current().attempt
    except RuntimeError as error:
        yield str(error)

def handle(message):
    pathlib.Path("handled by").write_text(f"{current().task_id} {current().attempt}")
    pathlib.Path("handled").open("a").write(message + "\\n")

try:
    current()
except RuntimeError as error:
    pathlib.Path("at import").write_text(str(error))
"""


def test_generate_knows_its_term_and_both_know_the_task(server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(TERMS)
    options = ["--redis", server.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "0"]
    options += ["--heartbeat", "3"]  # a pause does not cost the flag
    one = start(*options)
    wait_until(one.is_generator)
    two = start(*options)
    wait_until((tmp_path / "handled by").exists)
    wait_until(lambda: two.total("processed") == 2)
    assert (tmp_path / "handled by").read_text() == f"{two.task_id} 1"
    assert redis.hget("generator", "term") == b"1"
    assert f"term 1 of task {one.task_id}" in (tmp_path / "handled").read_text().splitlines()
    assert redis.hget("generator", "last") == b"gtask.current().attempt is known in handle only"
    assert "known only in generate and handle" in (tmp_path / "at import").read_text()
    old = two.task_id
    redis.hdel("tasks:members", old)  # as if it had been taken for dead
    wait_until(lambda: two.task_id > old, "a new id")
    redis.rpush("messages", "m")
    wait_until(lambda: two.total("processed") == 3)
    assert (tmp_path / "handled by").read_text() == f"{two.task_id} 1"
