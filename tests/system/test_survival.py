"""A fleet with everything in its functions that users' code was seen to do wrong, kind by kind (two tasks) and all at
once (three tasks, in the fault suite): the fleet goes on, and at-least-once delivery loses nothing. Tasks that end are
started again, as a supervisor does."""

import json
import signal
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import TaskProcess, wait_until

# Each message is "number kind". What a kind does in `generate` or `handle` it does once for each number: the marks are
# files, because the process may end of it.
JOB = """
import ctypes, multiprocessing, os, pathlib, signal, sys, time
import gevent

libc = ctypes.CDLL(None)
keeping_the_lock = ctypes.PyDLL(None)
fork = multiprocessing.get_context("fork")
handled = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
KINDS = os.environ["KINDS"].split(",")

def on_alarm(number, frame):
    raise TimeoutError("too slow")

signal.signal(signal.SIGALRM, on_alarm)

def child():
    time.sleep(0.3)

def raises(): raise ValueError("users' code")
def blocks(): libc.usleep(1_200_000)
def computes():
    # As far as other threads can tell: Python's lock is to be had now and then, and no processor is needed for that.
    until = time.monotonic() + 1.2
    while time.monotonic() < until: keeping_the_lock.usleep(10_000)
def leaks(): gevent.Timeout(0.05).start()
def forks():
    process = fork.Process(target=child)
    process.start()
    process.join()
def forks_and_returns():
    if pid := os.fork(): os.waitpid(pid, 0)
def exits(): sys.exit(3)
def exits_beside(): gevent.spawn(sys.exit, 3)
def alarms(): signal.setitimer(signal.ITIMER_REAL, 0.05)
def prints(): print("x" * 1_000_000)
def closes(): os.closerange(3, 500)
def dies(): os.kill(os.getpid(), signal.SIGKILL)

def once(where, number):
    kind = KINDS[int(number) // 10 % len(KINDS)]
    if int(number) % 10 == 5:
        try:
            os.close(os.open(f"{where} {number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        globals()[kind]()

def generate(last):
    try:
        for number in range(int(last or 0) + 1, 1_000_000):
            once("generate", number)
            yield str(number)
            time.sleep(0.01)
    finally:
        time.sleep(0.05)

def handle(message):
    once("handle", message)
    os.write(handled, f"{message} {os.getpid()}\\n".encode())
"""
KINDS = ["raises", "blocks", "computes", "leaks", "forks", "forks_and_returns", "exits", "exits_beside", "alarms",
         "prints", "closes", "dies"]  # fmt: skip


def survives(redis, url: str, start, folder: Path, kinds: list[str], *, tasks: int, interval: int) -> None:
    """Goes on until each kind has come in both functions, and then some. `interval`: milliseconds between messages."""
    (folder / "job.py").write_text(JOB)

    def begin() -> TaskProcess:
        return start(
            "--redis", url, "--generate", "job:generate", "--handle", "job:handle", "--delivery", "at-least-once",
            "--heartbeat", "0.5", "--wait", "0.5", "--interval", str(interval), env={"KINDS": ",".join(kinds)},
        )  # fmt: skip

    def generated() -> int:
        return int(redis.hget("generator", "generated") or 0)

    fleet = [begin() for _ in range(tasks)]

    def look_after(enough: bool) -> bool:
        for task in fleet[:]:
            if task.process.poll() is not None:
                fleet[fleet.index(task)] = begin()
        return enough

    wait_until(lambda: look_after(generated() > 10 * len(kinds)), "each kind", timeout=200)
    count = generated()
    wait_until(lambda: look_after(generated() > count + 5), "generation goes on", timeout=60)
    redis.set("generatorIsActive", 1, ex=600)  # of another program: no more messages
    wait_until(lambda: look_after(not redis.exists("generatorId")), "the generator has seen it")

    def dealt_with() -> set[str]:
        failed = [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]
        return {*failed, *(line.split()[0] for line in (folder / "handled").read_text().splitlines())}

    expected = {str(number) for number in range(1, generated() + 1)}
    wait_until(lambda: look_after(dealt_with() >= expected), "every message is handled or in errors", timeout=120)
    assert dealt_with() == expected, "nothing was invented"
    marks = {mark.name for where in ("generate", "handle") for mark in folder.glob(f"{where} *")}
    assert marks >= {f"{where} {10 * n + 5}" for where in ("generate", "handle") for n in range(len(kinds))}
    for task in fleet:
        wait_until(lambda task=task: task.reports("createdTaskId") or task.process.poll() is not None)
        task.send(signal.SIGTERM)
    assert all(task.wait(60) is not None for task in fleet)


@ONE_SERVER
@pytest.mark.parametrize("kind", KINDS)
def test_a_fleet_survives(server, redis, start, tmp_path, kind: str) -> None:
    survives(redis, server.url, start, tmp_path, [kind], tasks=2, interval=100)


@ONE_SERVER
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_fleet_survives_everything_at_once(server, redis, start, tmp_path) -> None:
    survives(redis, server.url, start, tmp_path, KINDS, tasks=3, interval=500)
