"""`async def handle` and `async def generate`: coroutines run in a loop of their own, and all that is promised of plain
functions holds for them."""

import json
import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.servers import ONE_SERVER
from tests.support import web
from tests.tasks import TaskProcess, wait_until

pytestmark = ONE_SERVER

DELIVERIES = ["at-most-once", "at-least-once"]
WAYS_TO_BLOCK = {
    "a native wait": "ctypes.CDLL(None).sleep(9)",
    "a patched wait": "time.sleep(9)",
    "computing": "deadline = time.monotonic() + 9\n    while time.monotonic() < deadline: pass",
}


def handles_only(redis) -> None:
    """Another program holds the flag, so that every task handles."""
    redis.set("generatorIsActive", 1, ex=600)


def failures(redis, task: TaskProcess) -> dict[str, str]:
    """What stands in `errors`: message -> error. A task reports a failure before it tells Redis of it."""
    count = task.total("processed", "errors")
    wait_until(lambda: redis.llen("errors") >= count, f"{count} failed messages")
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    return {record["message"]: record["error"] for record in records}


# -- handle

TOGETHER = """
import asyncio

everybody = asyncio.Barrier(100)

async def handle(message):
    await everybody.wait()
"""


def test_a_hundred_coroutines_wait_at_the_same_time(server, redis, start, tmp_path) -> None:
    """None goes on before all are there."""
    (tmp_path / "job.py").write_text(TOGETHER)
    handles_only(redis)
    redis.rpush("messages", *range(100))
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "100")
    wait_until(lambda: task.total("processed") == 100)
    assert failures(redis, task) == {}


RAISING = """
import asyncio, sys

async def deeper(message):
    await asyncio.sleep(0)
    raise ValueError(message)

async def handle(message):
    if message == "deep":
        await deeper(message)
    elif message == "exit":
        sys.exit("no more")
    elif message == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(deeper(message))
    elif message == "cancelled":
        asyncio.current_task().cancel()
        await asyncio.sleep(60)
    elif message == "forgotten":
        return deeper(message)
    elif message == "alone":
        asyncio.get_running_loop().create_task(leaves())
        await asyncio.sleep(0.01)

async def leaves():
    sys.exit("not from here")
"""


def test_an_error_of_a_coroutine_names_the_place_in_the_users_code(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(RAISING)
    handles_only(redis)
    redis.rpush("messages", "deep", "exit", "group", "cancelled", "forgotten", "alone", "fine")
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "1")
    wait_until(lambda: task.total("processed") == 7)
    found = failures(redis, task)
    assert found["deep"] == "ValueError: deep (job.py:6 deeper)"
    assert found["exit"] == "SystemExit: no more (job.py:12 handle)"
    assert found["group"].startswith("ExceptionGroup: ") and found["group"].endswith("(job.py:14 handle)")
    assert found["cancelled"] == "asyncio.exceptions.CancelledError (job.py:18 handle)"
    assert "handle returned a coroutine, which nobody runs" in found["forgotten"]
    assert found.keys() == {"deep", "exit", "group", "cancelled", "forgotten"}
    alone = "SystemExit: not from here was raised in an asyncio task of its own (job.py:26 leaves)"
    wait_until(lambda: alone in task.stderr, "a line about it")


KINDS = """
import asyncio, functools, pathlib

async def function(message):
    await asyncio.sleep(0)
    pathlib.Path(message).touch()

class Worker:
    async def method(self, message):
        await function(message)
    __call__ = method

method = Worker().method
called = Worker()
partly = functools.partial(function)
"""


@pytest.mark.parametrize("kind", ["function", "method", "called", "partly"])
def test_whatever_is_async_can_handle(server, redis, start, tmp_path, kind: str) -> None:
    (tmp_path / "job.py").write_text(KINDS)
    handles_only(redis)
    redis.rpush("messages", "done")
    task = start("--redis", server.url, "--handle", f"job:{kind}")
    wait_until(lambda: task.total("processed") == 1)
    assert (tmp_path / "done").exists() and failures(redis, task) == {}


ASYNCIO = """
import asyncio, concurrent.futures, contextvars, gevent, logging, socket, subprocess, threading, time
import anyio.to_thread, gtask, gtask.leaving

gtask.leaving.TIME = 30  # on a busy machine all these threads and processes may need more than 3 s to end
customer = contextvars.ContextVar("customer", default="nobody")
executor = concurrent.futures.ThreadPoolExecutor(2)
processes = concurrent.futures.ProcessPoolExecutor(1)
lock = threading.Lock()

def blocks(message):
    with lock:
        time.sleep(0.05)
    logging.getLogger("mine").warning("from %s", threading.current_thread().name)
    return customer.get()

async def handle(message):
    found = customer.get()
    assert found == "nobody", found
    customer.set(message)
    loop = asyncio.get_running_loop()
    if message == "to_thread":
        assert await asyncio.gather(*[asyncio.to_thread(blocks, message) for _ in range(40)]) == [message] * 40
    elif message == "executor":
        assert await loop.run_in_executor(executor, len, "four") == 4
    elif message == "pool":
        assert await loop.run_in_executor(processes, len, "four") == 4
    elif message == "native":
        assert await asyncio.to_thread(lambda: gevent.get_hub().threadpool.apply(len, ("four",))) == 4
    elif message == "anyio":
        assert await anyio.to_thread.run_sync(blocks, message) == message
    elif message == "current":
        assert gtask.current().attempt == 1 and await asyncio.to_thread(lambda: gtask.current().task_id) == 1
    elif message == "busy":
        waiting = loop.run_in_executor(None, time.sleep, 0.05)
        while not waiting.done():
            await asyncio.sleep(0)
    elif message == "process":
        done = await loop.run_in_executor(executor, lambda: subprocess.run(["echo", "hello"], capture_output=True))
        assert done.stdout == b"hello\\n"
    elif message == "timeout":
        try:
            async with asyncio.timeout(0.05):
                await asyncio.sleep(60)
        except TimeoutError:
            pass
    elif message == "group":
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.01, number)) for number in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
    elif message == "streams":
        async def answer(reader, writer):
            writer.write(await reader.readline())
            writer.close()
        async with await asyncio.start_server(answer, "localhost", 0) as listening:
            reader, writer = await asyncio.open_connection("localhost", listening.sockets[0].getsockname()[1])
            writer.write(b"hello\\n")
            assert await reader.read() == b"hello\\n"
            writer.close()
    elif message == "names":
        await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        await loop.getnameinfo(("127.0.0.1", 80))
    elif message == "datagrams":
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport.close()
    assert customer.get() == message
"""
USES = [
    "to_thread", "executor", "pool", "native", "anyio", "current", "busy", "process", "timeout", "group", "streams",
    "names", "datagrams",
]  # fmt: skip


def test_asyncio_works(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(ASYNCIO)
    handles_only(redis)
    redis.rpush("messages", *USES * 3)
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "5")
    wait_until(lambda: task.total("processed") == 3 * len(USES))
    assert failures(redis, task) == {}
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "exit functions" not in task.stderr


MEETING = """
import asyncio, ctypes, gtask, pathlib

everybody = asyncio.Barrier(20)
found = set()

async def handle(message):
    if message == "first":
        ctypes.CDLL(None).usleep(500_000)  # meanwhile the others are sent to the loop, and all begin at once
    await everybody.wait()
    found.add(id(gtask.current()))
    pathlib.Path("found").write_text(str(len(found)))
"""


def test_each_coroutine_has_the_context_of_its_message(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(MEETING)
    handles_only(redis)
    redis.rpush("messages", "first", *range(19))
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "20")
    wait_until(lambda: task.total("processed") == 20)
    assert failures(redis, task) == {}
    assert (tmp_path / "found").read_text() == "20"


POOLED = """
import asyncio, concurrent.futures, subprocess

processes = concurrent.futures.ProcessPoolExecutor(1)

async def handle(message):
    command = ["echo", message]
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(processes, subprocess.check_output, command) == b"hello\\n"
"""


def test_a_process_of_an_executor_may_start_processes(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(POOLED)
    handles_only(redis)
    redis.rpush("messages", *["hello"] * 5)
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 5)
    assert failures(redis, task) == {}


STARTING = """
import asyncio, os, pathlib, subprocess

async def handle(message):
    if message == "asyncio":
        await asyncio.create_subprocess_exec("touch", "started")
    elif message == "subprocess":
        subprocess.run(["touch", "started"])
    elif message == "to_thread":
        await asyncio.to_thread(subprocess.run, ["touch", "started"])
    elif message == "fork" and not os.fork():
        pathlib.Path("started").touch()
        os._exit(0)
"""


def test_a_process_that_a_coroutine_cannot_start_is_not_started(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(STARTING)
    handles_only(redis)
    ways = {"asyncio": "6 handle", "subprocess": "8 handle", "to_thread": "10 handle", "fork": "11 handle"}
    redis.rpush("messages", *ways)
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == len(ways))
    for way, error in failures(redis, task).items():
        assert "can start no process; give subprocess.run to loop.run_in_executor" in error
        assert error.endswith(f"(job.py:{ways.pop(way)})")
    assert not ways and not (tmp_path / "started").exists()


FOLLOWED = """
import asyncio

async def handle(message):
    if message == "root":
        for name in ("left", "right"):
            await asyncio.sleep(0)
            yield name
        yield "last"
    elif message == "left":
        yield "never sent"
        await asyncio.sleep(0)
        raise ValueError("no")
    elif message == "right":
        yield 7
"""


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_an_async_handle_may_yield_follow_up_messages(server, redis, start, tmp_path, delivery: str) -> None:
    (tmp_path / "job.py").write_text(FOLLOWED)
    handles_only(redis)
    redis.rpush("messages", "root")
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", delivery)
    wait_until(lambda: task.total("processed") == 4)
    assert failures(redis, task) == {
        "left": "ValueError: no (job.py:13 handle)",
        "right": "ValueError: handle yielded int; a message is str or bytes (job.py:15 handle)",
    }


HANGING = """
import asyncio, pathlib

async def rows():
    await asyncio.sleep(600)
    yield "row"

async def handle(message):
    try:
        if message == "rows":
            async for row in rows():
                pass
        elif message == "task":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(600))
        elif message == "swallowed":
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass
        else:
            await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        pathlib.Path("closed " + message).touch()
"""


def test_a_coroutine_that_takes_longer_than_timeout_is_cancelled_and_named_where_it_hung(
    server, redis, start, tmp_path
) -> None:
    (tmp_path / "job.py").write_text(HANGING)
    handles_only(redis)
    places = {"rows": "5 rows", "task": "14 handle", "swallowed": "18 handle", "plain": "22 handle"}
    redis.rpush("messages", *places)
    # On a busy machine some time goes by until all of them are where they hang.
    task = start("--redis", server.url, "--handle", "job:handle", "--timeout", "3")
    wait_until(lambda: task.total("processed") == len(places))
    found = failures(redis, task)
    for message, place in places.items():
        assert found[message] == f"time-out: not handled within --timeout 3 (job.py:{place})"
        assert (tmp_path / f"closed {message}").exists()


def test_a_coroutine_whose_time_is_over_before_it_could_begin_fails_too(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import ctypes, os, pathlib\n"
        "libc = ctypes.CDLL(None)\n"
        "async def handle(message):\n"
        "    if message == 'holds':\n"
        "        pathlib.Path('holds').touch()\n"
        "        libc.open(b'pipe', os.O_RDONLY)\n"
    )
    handles_only(redis)
    os.mkfifo(tmp_path / "pipe")
    task = start("--redis", server.url, "--handle", "job:handle", "--timeout", "1")
    redis.rpush("messages", "holds")
    wait_until((tmp_path / "holds").exists)
    redis.rpush("messages", "waits")
    wait_until(lambda: redis.llen("messages") == 0, "it has taken it")
    time.sleep(2)  # more than its timeout
    (tmp_path / "pipe").write_text("")
    wait_until(lambda: task.total("processed") == 2, "both have ended")
    assert failures(redis, task)["waits"] == "time-out: not handled within --timeout 1"


# -- libraries


SECURE = {
    "httpx": (
        "import httpx, ssl\n"
        "async def handle(url):\n"
        "    trusted = ssl.create_default_context(cafile='cert.pem')\n"
        "    async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:\n"
        "        assert (await client.get(url)).text == 'hello'\n"
    ),
    "aiohttp": (
        "import aiohttp, ssl\n"
        "async def handle(url):\n"
        "    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile='cert.pem'))\n"
        "    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:\n"
        "        assert await response.text() == 'hello'\n"
    ),
}


@pytest.fixture
def secure(tmp_path) -> Iterator[str]:
    """The URL of a server that speaks TLS, with the name of its host."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip

    class Answer(web.Handler):
        protocol_version = "HTTP/1.0"  # each request has a connection of its own

        def do_GET(self) -> None:
            self.answer(200, "hello")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with web.serve(Answer, "localhost", context) as url:
        yield url


@pytest.mark.parametrize("library", SECURE)
def test_tls_and_names_of_hosts_work(server, redis, start, tmp_path, secure: str, library: str) -> None:
    (tmp_path / "job.py").write_text(SECURE[library])
    handles_only(redis)
    redis.rpush("messages", *[secure] * 20)
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 20)
    assert failures(redis, task) == {}
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "rror" not in task.stderr and "exit functions" not in task.stderr


# -- a loop that is blocked

BLOCKING = """
import asyncio, ctypes, os, pathlib, time

def block():
    pathlib.Path("blocked").touch()
    {way}
    pathlib.Path("done").touch()

async def handle(message):
    block()

async def generate(last):
    yield "first"
    block()
    yield "second"
    await asyncio.sleep(600)
"""


@pytest.mark.parametrize(
    ("role", "way"),
    [
        ("handler", "a native wait"),
        ("generator", "a native wait"),
        ("generator", "a patched wait"),
        pytest.param("generator", "computing", marks=pytest.mark.serial),  # it fights for Python's lock, and for a core
    ],
)
def test_a_blocked_loop_costs_neither_flag_nor_membership(server, redis, start, tmp_path, role: str, way: str) -> None:
    """It is blocked for longer than a flag lives: two heartbeats of 4 s, of which a busy machine may miss one. All that
    runs in greenlets goes on, such as the heartbeat that keeps the membership: nothing acts for them from outside."""
    (tmp_path / "job.py").write_text(BLOCKING.format(way=WAYS_TO_BLOCK[way]))
    options = ["--redis", server.url, "--heartbeat", "4", "--delivery", "at-least-once", "--interval", "0"]
    if role == "handler":
        handles_only(redis)
        redis.rpush("messages", "m")
        task = start(*options, "--handle", "job:handle")
    else:
        task = start(*options, "--generate", "job:generate", "--handle", "job:handle")
    wait_until((tmp_path / "blocked").exists)
    beats = set()
    while not (tmp_path / "done").exists():
        [(member, beat)] = redis.zrange("tasks", 0, -1, withscores=True)
        beats.add(beat)
        assert member == b"1"
        assert role == "handler" or redis.get("generatorId") == b"1"
        time.sleep(0.05)
    assert len(beats) >= 2, "its heartbeat goes on"
    if role == "handler":
        wait_until(lambda: task.total("processed") == 1)
    else:
        wait_until(lambda: task.total("generated") == 2)
        assert redis.hget("generator", "term") == b"1"
    assert redis.get("taskId") == b"1"
    assert "nothing else has run here" not in task.stderr
    assert re.search(r"no other coroutine has run here for \d\.\d s: job\.py:[67] block", task.stderr)


# -- the end

LASTING = """
import asyncio, atexit, ctypes, pathlib, time

atexit.register(time.sleep, 0.2)  # greenlets run meanwhile, and must not hear of the cancellation

async def handle(message):
    pathlib.Path("begun " + message).touch()
    try:
        if message == "blocks":
            ctypes.CDLL(None).sleep(600)
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if message != "swallows":
                    raise
    finally:
        await asyncio.sleep(0.01)
        pathlib.Path("closed " + message).touch()
"""


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("message", ["waits", "swallows", "blocks"])
def test_what_is_not_finished_within_the_grace_is_no_failure_of_its_coroutine(
    server, redis, start, tmp_path, message: str, delivery: str
) -> None:
    (tmp_path / "job.py").write_text(LASTING)
    handles_only(redis)
    redis.rpush("messages", message)
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", delivery, "--grace", "0.5")
    wait_until((tmp_path / f"begun {message}").exists)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    if delivery == "at-least-once":
        assert redis.lrange("messages", 0, -1) == [message.encode()] and not redis.exists("errors")
    else:
        assert failures(redis, task) == {message: "not finished within --grace 0.5"}
    assert (tmp_path / f"closed {message}").exists() == (message == "waits")
    assert "failed" not in task.stderr


def test_what_ends_within_the_grace_is_finished(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import asyncio, pathlib\n"
        "async def handle(message):\n"
        "    pathlib.Path('begun').touch()\n"
        "    while not pathlib.Path('go').exists(): await asyncio.sleep(0.01)\n"
    )
    handles_only(redis)
    redis.rpush("messages", "m")
    task = start("--redis", server.url, "--handle", "job:handle", "--delivery", "at-least-once")
    wait_until((tmp_path / "begun").exists)
    task.send(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert task.wait() == 0
    assert task.total("processed") == 1 and not redis.exists("messages", "errors")


# -- generate

COUNTING = """
import asyncio, gtask, pathlib

async def generate(last):
    assert gtask.current().term
    try:
        for number in range(int(last or 0) + 1, 5001):
            if number % 1000 == 0:
                await asyncio.sleep(0.01)
            yield (f"message {number}" if number % 3 else None), str(number)
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.01)
        pathlib.Path("closed").touch()
"""


def test_an_async_generate_yields_messages_and_positions(server, redis, start, tmp_path) -> None:
    """Across the death of a generator, too. When its term ends while it waits, it runs what it has in `finally:`."""
    (tmp_path / "job.py").write_text(COUNTING)
    options = ["--redis", server.url, "--generate", "job:generate", "--handle", "builtins:len", "--interval", "0",
               "--max-backlog", "0", "--heartbeat", "0.5"]  # fmt: skip
    task = start(*options)
    wait_until(lambda: redis.llen("messages") > 100)
    task.kill()
    task = start(*options)
    wait_until(lambda: redis.hget("generator", "last") == b"5000")
    messages = [f"message {number}".encode() for number in range(1, 5001) if number % 3]
    found = redis.lrange("messages", 0, -1)
    assert found == messages[-len(found) :]  # the second task handled some before it generated
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert (tmp_path / "closed").exists()
    assert "Error" not in task.stderr


MARKING = """
import asyncio, redis.asyncio, os, pathlib

async def generate(last):
    client = redis.asyncio.Redis.from_url(os.environ["SERVER"])
    yield "first"
    waiting = [await client.llen("messages")]
    for number in range(3):
        await asyncio.sleep(0.001)  # what is quick may be drawn ahead
        yield str(number)
        waiting.append(await client.llen("messages"))
    pathlib.Path("waiting").write_text(str(waiting))
    await asyncio.sleep(600)
"""


def test_what_follows_a_yield_runs_when_the_message_was_accepted(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(MARKING)
    # In one term, though the machine is busy: a long heartbeat has a flag that lives for long.
    start("--redis", server.url, "--generate", "job:generate", "--handle", "builtins:len", "--interval", "0",
          "--heartbeat", "20", env={"SERVER": server.url})  # fmt: skip
    assert wait_until(lambda: (tmp_path / "waiting").exists() and (tmp_path / "waiting").read_text()) == "[1, 2, 3, 4]"


QUICK = """
import pathlib

async def generate(last):
    for number in range(1, 1001):
        yield str(number)
        with open("after", "a") as file: file.write(f"{number}\\n")
"""


def test_a_quick_one_is_not_drawn_ahead_when_there_is_an_interval(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(QUICK)
    # It must not handle meanwhile, as it would do if it lost the flag on a busy machine.
    task = start("--redis", server.url, "--generate", "job:generate", "--handle", "builtins:len", "--interval", "30",
                 "--heartbeat", "20")  # fmt: skip
    wait_until(lambda: redis.llen("messages") >= 5)
    task.send(signal.SIGSTOP)
    drawn = (tmp_path / "after").read_text().count("\n")
    assert drawn <= redis.llen("messages")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("yield 'm'\n    await asyncio.sleep(0)\n    1 / 0",
         "raised ZeroDivisionError: division by zero (job.py:5 generate)"),
        ("await asyncio.sleep(0)\n    yield 7", "yielded int; a message is str or bytes (job.py:4 generate)"),
    ],
)  # fmt: skip
def test_an_error_of_an_async_generate_ends_its_term(server, redis, start, tmp_path, source: str, said: str) -> None:
    (tmp_path / "job.py").write_text(f"import asyncio\nasync def generate(last):\n    {source}\n")
    task = start("--redis", server.url, "--generate", "job:generate", "--handle", "builtins:len", "--interval", "0")
    wait_until(lambda: f"term 1 failed: job:generate {said}" in task.stderr)


def test_an_async_generate_that_does_not_end_is_named_where_it_waits(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import asyncio\n"
        "async def source():\n"
        "    while True:\n"
        "        try:\n"
        "            await asyncio.sleep(600)\n"
        "            yield 'm'\n"
        "        except BaseException: pass\n"
        "async def generate(last):\n"
        "    yield 'first'\n"
        "    async for message in source(): yield message\n"
    )
    task = start("--redis", server.url, "--generate", "job:generate", "--handle", "builtins:len", "--interval", "0",
                 "--grace", "0.5")  # fmt: skip
    wait_until(lambda: task.total("generated") == 1)
    task.send(signal.SIGTERM)
    assert task.wait() == 75
    assert "job:generate was told to end and is still there after 0.5 s (job.py:5 source)" in task.stderr
