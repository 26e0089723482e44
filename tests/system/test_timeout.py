"""`--timeout`: a handler that hangs costs its message, and neither its worker nor its task."""

import json
import socket
import threading

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = ONE_SERVER
DELIVERIES = pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])

SAID = "time-out: not handled within --timeout 0.5"
JOBS = """
import ctypes, pathlib, socket, time, urllib.request

holding_the_gil = ctypes.PyDLL(None)

def handle(message):
    what, _, port = message.partition(" ")
    return globals()[what](port)

def done(port):
    pathlib.Path("done").open("a").write("done\\n")

def request(port):
    urllib.request.urlopen(f"http://127.0.0.1:{port}/")

def clean(port):
    try:
        time.sleep(600)
    finally:
        time.sleep(0.01)
        pathlib.Path("cleaned").touch()

def stubborn(port):
    for _ in range(3):
        try:
            time.sleep(600)
        except BaseException:
            pathlib.Path("caught").open("a").write("caught\\n")

def other(port):
    try:
        time.sleep(600)
    except BaseException as error:
        raise KeyError("mine") from error

def thread(port):
    import threading
    worker = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    worker.start()
    worker.join()

def yields(port):
    yield "never sent"
    time.sleep(600)

def compute(port):
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        holding_the_gil.usleep(5_000)  # which is for others as if it computed, and uses no core
"""


@pytest.fixture
def hang():
    """The port of a server that accepts requests and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        accepted = []

        def accept() -> None:
            try:
                while True:
                    accepted.append(listening.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    for connection in accepted:
        connection.close()


@pytest.fixture
def run(server, redis, start, tmp_path):
    """A task that handles these messages."""
    (tmp_path / "jobs.py").write_text(JOBS)
    redis.set("generatorIsActive", 1, ex=600)

    def run(*messages: str, timeout: str = "0.5", **options):
        redis.rpush("messages", *messages)
        more = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return start("--redis", server.url, "--handle", "jobs:handle", "--timeout", timeout, *more)

    return run


def place(function: str, words: str) -> str:
    """The place, as an error names it, of the first line with these words in that function of JOBS."""
    lines = JOBS.splitlines()
    begin = lines.index(f"def {function}(port):")
    return next(f"jobs.py:{n + 1} {function}" for n in range(begin, len(lines)) if words in lines[n])


def errors_in(redis) -> dict[str, str]:
    """Each failed message's error."""
    entries = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    return {entry["message"]: entry["error"] for entry in entries}


@DELIVERIES
def test_ten_hung_requests_do_not_stop_a_task_and_each_says_where_it_hung(redis, run, tmp_path, hang, delivery) -> None:
    hung = [f"request {hang}" for _ in range(10)]
    task = run(*hung, *["done"] * 10, delivery=delivery)
    wait_until(lambda: task.total("processed") == 20, "all messages")
    assert task.total("processed", "errors") == redis.llen("errors") == 10
    assert errors_in(redis) == {hung[0]: f"{SAID} ({place('request', 'urlopen')})"}
    assert (tmp_path / "done").read_text().count("done") == 10
    assert redis.keys("inflight:*") == redis.keys("messages*") == []


@DELIVERIES
def test_whatever_the_handler_does_with_it_the_message_has_failed(redis, run, tmp_path, delivery) -> None:
    task = run("clean", "stubborn", "other", "thread", "yields", delivery=delivery)
    wait_until(lambda: task.total("processed") == 5, "all messages")
    assert errors_in(redis) == {
        **{what: f"{SAID} ({place(what, 'sleep(600)')})" for what in ("clean", "stubborn", "yields")},
        "thread": f"{SAID} ({place('thread', 'join')})",
        "other": f"KeyError: 'mine' ({place('other', 'raise')})",
    }
    assert (tmp_path / "cleaned").exists(), "what stands in finally has run"
    assert (tmp_path / "caught").read_text().count("caught") == 3, "it was thrown again and again"


def test_a_handler_that_computes_is_not_interrupted(redis, run) -> None:
    task = run("compute", "done", timeout="0.2", concurrency=2)
    wait_until(lambda: task.total("processed") == 2, "both messages")
    assert not redis.exists("errors")


def test_without_a_timeout_nothing_is_interrupted(redis, run, hang) -> None:
    task = run(f"request {hang}", "done", timeout="0")
    wait_until(lambda: task.total("processed") == 1, "the other message")
    assert not redis.exists("errors")


def test_what_gtask_itself_does_for_a_message_is_not_interrupted(redis, run, tmp_path) -> None:
    """Here a failure's log line waits for longer than the limit, in a handler of the user's logging."""
    (tmp_path / "jobs.py").write_text(
        "import logging, pathlib, time\n"
        "class Slow(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        if 'failed so far' in record.getMessage():\n"
        "            time.sleep(1)\n"
        "            pathlib.Path('logged').touch()\n"
        "logging.getLogger('gtask').addHandler(Slow())\n"
        "def handle(message):\n"
        "    raise ValueError(message)\n"
    )
    task = run("m", timeout="0.2")
    wait_until(lambda: task.total("processed", "errors") == 1, "the failure")
    wait_until(lambda: redis.llen("errors") == 1)
    assert errors_in(redis) == {"m": "ValueError: m (jobs.py:9 handle)"}
    assert (tmp_path / "logged").exists()
    assert "thrown into a worker" not in task.stderr
