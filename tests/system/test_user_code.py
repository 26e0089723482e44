"""Users' modules use what Python and its libraries offer: threads and queues, contexts, signals, exit functions. None
of it may stop working in a task, and none of it may stop the task."""

import json
import signal
import time

import pytest

from tests.servers import ONE_SERVER
from tests.system.terminal import alive
from tests.tasks import PATIENCE, wait_until

pytestmark = ONE_SERVER


def handles_only(redis) -> None:
    """Another program holds the flag, so that every task handles."""
    redis.set("generatorIsActive", 1, ex=600)


# -- threads and queues

WATCHING = """
import pathlib, queue
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

def generate(last):
    pathlib.Path("inbox").mkdir(exist_ok=True)
    found = queue.Queue()
    class Created(FileSystemEventHandler):
        def on_created(self, event):
            found.put(event.src_path)
    observer = Observer()
    observer.schedule(Created(), "inbox")
    observer.start()
    yield "watching"
    while True:
        yield pathlib.Path(found.get()).name
"""


def test_a_generate_can_wait_for_files_with_watchdog(server, redis, start, tmp_path) -> None:
    """Its queue is a subclass of queue.Queue that uses the queue's lock: gevent's own Queue has none."""
    (tmp_path / "job.py").write_text(WATCHING)
    start("--redis", server.url, "--generate", "job:generate", "--interval", "0", "--handle", "builtins:len")
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"watching"])
    for name in ("first", "second"):
        (tmp_path / "inbox" / name).touch()
        wait_until(lambda name=name: redis.lindex("messages", -1) == name.encode(), f"the message for {name}")


THREADS = """
import concurrent.futures, pathlib, queue, time

executor = concurrent.futures.ThreadPoolExecutor(1)
bounded = queue.Queue(2)
assert bounded.maxsize == 2 and queue.Queue().maxsize == 0 and not bounded.mutex.locked()

def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)

def handle(message):
    if message == "wait":
        executor.submit(wait_for, "begun").result()
        bounded.get(timeout=60)
        pathlib.Path("got").touch()
    else:
        pathlib.Path("begun").touch()
        bounded.put(message)
"""


def test_waiting_for_a_thread_or_a_queue_lets_the_other_messages_run(server, redis, start, tmp_path) -> None:
    """The second message runs while the first one waits for an executor's thread, and ends that wait and the next one,
    for a queue that is empty."""
    (tmp_path / "job.py").write_text(THREADS)
    handles_only(redis)
    redis.rpush("messages", "wait", "put")
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 2, "both messages")
    assert task.total("processed", "errors") == 0, redis.lrange("errors", 0, -1)
    assert (tmp_path / "got").exists()


# -- contexts

CONTEXTS = """
import contextvars, pathlib, time

application = contextvars.ContextVar("application")
customer = contextvars.ContextVar("customer", default="nobody")
application.set("shop")

def handle(message):
    found = f"{application.get()} {customer.get()}"
    customer.set(message)
    application.set("changed")
    time.sleep(0.05)  # long enough for all others to be where this one is
    assert customer.get() == message
    pathlib.Path("found").open("a").write(found + "\\n")

def generate(last):
    found = customer.get()
    customer.set("generated")
    yield f"{application.get()} {found} before"
    yield f"{customer.get()} after"
"""


def test_a_message_finds_no_context_of_another_one(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(CONTEXTS)
    handles_only(redis)
    redis.rpush("messages", *(f"customer {number}" for number in range(6)))
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "3")
    wait_until(lambda: task.total("processed") == 6)
    assert redis.lrange("errors", 0, -1) == []
    assert set((tmp_path / "found").read_text().splitlines()) == {"shop nobody"}


def test_generate_keeps_its_context_and_no_message_sees_it(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(CONTEXTS)
    redis.rpush("messages", "in hand")
    options = ["--redis", server.url, "--generate", "job:generate", "--handle", "job:handle", "--interval", "0"]
    task = start(*options)
    wait_until(lambda: task.total("generated") == 2)
    task.kill()
    messages = redis.lrange("messages", 0, -1)
    assert messages[-2:] == [b"shop nobody before", b"generated after"]
    redis.delete("generatorIsActive", "generatorId")
    handles_only(redis)
    task = start(*options)
    wait_until(lambda: task.total("processed") == len(messages))
    assert set((tmp_path / "found").read_text().splitlines()) == {"shop nobody"}


UNFINISHED = """
import asyncio, gevent

async def coroutine(message):
    pass

async def asynchronous_generator(message):
    yield message

handles = {
    "coroutine": lambda: coroutine("m"),
    "asynchronous generator": lambda: asynchronous_generator("m"),
    "greenlet": lambda: gevent.spawn(len, "m"),
    "number": lambda: 7,
}

def handle(message):
    return handles[message]()
"""


def test_a_handle_that_returns_what_nobody_runs_has_failed(server, redis, start, tmp_path) -> None:
    """A plain function around an async one can only be known by what it returns."""
    (tmp_path / "job.py").write_text(UNFINISHED)
    handles_only(redis)
    redis.rpush("messages", "coroutine", "asynchronous generator", "greenlet", "number")
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 4)
    failed = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    assert {entry["message"] for entry in failed} == {"coroutine", "asynchronous generator"}
    assert all("which nobody runs; gtask runs what is itself an async def" in entry["error"] for entry in failed)
    assert "never awaited" not in task.stderr


# -- exit functions

EXPORTING = """
import atexit, os, pathlib, queue, threading, time

class Exporter:
    \"\"\"As OpenTelemetry's and Sentry's: a thread sends what it is given, and the exit waits until all is sent.\"\"\"

    def __init__(self):
        self.spans = queue.Queue()
        self.sender = threading.Thread(target=self.send, daemon=True)
        self.sender.start()
        atexit.register(self.end)

    def send(self):
        while (span := self.spans.get()) is not None:
            time.sleep(0.01)
            with open("sent", "a") as file:
                file.write(span + "\\n")

    def end(self):
        self.spans.put(None)
        self.sender.join()

exporter = Exporter()
threading._register_atexit(pathlib.Path("threading's").touch)

def handle(message):
    for number in range(20):
        exporter.spans.put(str(number))
"""


def test_what_is_registered_for_the_exit_runs_and_can_wait_for_its_threads(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(EXPORTING)
    handles_only(redis)
    redis.rpush("messages", "m")
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 1)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert (tmp_path / "sent").read_text().split() == [str(number) for number in range(20)]
    assert (tmp_path / "threading's").exists()


def test_an_exit_function_that_fails_keeps_no_other_from_running(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import atexit, pathlib, sys, threading\n"
        "atexit.register(pathlib.Path('first').touch)\n"
        "atexit.register(sys.exit, 3)\n"
        "threading._register_atexit(int, 'no number')\n"
        "def handle(message): pass\n"
    )
    task = start("--redis", server.url, "--handle", "job:handle")
    assert task.task_id
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert (tmp_path / "first").exists()
    assert "raised ValueError: invalid literal for int() with base 10: 'no number'\n" in task.stderr, "no empty place"


EXECUTOR = """
import multiprocessing, os, pathlib, time
from concurrent.futures import ProcessPoolExecutor

def work(message):
    pathlib.Path(message).write_text(str(os.getpid()))
    if message == "busy":
        time.sleep(600)

def handle(message):
    global executor
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("{method}"))
    future = executor.submit(work, message)
    if message == "idle":
        future.result()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("child", ["idle", "busy"])
def test_no_process_of_an_executor_outlives_its_task(server, redis, start, tmp_path, method: str, child: str) -> None:
    (tmp_path / "job.py").write_text(EXECUTOR.format(method=method))
    handles_only(redis)
    redis.rpush("messages", child)
    task = start("--redis", server.url, "--handle", "job:handle")
    pid = int(wait_until(lambda: (tmp_path / child).exists() and (tmp_path / child).read_text()))
    wait_until(lambda: task.total("processed") == 1)
    task.send(signal.SIGTERM)
    assert task.process.wait(PATIENCE) == 0
    wait_until(lambda: not alive(pid), "the end of the executor's process")


@pytest.mark.parametrize("way", ["cooperatively", "natively"])
def test_exit_functions_have_3_seconds(server, redis, start, tmp_path, way: str) -> None:
    wait = "time.sleep" if way == "cooperatively" else "ctypes.CDLL(None).sleep"
    (tmp_path / "job.py").write_text(
        f"import atexit, ctypes, time\natexit.register({wait}, 60)\ndef handle(message): pass\n"
    )

    def end() -> float:
        task = start("--redis", server.url, "--handle", "job:handle")
        assert task.task_id
        began = time.monotonic()
        task.send(signal.SIGTERM)
        assert task.wait() == 0
        assert "gtask: the exit functions have not ended within 3 s" in task.stderr
        return time.monotonic() - began

    assert any(2.9 < end() < 6 for _ in range(3)), "once is enough: what disturbs makes it later"


def test_a_thread_of_a_module_does_not_hold_up_an_end_at_the_start(server, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\ndef handle(message): pass\n"
    )
    task = start("--redis", f"unix://{tmp_path}/none", "--handle", "job:handle")
    assert task.wait() == 69


# -- signals

SIGNALS = """
import os, pathlib, signal, sys, gevent

def stop(*anything):
    pathlib.Path("theirs").touch()

def at_import():
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *anything: pathlib.Path("USR1").touch())

def handle(message):
    if message == "python":
        assert signal.signal(signal.SIGTERM, stop) is signal.getsignal(signal.SIGTERM) is not stop
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    elif message == "gevent":
        gevent.signal_handler(signal.SIGTERM, stop)
    elif message == "fork":
        if not os.fork():
            signal.signal(signal.SIGTERM, lambda *anything: os._exit(7))
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        pathlib.Path("child").write_text(str(os.waitstatus_to_exitcode(os.wait()[1])))

"""


@pytest.mark.parametrize("message", ["import", "python", "gevent"])
def test_a_handler_of_a_signal_does_not_take_the_end_from_gtask(server, redis, start, tmp_path, message: str) -> None:
    (tmp_path / "job.py").write_text(SIGNALS + ("at_import()\n" if message == "import" else ""))
    handles_only(redis)
    redis.rpush("messages", message)
    with server.monitor() as monitor:
        task = start(
            "--redis", server.url, "--generate", "builtins:iter", "--handle", "job:handle", "--heartbeat", "0.5"
        )
        wait_until(lambda: task.total("processed") == 1)
        beats = len(monitor.of("ZADD", "tasks"))
        wait_until(lambda: len(monitor.of("ZADD", "tasks")) > beats + 1, "two heartbeats")
    if message == "import":
        task.send(signal.SIGUSR1)
        wait_until((tmp_path / "USR1").exists)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert not (tmp_path / "theirs").exists()
    assert not redis.exists("errors")
    said = [f"gtask: job.py:{line} sets a handler for SIGTERM; gtask keeps its own, which ends the task" for line in
            {"import": ["8 at_import"], "python": ["13 handle"], "gevent": []}[message]]  # fmt: skip
    assert task.stderr.splitlines() == said


def test_a_signal_while_the_module_is_imported_ends_the_task(server, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\nwhile True: time.sleep(0.01)\n"
    )
    task = start("--handle", "job:handle")
    wait_until((tmp_path / "begun").exists)
    task.send(signal.SIGINT)
    assert task.wait() == 130
    assert task.stderr == ""


def test_a_fork_may_set_its_own_handlers(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(SIGNALS)
    handles_only(redis)
    redis.rpush("messages", "fork")
    task = start("--redis", server.url, "--generate", "builtins:iter", "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 1)
    assert (tmp_path / "child").read_text() == "7"
    assert task.stderr == ""


# -- gevent's pool of native threads

FULL_POOL = """
import pathlib
from gevent import get_hub
from gevent.monkey import get_original

def wait():
    while not pathlib.Path("go").exists():
        get_original("time", "sleep")(0.01)
    return "gone on"

def fill():
    for _ in range(10):
        get_hub().threadpool.spawn(wait)

def handle(message):
    if message == "fill in handle":
        fill()
"""


@pytest.mark.parametrize("when", ["handle", "import"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_full_pool_keeps_back_neither_reports_nor_a_connection(
    server, redis, start, tmp_path, when: str, host: str
) -> None:
    (tmp_path / "job.py").write_text(FULL_POOL + ("fill()\n" if when == "import" else ""))
    handles_only(redis)
    url = server.tcp_url.replace("127.0.0.1", host)
    redis.rpush("messages", f"fill in {when}", "next")
    task = start("--redis", url, "--handle", "job:handle", "--wait", "0.5")
    wait_until(lambda: task.total("processed") == 2, "reports")
    redis.client_kill_filter(_type="normal", skipme=True)
    redis.rpush("messages", "after the loss")
    wait_until(lambda: task.total("processed") == 3, "new connections")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert not (tmp_path / "go").exists(), "the pool was full all the time"


def test_a_handler_that_computes_keeps_its_membership_though_the_pool_is_full(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        FULL_POOL + "    if message == 'compute':\n        while not pathlib.Path('go').exists(): pass\nfill()\n"
    )
    handles_only(redis)
    redis.rpush("messages", "compute")
    with server.monitor() as monitor:
        task = start("--redis", server.tcp_url, "--handle", "job:handle", "--heartbeat", "0.5")
        wait_until(lambda: redis.llen("messages") == 0)
        beats = len(monitor.of("ZADD", "tasks"))
        wait_until(lambda: len(monitor.of("ZADD", "tasks")) > beats + 3, "beats of the native thread")
        (tmp_path / "go").touch()
    wait_until(lambda: task.total("processed") == 1)
