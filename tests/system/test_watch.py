"""Users' code that holds the event loop: in C, with or without an end, and in Python. The task stays a member, its
messages go to others, TERM and the grace hold, and it is said who holds the loop."""

import json
import os
import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = ONE_SERVER

T = 0.5

# `wait` holds the loop but not the GIL, and no signal interrupts it, as in a driver in C that waits for its server.
# `compute` holds the GIL, too, and gives it away only where all Python code does, between two instructions. It sleeps
# with the GIL in its hand, so it takes from other threads what computing takes, and from other processes nothing.
# `wait_for_gate` holds it until somebody writes into the named pipe "pipe", and `compute_for_gate` until "file" exists.
# `end_and_wait` holds it while the signal comes that ends its task.
JOBS = """
import ctypes, os, pathlib, signal, time
libc = ctypes.CDLL(None)
libc_with_the_gil = ctypes.PyDLL(None)

class timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]

def wait(seconds):
    mutex = ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    end = time.time() + seconds
    libc.pthread_mutex_timedlock(mutex, ctypes.byref(timespec(int(end), int(end % 1 * 1e9))))

def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        libc_with_the_gil.usleep(1000)

def wait_for_gate():
    libc.open(b"pipe", os.O_RDONLY)

def compute_for_gate():
    while not os.path.exists("file"):
        libc_with_the_gil.usleep(1000)

def handle(message):
    what, _, seconds = message.partition(" ")
    if what.endswith("_for_gate"):
        globals()[what]()
    elif what in ("wait", "compute"):
        pathlib.Path("holding").touch()
        globals()[what](int(seconds))
    elif what == "end_and_wait":
        os.kill(os.getpid(), signal.SIGTERM)
        wait(int(seconds))
    elif what == "note":
        os.write(noted, f"{message}\\n".encode())

noted = os.open("noted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
"""

HOLDERS = pytest.mark.parametrize("holder", ["wait", "compute"])
DELIVERIES = pytest.mark.parametrize("delivery", ["at-most-once", "at-least-once"])


def make_gate(holder: str, folder: Path) -> Path:
    """What is written into it lets `holder` go on: nobody opens a pipe for writing before another one reads."""
    gate = folder / {"wait": "pipe", "compute": "file"}[holder]
    if holder == "wait":
        os.mkfifo(gate)
    return gate


def handles_only(redis) -> None:
    """Another program holds the flag, so that every task handles."""
    redis.set("generatorIsActive", 1, ex=600)


def options(server, *more: str, heartbeat: float = T) -> list[str]:
    return ["--redis", server.url, "--heartbeat", str(heartbeat), "--handle", "jobs:handle", *more]


# -- handle


@HOLDERS
@DELIVERIES
def test_messages_behind_one_that_holds_the_loop_go_to_another_task(
    server, redis, start, tmp_path, delivery, holder
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    handles_only(redis)
    # Quick ones, so that batches are large when the one comes that holds the loop.
    first, behind = [f"quick {n}" for n in range(20_000)], [f"note {n}" for n in range(2000)]
    gate = make_gate(holder, tmp_path)
    redis.rpush("messages", *first, f"{holder}_for_gate", *behind)
    # Who is taken for dead was silent for five heartbeats, and a busy machine may keep one silent for some seconds.
    tasks = [start(*options(server, "--delivery", delivery, heartbeat=2)) for _ in range(2)]
    noted = tmp_path / "noted"
    wait_until(lambda: noted.exists() and noted.read_text().count("\n") == len(behind), "all that stand behind it")
    gate.write_text("")
    assert sorted(noted.read_text().splitlines()) == sorted(behind)
    wait_until(lambda: sum(task.total("processed") for task in tasks) == len(first) + len(behind) + 1, "each once")
    assert all(len(task.reports("createdTaskId")) == 1 for task in tasks), "nobody was taken for dead"


@HOLDERS
@DELIVERIES
def test_term_and_grace_hold_whatever_holds_the_loop(server, redis, start, tmp_path, delivery, holder) -> None:
    (tmp_path / "jobs.py").write_text(JOBS + FINISHED_FIRST)
    handles_only(redis)
    redis.rpush("messages", "fail", "nothing", f"{holder} 60", *(f"quick {n}" for n in range(20)))
    task = start(*options(server, "--delivery", delivery, "--concurrency", "1", "--grace", "0.5"))
    wait_until((tmp_path / "holding").exists)
    wait_until(lambda: redis.llen("messages") == 20, "what was not started goes back")
    began = time.monotonic()
    task.send(signal.SIGTERM)
    assert task.wait() == 75
    assert time.monotonic() - began < 40, "and not as long as the loop is held"
    last = task.stderr.splitlines()[-1]
    assert "ended by force" in last and "--grace 0.5" in last and re.search(r"jobs\.py:\d+ (wait|compute)", last)
    errors = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    assert errors[0]["message"] == "fail", "what is finished is stored"
    waiting = redis.lrange("messages", 0, -1)
    if delivery == "at-least-once":
        assert waiting[0] == f"{holder} 60".encode() and len(waiting) == 21
        assert len(errors) == 1
        assert redis.hget("totals", "processed") == b"2"
    else:
        assert waiting == [f"quick {n}".encode() for n in range(20)]
        assert [(e["message"], e["error"]) for e in errors[1:]] == [(f"{holder} 60", "not finished within --grace 0.5")]
    assert not redis.exists("tasks", "tasks:members")
    assert not redis.keys("inflight:*")


FINISHED_FIRST = """
held = handle
def handle(message):
    if message == "fail":
        raise ValueError(message)
    held(message)
"""


IN_PIECES = """
held = handle
def handle(message):
    while message == "pieces":
        pathlib.Path("holding").touch()
        compute(0.2)
        time.sleep(0.001)
    held(message)
"""


def test_a_loop_that_turns_now_and_then_ends_its_task_in_order_however_late(server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS + IN_PIECES)
    handles_only(redis)
    redis.rpush("messages", "pieces")
    task = start(*options(server, "--grace", "0.2"))
    wait_until((tmp_path / "holding").exists)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "1 message was not finished within --grace 0.2: now in errors" in task.stderr
    assert "ended by force" not in task.stderr
    assert [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)] == ["pieces"]


def test_the_first_signal_ends_gracefully_and_the_second_at_once_while_c_code_holds_the_loop(
    server, redis, start, tmp_path
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    handles_only(redis)
    for message, second, code in (("end_and_wait 2", False, 0), ("wait 60", True, 143)):
        redis.rpush("messages", message, "not started")
        task = start(*options(server, "--concurrency", "1", "--grace", "40"))
        if second:
            wait_until((tmp_path / "holding").exists)
            insist(task)
        assert task.wait() == code
        assert redis.lrange("messages", 0, -1) == [b"not started"]
        redis.delete("messages")


def insist(task) -> None:
    wait_until(lambda: task.send(signal.SIGTERM) or task.process.poll() is not None, "it ends", timeout=30)


def test_it_is_said_who_holds_the_loop(server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    tasks, gates = {}, {}
    for holder in ("wait", "compute"):
        gates[holder] = make_gate(holder, tmp_path)
        redis.set(f"{holder}:generatorIsActive", 1, ex=600)
        redis.rpush(f"{holder}:messages", f"{holder}_for_gate")
        tasks[holder] = start(*options(server, "--log-level", "ERROR", "--namespace", holder))
    line = re.compile(r"gtask: nothing else has run here for (\d+\.\d) s: jobs\.py:(\d+) (\w+)")
    for holder, task in tasks.items():
        wait_until(lambda task=task: len(line.findall(task.stderr)) >= 3, "three lines")
        gates[holder].write_text("")
        wait_until(lambda task=task: "event loop runs again" in task.stderr)
        said = line.findall(task.stderr)
        times = [float(seconds) for seconds, _, _ in said]
        assert len(said) >= 3 and 2 <= times[0] < 10
        assert all(later > 1.9 * sooner for sooner, later in pairwise(times)), (
            "when the time has doubled (it is rounded)"
        )
        innermost = {"wait": ["libc.open"], "compute": ["while not os.path.exists", "usleep"]}[holder]
        lines = JOBS.splitlines()
        assert all(any(text in lines[int(number) - 1] for text in innermost) for _, number, _ in said), said
        assert {name for _, _, name in said} == {f"{holder}_for_gate"}
        assert len(task.reports("createdTaskId")) == 1
        assert redis.zcard(f"{holder}:tasks") == 1


def test_while_the_whole_process_stands_still_nobody_holds_the_loop(server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    handles_only(redis)
    gate = make_gate("compute", tmp_path)
    redis.rpush("messages", "compute_for_gate", "note")
    task = start(*options(server, "--concurrency", "1", "--log-level", "ERROR"))
    wait_until(lambda: redis.llen("messages") < 2, "it has taken it")
    time.sleep(0.5)  # it holds the loop, and the thread has seen that
    task.send(signal.SIGSTOP)
    time.sleep(6)
    task.send(signal.SIGCONT)
    time.sleep(0.5)
    gate.write_text("")
    wait_until((tmp_path / "noted").exists)
    said = re.findall(r"nothing else has run here for (\d+\.\d) s", task.stderr)
    assert all(float(seconds) < 6 for seconds in said), "of these 6 s nobody was held up"


# -- import

BLOCKED_IMPORT = """
import ctypes, pathlib
pathlib.Path("importing").touch()
while True:  # a signal ends a sleep
    ctypes.CDLL(None).sleep(60)
def handle(message): pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_that_never_ends_is_said_and_ends_with_the_first_signal(server, start, tmp_path, number) -> None:
    (tmp_path / "jobs.py").write_text(BLOCKED_IMPORT)
    task = start(*options(server))
    wait_until((tmp_path / "importing").exists)
    wait_until(lambda: re.search(r"nothing else has run here for \d\.\d s: jobs\.py:5 <module>", task.stderr))
    task.send(number)
    assert task.wait(40) == 128 + number


# -- generate

SLOW = """
def generate(last):
    number = int(last or 0)
    while True:
        wait(7)  # more than 2 T
        number += 1
        yield str(number)
"""


@pytest.mark.serial
def test_a_generate_that_waits_in_c_for_longer_than_the_flag_lives_keeps_it(server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS + SLOW)
    both = options(server, "--generate", "jobs:generate", "--interval", "0", heartbeat=3)
    generator = start(*both)
    wait_until(generator.is_generator)
    other = start(*both)
    wait_until(lambda: int(redis.hget("generator", "generated") or 0) >= 1)
    assert redis.hget("generator", "term") == b"1"
    assert not other.reports("switchedToGenerator Mode")


FOREVER = """
import pathlib
from jobs import compute, wait

def generate(last):
    try:
        pathlib.Path("first " + __name__).touch(exist_ok=False)
    except FileExistsError:
        yield "from the next"
        wait(60)
    while True:
        {hold}
    yield
"""


def test_a_generate_that_holds_the_loop_for_ever_loses_its_term_and_term_ends_its_task(
    server, redis, start, tmp_path
) -> None:
    """One that waits in C and one that computes, each in a fleet of its own, at the same time."""
    (tmp_path / "jobs.py").write_text(JOBS)
    fleets = {}
    for name, hold in (("waits", "wait(60)"), ("computes", "compute(60)")):
        (tmp_path / f"{name}.py").write_text(FOREVER.format(hold=hold))
        fleets[name] = options(server, "--generate", f"{name}:generate", "--interval", "0", "--grace", "0.5",
                               "--namespace", name)  # fmt: skip
    kept: list[float] = []
    with server.monitor() as monitor:
        firsts = {name: start(*fleet) for name, fleet in fleets.items()}
        for name, fleet in fleets.items():
            wait_until((tmp_path / f"first {name}").exists)
            start(*fleet)
        for name, first in firsts.items():
            wait_until(lambda n=name: redis.hget(f"{n}:generator", "last") == b"from the next", "another one generates")
            lost = r"term 1 lost: generate held the event loop for (\d+\.\d) s at jobs\.py:\d+ \w+"
            found = wait_until(lambda f=first: re.search(lost, f.stderr), "it is said")  # noqa: B023
            assert float(found[1]) >= 10 * T, "it keeps the flag for ten heartbeats"
            times = [e.at for e in monitor.of("SET", f"{name}:generatorId", str(first.task_id))]
            kept.append(times[-1] - times[0])
            first.send(signal.SIGTERM)
        assert min(kept) <= 11 * T, "and for no longer; what disturbs makes it longer"
        for first in firsts.values():
            assert first.wait() == 75
