"""Links to Redis that are thin, slow or forgetful: tasks work on them, each at what the link can bear."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from gtask.store import Store
from gtask.store.connection import COMMAND_TIMEOUT
from tests.commands import Ambush, CommandProxy
from tests.proxy import Proxy
from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until, waits

MEGABYTE = 1_000_000


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.socket) as proxy:
        yield proxy


# -- thin: more time than a call may take, but always progress


@ONE_SERVER
def test_a_large_message_gets_through_a_thin_link_and_is_sent_once(proxy: Proxy, redis, start, tmp_path: Path) -> None:
    """Six seconds for a message, where a call without any progress is given up after five."""
    (tmp_path / "job.py").write_text("def generate(last):\n    if not last: yield b'x' * 6_000_000\ndef handle(_): 0\n")
    proxy.rate = MEGABYTE
    task = start("--redis", proxy.url, "--generate", "job:generate", "--handle", "job:handle", "--heartbeat", "2.5")
    wait_until(lambda: redis.llen("messages") == 1, "the message")
    wait_until(lambda: task.total("generated") == 1, "its answer")
    assert proxy.carried < 7 * MEGABYTE
    assert redis.strlen("generatorIsActive") == 1, "the flag was renewed meanwhile"
    assert "lost Redis" not in task.stderr


@ONE_SERVER
def test_a_large_message_is_fetched_over_a_thin_link(proxy: Proxy, redis, start, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("def generate(last): return []\ndef handle(m): assert len(m) != 6_000_000\n")
    redis.set("generatorIsActive", 1)  # another program's: this task only handles
    redis.rpush("messages", b"x" * 6 * MEGABYTE)
    proxy.rate = MEGABYTE
    task = start("--redis", proxy.url, "--generate", "job:generate", "--handle", "job:handle",
                 "--delivery", "at-least-once", "--heartbeat", "0.5")  # fmt: skip
    wait_until(lambda: task.total("processed", "errors") == 1, "it came as a whole")


@ONE_SERVER
def test_a_large_position_is_fetched_while_the_flag_is_renewed(proxy: Proxy, redis, start, tmp_path: Path) -> None:
    """Six seconds for `last`, in a flag's life of five."""
    (tmp_path / "job.py").write_text("def generate(last): yield str(len(last))\ndef handle(_): 0\n")
    redis.hset("generator", mapping={"generated": 1, "last": b"x" * 6 * MEGABYTE})
    proxy.rate = MEGABYTE
    task = start("--redis", proxy.url, "--generate", "job:generate", "--handle", "job:handle", "--heartbeat", "2.5")
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"6000000"], "it goes on")
    assert redis.hget("generator", "term") == b"1", "of the first term"
    status = start("status", "--json", "--redis", proxy.url)
    assert status.wait() == 0
    assert "lost Redis" not in task.stderr


# -- slow


@ONE_SERVER
def test_a_fleet_works_where_a_round_trip_takes_longer_than_half_a_heartbeat(proxy: Proxy, redis, start) -> None:
    proxy.delay = 0.3
    options = ("--redis", proxy.url, "--interval", "50", "--heartbeat", "1", "--wait", "1")
    tasks = [start(*options) for _ in range(2)]
    wait_until(lambda: redis.hlen("tasks:members") == 2, "both have joined")
    wait_until(lambda: any(task.is_generator() for task in tasks), "one generates")
    wait_until(lambda: sum(task.total("processed") for task in tasks) > 3, "one handles")
    assert int(redis.get("taskId")) == 2, "no id was burnt"
    for task in tasks:
        said = wait_until(
            lambda task=task: [line for line in task.stderr.splitlines() if "round trip" in line], "a line"
        )
        assert len(said) == 1
        assert "--heartbeat 1:" in said[0]
        assert 0.6 <= float(said[0].split("takes ")[1].split(" s")[0]) < 3
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]


@ONE_SERVER
def test_a_quick_link_is_not_complained_of(server: Server, start) -> None:
    task = start("--redis", server.url, "--interval", "10", "--heartbeat", "0.5")
    wait_until(lambda: task.total("generated") > 200, "some heartbeats")
    assert "round trip" not in task.stderr


@ONE_SERVER
def test_a_slow_heartbeat_is_waited_for_and_a_quick_one_no_longer_than_before(proxy: Proxy) -> None:
    store = Store(proxy.url, "", heartbeat=0.5)
    store.connect()
    assert not store.round_trip
    proxy.delay = 0.4

    def asked() -> bool:
        try:
            return bool(store._heart.ping())
        except redis.TimeoutError:
            return False

    wait_until(asked, "an answer")
    assert store._heart.connection.socket_timeout >= 1.6
    proxy.delay = 0.0
    wait_until(lambda: asked() and store._heart.connection.socket_timeout == 0.5, "it is quick again")
    store.close()


# -- forgetful: what was silent for a while is swallowed, and nobody is told


@pytest.mark.serial
@ONE_SERVER
def test_idle_connections_are_not_forgotten(proxy: Proxy, redis, start, tmp_path: Path) -> None:
    """After a long silence a message is handled at once, and a clean end hands over at once. Each way of delivery has
    its own fleet, and both are silent at the same time."""
    (tmp_path / "job.py").write_text("def generate(last): return []\ndef handle(m): raise ValueError(m)\n")
    proxy.forgets_after = 3.0
    fleets = {}
    for delivery in ("at-most-once", "at-least-once"):
        options = ("--redis", proxy.url, "--generate", "job:generate", "--handle", "job:handle", "--wait", "1",
                   "--heartbeat", "2", "--delivery", delivery, "--namespace", delivery)  # fmt: skip
        first = start(*options)
        wait_until(first.is_generator, "the first one generates")
        fleets[delivery] = first, start(*options)
    for delivery in fleets:
        wait_until(lambda d=delivery: redis.hlen(f"{d}:tasks:members") == 2, "the second one handles")
    time.sleep(4.5)  # of silence
    for delivery in fleets:
        redis.rpush(f"{delivery}:messages", "after the silence")
        pushed = time.monotonic()
        wait_until(lambda d=delivery: redis.llen(f"{d}:errors"), "the failure is stored")
        assert time.monotonic() - pushed < 1.5
    for first, second in fleets.values():
        first.send(signal.SIGTERM)
        ended = time.monotonic()
        wait_until(second.is_generator, "the second one generates")
        assert time.monotonic() - ended < 1.5
        assert first.wait() == 0


@ONE_SERVER
def test_a_connection_that_was_silent_for_long_is_opened_anew(proxy: Proxy) -> None:
    """Such as that for waiting while a task generates."""
    store = Store(proxy.url, "", wait=1)
    assert store.blpop() is None
    proxy.forget()
    store._blocking.connection._used -= 60
    assert store.blpop() is None, "over the old one there would be no answer, and that is an error"
    store.close()


@ONE_SERVER
def test_nothing_is_sent_over_a_connection_that_is_in_use(server: Server, redis) -> None:
    store = Store(server.url, "")
    store.next_id()
    with server.monitor() as monitor:
        assert 1 < store.keep() <= 2
        redis.echo("end")
        wait_until(lambda: monitor.of("ECHO"), "the end of the history")
        assert not monitor.of("PING")
        store._commands.connection._used -= 3
        assert store.keep() == 2
        redis.echo("end")
        wait_until(lambda: len(monitor.of("ECHO")) == 2, "the end of the history")
        assert len(monitor.of("PING")) == 1
    store.close()


# -- late: what a lost answer has brought out of Redis is nowhere else (at-most-once)


@contextmanager
def fetching(server: Server, redis, start, tmp_path: Path, handle: str) -> Iterator[TaskProcess]:
    """A task that has asked for a batch of 1,000 messages. Redis gives it, and the answer is a second under way."""
    (tmp_path / "job.py").write_text(
        "import gevent\n"
        "limit = gevent.Timeout(0.5)\n"
        "def generate(last): return []\n"
        "def plain(message): pass\n"
        "def leaking(message):\n"
        "    limit.cancel()\n"
        "    limit.start()\n"
    )
    redis.set("generatorIsActive", 1, ex=600)  # of another program: this task only handles
    with CommandProxy(server.socket) as proxy:
        task = start(
            "--redis", proxy.url, "--generate", "job:generate", "--handle", f"job:{handle}", "--concurrency", "1"
        )
        wait_until(lambda: waits(redis), "BLPOP")
        ambush = Ambush("pop", "delay_command", seconds=1)
        proxy.lay(ambush)
        redis.rpush("messages", *range(1000))
        wait_until(ambush.happened.is_set, "a batch to be on its way")
        yield task


@ONE_SERVER
def test_a_task_that_was_stopped_takes_the_answer_that_came_meanwhile(server, redis, start, tmp_path: Path) -> None:
    with fetching(server, redis, start, tmp_path, "plain") as task:
        task.send(signal.SIGSTOP)
        time.sleep(COMMAND_TIMEOUT + 1)  # no event can tell that a stopped process's time is over
        task.send(signal.SIGCONT)
        wait_until(lambda: task.total("processed") == 1000, "all handled")
        assert "was lost" not in task.stderr


@OTHER_SERVER
def test_a_leaked_timeout_does_not_throw_an_answer_away(server, redis, start, tmp_path: Path) -> None:
    with fetching(server, redis, start, tmp_path, "leaking") as task:
        wait_until(lambda: task.total("processed") == 1000, "all handled")
        assert "Timeout was thrown into a worker" in task.stderr
