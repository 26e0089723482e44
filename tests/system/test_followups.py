"""A `handle` that yields sends follow-up messages: all of them, in the step that ends its message, or none."""

import json
import signal

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = ONE_SERVER
DELIVERIES = pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])

TREE = """
import pathlib, time

def handle(node):
    pathlib.Path("handled").open("a").write(node + "\\n")
    if len(node) < 4:
        for child in "ab":
            yield node + child
            time.sleep(0.001)  # between two of them others may run

def decorated(node):
    return handle(node)

class Walker:
    def __call__(self, node):
        yield from handle(node)

walker = Walker()
"""


@pytest.fixture
def run(server, redis, start, tmp_path):
    """A task that handles with a function of this module."""
    redis.set("generatorIsActive", 1, ex=600)

    def run(source: str, *arguments: str, function: str = "handle"):
        (tmp_path / "jobs.py").write_text(source)
        return start("--redis", server.url, "--handle", f"jobs:{function}", *arguments)

    return run


@pytest.mark.parametrize(
    ("delivery", "function"),
    [
        ("at-most-once", "handle"),
        ("at-least-once", "handle"),
        ("at-most-once", "decorated"),
        ("at-least-once", "walker"),
    ],
)
def test_a_tree_grows_from_its_root(redis, run, tmp_path, delivery: str, function: str) -> None:
    redis.rpush("messages", "t")
    task = run(TREE, "--delivery", delivery, function=function)
    wait_until(lambda: task.total("processed") == 15, "all nodes")
    nodes = ["t", *("t" + a for a in "ab"), *("t" + a + b for a in "ab" for b in "ab")]
    nodes += [node + c for node in nodes if len(node) == 3 for c in "ab"]
    assert sorted((tmp_path / "handled").read_text().split()) == sorted(nodes)
    assert redis.hget("totals", "followups") == b"14"
    assert task.total("processed", "errors") == 0, redis.lrange("errors", 0, -1)
    wait_until(lambda: redis.keys("messages*") == redis.keys("inflight:*") == [])


FAILING = """
import gtask

def handle(message):
    yield "never sent"
    match message:
        case "error":
            raise ValueError("no")
        case "reject":
            raise gtask.Reject("no such thing")
        case "exit":
            raise SystemExit(3)
        case "number":
            yield 7
        case "surrogate":
            yield "\\ud800"
        case "many":
            yield from map(str, range(1000))
        case "large":
            yield "x" * (1 << 20)
"""


@DELIVERIES
def test_a_handle_that_fails_sends_none(redis, run, delivery: str) -> None:
    names = ["error", "reject", "exit", "number", "surrogate", "many", "large"]
    redis.rpush("messages", *names)
    task = run(FAILING, "--delivery", delivery)
    wait_until(lambda: task.total("processed", "errors") == len(names), "the failures")
    wait_until(lambda: redis.llen("errors") == len(names))
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    errors = {record["message"]: record["error"] for record in records}
    too_much = (
        "ValueError: handle yielded more than one step takes, 1,000 messages or 1,048,576 bytes; send a follow-up "
    )
    assert errors.keys() == set(names)
    assert errors["error"] == "ValueError: no (jobs.py:8 handle)"
    assert errors["reject"] == "gtask.Reject: no such thing (jobs.py:10 handle)"
    assert errors["exit"] == "SystemExit: 3 (jobs.py:12 handle)"
    assert errors["number"] == "ValueError: handle yielded int; a message is str or bytes (jobs.py:14 handle)"
    assert errors["surrogate"].startswith(
        "ValueError: handle yielded a str that is no text: 'utf-8' codec can't encode"
    )
    assert errors["many"] == f"{too_much}that continues (jobs.py:18 handle)"
    assert errors["large"] == f"{too_much}that continues (jobs.py:20 handle)"
    assert not redis.exists("messages") and not redis.hget("totals", "followups")


GATED = """
import pathlib, time

def handle(message):
    if message == "parent":
        yield from ("child 1", "child 2")
        pathlib.Path("yielded").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
    else:
        pathlib.Path("handled").open("a").write(message + "\\n")
"""


def test_a_crash_before_the_end_gives_neither_the_followups_nor_the_end(redis, run, tmp_path) -> None:
    redis.rpush("messages", "parent")
    options = ["--delivery", "at-least-once", "--heartbeat", "0.5"]
    first = run(GATED, *options)
    wait_until((tmp_path / "yielded").exists)
    assert first.task_id  # its report may come later than its first message
    first.send(signal.SIGKILL)
    first.wait()
    assert redis.lrange(f"inflight:{first.task_id}", 0, -1) == [b"parent"]
    assert not redis.exists("messages") and not redis.hget("totals", "followups")
    (tmp_path / "go").touch()
    second = run(GATED, *options)
    wait_until(lambda: second.total("processed") == 3, "the parent once more, and its children")
    assert (tmp_path / "handled").read_text().split("\n") == ["child 1", "child 2", ""]
    wait_until(lambda: redis.hget("totals", "processed") == b"3")
    assert redis.hget("totals", "followups") == b"2"


def test_an_end_sends_nothing_of_what_is_not_finished_within_the_grace(redis, run, tmp_path) -> None:
    """With no grace at all, a wait that is not over yet may take the message again, which others then return later."""
    redis.rpush("messages", "parent")
    task = run(GATED, "--delivery", "at-least-once", "--grace", "1")
    wait_until((tmp_path / "yielded").exists)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert redis.lrange("messages", 0, -1) == [b"parent"]


CONTEXT = """
import contextvars, pathlib, time

customer = contextvars.ContextVar("customer", default="nobody")

def handle(message):
    found = customer.get()
    customer.set(message)
    yield "quiet"
    time.sleep(0.02)  # long enough for all others to be where this one is
    assert customer.get() == message
    pathlib.Path("found").open("a").write(found + "\\n")
    if message == "quiet":
        return
"""


def test_a_handle_keeps_its_context_from_yield_to_yield_and_no_other_sees_it(redis, run, tmp_path) -> None:
    redis.rpush("messages", *(f"customer {n}" for n in range(6)))
    task = run(CONTEXT.replace('yield "quiet"', 'if message != "quiet": yield "quiet"'), "--concurrency", "3")
    wait_until(lambda: task.total("processed") == 12, "customers, and what follows")
    assert task.total("processed", "errors") == 0, redis.lrange("errors", 0, -1)
    assert set((tmp_path / "found").read_text().splitlines()) == {"nobody"}
