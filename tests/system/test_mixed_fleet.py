"""A program that knows only the source's part of the protocol (four keys) works beside gtask, in both roles."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until

T = 2  # with 1, a flag would not outlive a program that stands still for a moment
JOBS = """
import os
log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def generate(last):
    return (f"gtask:{n}" for n in range(int(last.split(":")[1]) + 1 if last else 1, 10**9))

def handle(message):
    if message.startswith("bad"):
        raise ValueError(message)
    os.write(log, f"{message}\\n".encode())
"""


class Plain:
    """The other program: one socket, RESP written by hand."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._replies = self._socket.makefile("rb")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.got: list[str] = []

    def ask(self, *words: object) -> Any:
        data = [str(word).encode() for word in words]
        with self._lock:
            self._socket.sendall(b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%s\r\n" % (len(d), d) for d in data))
            return self._reply()

    def _reply(self) -> Any:
        line = self._replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._replies.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise AssertionError(line)

    def handle(self) -> None:
        """Handles from now on; what begins with "bad" fails."""

        def loop() -> None:
            while not self._stop.is_set():
                reply = self.ask("BLPOP", "messages", 1)
                if reply is not None:
                    _, message = reply
                    if message.startswith("bad"):
                        self.ask("RPUSH", "errors", message)
                    self.got.append(message)

        self._run(loop)

    def wins(self) -> bool:
        """One try to become the generator."""
        return self.ask("SET", "generatorIsActive", 1, "NX", "EX", 2 * T) == "OK"

    def generate(self) -> None:
        """Says that it is the generator from now on, as the source's generator does: without asking."""
        self.ask("SET", "generatorIsActive", 1, "EX", 2 * T)

        def loop() -> None:
            while not self._stop.wait(T / 2):
                self.ask("SET", "generatorIsActive", 1, "EX", 2 * T)

        self._run(loop)

    def _run(self, loop: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=loop))
        self._threads[-1].start()

    def stop(self) -> None:
        """Ends its roles; the flag expires by itself."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._stop.clear()

    def close(self) -> None:
        self.stop()
        self._replies.close()
        self._socket.close()


class Fleet:
    """The gtask side."""

    def __init__(self, server: Server, start: Callable[..., TaskProcess], folder: Path) -> None:
        self._server, self._start, self._folder = server, start, folder
        (folder / "jobs.py").write_text(JOBS)

    def start(self, *options: str) -> TaskProcess:
        task = self._start(
            "--redis", self._server.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "5",
            "--max-backlog", "0",
            "--heartbeat", str(T), *options,
        )  # fmt: skip
        assert task.task_id
        return task

    def handled(self) -> list[str]:
        log = self._folder / "log"
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def plain(server: Server) -> Iterator[Callable[[], Plain]]:
    made: list[Plain] = []

    def make() -> Plain:
        made.append(Plain(server))
        return made[-1]

    yield make
    for one in made:
        with suppress(OSError):
            one.close()


@pytest.fixture
def fleet(server: Server, start: Callable[..., TaskProcess], tmp_path: Path) -> Fleet:
    return Fleet(server, start, tmp_path)


@OTHER_SERVER
@pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])
def test_both_handle_what_both_push_and_each_message_is_handled_once(redis, fleet: Fleet, plain, delivery: str) -> None:
    other, pusher = plain(), plain()
    tasks = [fleet.start("--delivery", delivery) for _ in range(2)]
    wait_until(lambda: any(task.is_generator() for task in tasks), "a gtask generator")
    assert other.ask("INCR", "taskId") == 3, "ids are shared"
    assert not other.wins(), "the flag is gtask's"
    other.handle()
    for n in range(100):
        pusher.ask("RPUSH", "messages", f"plain:{n}")
    pusher.ask("RPUSH", "messages", *(f"bad:{n}" for n in range(10)))
    wait_until(lambda: len(other.got) > 100 and len(fleet.handled()) > 100, "both to handle more than a hundred")
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]
    wait_until(lambda: not redis.exists("messages"), "the other one to handle the rest")
    other.stop()
    generated = int(redis.hget("generator", "generated"))
    pushed = [f"gtask:{n}" for n in range(1, generated + 1)] + [f"plain:{n}" for n in range(100)]
    good = [message for message in other.got if not message.startswith("bad")]
    assert sorted(good + fleet.handled()) == sorted(pushed)
    entries = [entry.decode() for entry in redis.lrange("errors", 0, -1)]
    failed = [json.loads(entry)["message"] if entry.startswith("{") else entry for entry in entries]
    assert sorted(failed) == [f"bad:{n}" for n in range(10)]
    assert redis.keys("inflight:*") == []


@ONE_SERVER
def test_gtask_handles_what_another_generator_pushes_and_respects_its_flag(redis, fleet: Fleet, plain) -> None:
    other = plain()
    assert other.wins()
    other.generate()
    tasks = [fleet.start("--delivery", "at-least-once"), fleet.start()]
    began = time.monotonic()
    n = 0
    while time.monotonic() - began < 3 * T:  # longer than the flag lives, so that only its renewals keep it
        other.ask("RPUSH", "messages", f"plain:{n}")
        n += 1
        time.sleep(0.01)
    wait_until(lambda: len(fleet.handled()) == n, "all of the other one's messages")
    assert sorted(fleet.handled()) == sorted(f"plain:{i}" for i in range(n))
    assert not any(task.reports("switchedToGenerator Mode") for task in tasks)
    assert not redis.exists("generator")
    other.stop()
    wait_until(lambda: any(task.is_generator() for task in tasks), "gtask takes over")


@OTHER_SERVER
def test_another_program_wins_the_flag_when_gtask_s_generator_dies_and_keeps_it(redis, fleet: Fleet, plain) -> None:
    other = plain()
    task = fleet.start()
    wait_until(task.is_generator, "gtask's generator")
    assert not other.wins()
    task.process.kill()
    wait_until(other.wins, "the flag to expire")
    other.generate()
    generated = redis.hget("generator", "generated")
    successor = fleet.start()
    other.ask("RPUSH", "messages", "plain:1")
    wait_until(lambda: "plain:1" in fleet.handled(), "the new task handles")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3 * T, "longer than a flag lives")
    assert not successor.reports("switchedToGenerator Mode")
    assert redis.hget("generator", "generated") == generated


@ONE_SERVER
def test_gtask_s_generator_steps_aside_when_another_program_overwrites_the_flag(redis, fleet: Fleet, plain) -> None:
    other = plain()
    task = fleet.start("--delivery", "at-least-once")
    wait_until(lambda: task.is_generator() and task.total("generated") > 10, "gtask generates")
    other.generate()
    generated = int(redis.hget("generator", "generated"))
    wait_until(lambda: not task.is_generator(), "gtask steps aside")
    assert int(redis.hget("generator", "generated")) == generated, "not one message more"
    other.ask("RPUSH", "messages", "plain:1")
    wait_until(lambda: "plain:1" in fleet.handled(), "it handles")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3 * T, "longer than a flag lives")
    assert not task.is_generator()
    assert int(redis.hget("generator", "generated")) == generated
    other.stop()
    wait_until(task.is_generator, "gtask generates again")
    wait_until(lambda: int(redis.hget("generator", "generated")) > generated, "it pushes")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    last = int(redis.hget("generator", "last").split(b":")[1])
    assert last == int(redis.hget("generator", "generated")), "it went on where it had stopped, and left nothing out"
