"""What dead, paused and busy tasks had in their hands (at-least-once delivery): real processes."""

import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until

T = 0.5  # the heartbeat in seconds

# A message is a word that says what its handler does; each line of the log is "begins|handled message pid time".
JOBS = """
import ctypes, os, time

keeping_the_lock = ctypes.PyDLL(None)

def generate(last):
    return ()

log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(what, message):
    os.write(log, f"{what} {message} {os.getpid()} {time.time()}\\n".encode())

def handle(message):
    note("begins", message)
    word = message.split(":")[0]
    if word == "poison":
        os.kill(os.getpid(), 9)
    elif word == "held":
        while not os.path.exists(message):
            time.sleep(0.01)
    elif word == "busy":
        # As far as other threads can tell, it computes: Python's lock is to be had now and then.
        until = time.monotonic() + 10 * 0.5
        while time.monotonic() < until:
            keeping_the_lock.usleep(10_000)
    elif word == "short":
        time.sleep(0.05)
    note("handled", message)
"""


class Jobs:
    """Tasks on one server and what their handlers noted."""

    def __init__(self, server: Server, start: Callable[..., TaskProcess], folder: Path) -> None:
        self._server = server
        self._start = start
        self._folder = folder
        self.heartbeat = T
        (folder / "jobs.py").write_text(JOBS)

    def start(self, *options: str) -> TaskProcess:
        task = self._start(
            "--redis", self._server.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--delivery",
            "at-least-once", "--heartbeat", str(self.heartbeat), *options,
        )  # fmt: skip
        assert task.task_id
        return task

    def generator(self) -> TaskProcess:
        """One that generates nothing and handles nothing, so that others are handlers."""
        task = self.start()
        wait_until(task.is_generator, "the generator")
        return task

    def noted(self, what: str) -> list[tuple[str, int, float]]:
        """(message, pid, time) of each time that a handler began or was done."""
        path = self._folder / "log"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(message, int(pid), float(at)) for w, message, pid, at in lines if w == what]

    def times(self, what: str) -> Counter[str]:
        return Counter(message for message, _, _ in self.noted(what))

    def let_go(self, message: str) -> None:
        (self._folder / message).touch()


@pytest.fixture
def jobs(server: Server, start: Callable[..., TaskProcess], tmp_path: Path) -> Jobs:
    return Jobs(server, start, tmp_path)


def waits_in_redis(redis, task: TaskProcess) -> bool:
    return any(c["cmd"] == "blmove" and "b" in c["flags"] for c in redis.client_list()) and task.task_id > 0


def is_member(redis, task_id: int) -> bool:
    return redis.hexists("tasks:members", task_id)


def processed(redis) -> int:
    return int(redis.hget("totals", "processed") or 0)


def stop(task: TaskProcess) -> None:
    task.send(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")


@OTHER_SERVER
@pytest.mark.serial
def test_a_message_is_back_at_most_7T_after_its_holder_was_killed(redis, jobs: Jobs) -> None:
    jobs.heartbeat = 1  # twice T: what a busy machine adds counts less
    jobs.generator()
    holder = jobs.start()
    redis.rpush("messages", "held:1", "held:2", "held:3")
    wait_until(lambda: jobs.times("begins").total() == 3, "three messages in hand")
    holder.process.kill()
    killed = time.monotonic()
    beaten = redis.zscore("tasks", holder.task_id)
    wait_until(lambda: redis.llen("messages") == 3, "the messages to come back")
    seconds = time.monotonic() - killed
    print(f"\nback after {seconds / jobs.heartbeat:.1f} T")
    assert seconds <= 7 * jobs.heartbeat
    now, microseconds = redis.time()
    assert now + microseconds / 1e6 - beaten >= 5 * jobs.heartbeat, "it had been silent for less than 5T"
    assert redis.lrange("messages", 0, -1) == [b"held:1", b"held:2", b"held:3"]
    assert not redis.exists(f"inflight:{holder.task_id}")


@OTHER_SERVER
def test_a_paused_task_learns_that_it_was_reaped_and_goes_on_under_a_new_id(redis, jobs: Jobs) -> None:
    jobs.generator()
    paused, first = jobs.start(), jobs.start()
    wait_until(lambda: waits_in_redis(redis, paused), "the handlers to wait")
    redis.rpush("messages", "held:1")
    holder_pid = wait_until(lambda: jobs.noted("begins"), "a handler")[0][1]
    holder, other = (paused, first) if paused.pid == holder_pid else (first, paused)
    before = holder.task_id
    stop(holder)
    wait_until(lambda: jobs.times("begins")["held:1"] == 2, "the other one has the message")
    jobs.let_go("held:1")
    wait_until(lambda: processed(redis) == 1, "the other one has handled it")
    holder.send(signal.SIGCONT)
    wait_until(lambda: jobs.times("handled")["held:1"] == 2, "the paused one ends its work too")
    wait_until(lambda: len(holder.reports("createdTaskId")) == 2, "the new id")
    assert holder.task_id > before
    assert processed(redis) == 1, "its late acknowledgement changed nothing"
    # Twice, where the first to wait for the message that came back was another BLMOVE of the paused one.
    assert redis.hget("totals", "redelivered") in (b"1", b"2")
    other.kill()
    redis.rpush("messages", *(f"short:{n}" for n in range(20)))
    wait_until(lambda: jobs.times("handled").total() == 22, "it goes on")
    wait_until(lambda: processed(redis) == 21, "20 more acknowledgements, none for what it no longer held")
    assert redis.hget("totals", "errors") is None
    assert redis.keys("inflight:*") == redis.keys("messages") == []


def test_a_message_that_a_server_gave_to_a_task_after_it_was_reaped_is_not_forgotten(redis, jobs: Jobs) -> None:
    """The server serves the blocked BLMOVE of a task that is stopped."""
    jobs.generator()
    paused = jobs.start("--wait", "30")
    wait_until(lambda: waits_in_redis(redis, paused), "the handler to wait")
    stop(paused)
    before = paused.task_id
    wait_until(lambda: not is_member(redis, before), "it is reaped")
    redis.rpush("messages", "m")
    assert redis.lrange(f"inflight:{before}", 0, -1) == [b"m"], "the message went where nobody is"
    paused.send(signal.SIGCONT)
    wait_until(lambda: jobs.times("handled")["m"] == 1, "the message is handled")
    wait_until(lambda: processed(redis) == 1, "and acknowledged")
    assert redis.keys("inflight:*") == redis.keys("messages") == []


@ONE_SERVER
def test_the_same_when_that_task_never_comes_back(redis, jobs: Jobs) -> None:
    wait = 20  # it still waits when it has been reaped
    jobs.generator()
    paused = jobs.start("--wait", str(wait))
    wait_until(lambda: waits_in_redis(redis, paused), "the handler to wait")
    stop(paused)
    wait_until(lambda: not is_member(redis, paused.task_id), "it is reaped")
    redis.rpush("messages", "m")
    assert redis.lrange(f"inflight:{paused.task_id}", 0, -1) == [b"m"], "the message went where nobody is"
    paused.kill()
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"m"], "the next look")
    assert not redis.exists(f"inflight:{paused.task_id}")


@ONE_SERVER
def test_a_handler_that_computes_for_10T_stays_a_member_and_nothing_is_run_twice(redis, jobs: Jobs) -> None:
    jobs.generator()
    busy = jobs.start()
    redis.rpush("messages", "short:1", "short:2", "busy", "short:3", "short:4")
    wait_until(lambda: jobs.times("begins")["busy"], "the computation")
    jobs.start()
    wait_until(lambda: jobs.times("handled").total() >= 5, "all messages")
    wait_until(lambda: processed(redis) == 5, "the acknowledgements")
    times = {message: at for message, pid, at in jobs.noted("handled")}
    began = {message: at for message, pid, at in jobs.noted("begins")}
    assert times["busy"] - began["busy"] >= 10 * T
    assert set(jobs.times("begins").values()) == {1}
    assert len(busy.reports("createdTaskId")) == 1
    assert redis.hget("totals", "redelivered") is None


@OTHER_SERVER
@pytest.mark.serial
def test_a_slow_message_holds_up_neither_its_neighbours_nor_their_acknowledgement(redis, jobs: Jobs) -> None:
    jobs.generator()
    task = jobs.start("--concurrency", "3")
    redis.rpush("messages", "held:1", "held:2")
    wait_until(lambda: jobs.times("begins").total() == 2, "two slow messages")
    delays = []
    for n in range(20):
        redis.rpush("messages", f"quick:{n}")
        wait_until(lambda n=n: processed(redis) == n + 1, f"message {n} to be acknowledged")
        delays.append(time.time() - max(at for _, _, at in jobs.noted("handled")))
    print(
        f"\nacknowledged {statistics.median(delays) * 1000:.0f} ms after the handler's end, at most {max(delays):.3f} s"
    )
    assert statistics.median(delays) < 0.3
    assert redis.lrange(f"inflight:{task.task_id}", 0, -1) == [b"held:1", b"held:2"]
    # Then all workers are held up: what they have finished of the same batch is acknowledged all the same.
    redis.rpush("messages", *(f"quick:{n}" for n in range(20, 60)), "held:3")
    wait_until(lambda: jobs.times("begins")["held:3"], "no worker is free")
    wait_until(lambda: processed(redis) == 60, "the acknowledgement of what was finished before")
    for n in (1, 2, 3):
        jobs.let_go(f"held:{n}")
    wait_until(lambda: processed(redis) == 63, "the slow ones")


@ONE_SERVER
def test_what_is_not_finished_when_the_grace_is_over_goes_back(redis, jobs: Jobs) -> None:
    jobs.generator()
    task = jobs.start("--grace", "1", "--concurrency", "2")
    redis.rpush("messages", "held:1", "quick", "held:2", "short:1", "short:2")
    wait_until(lambda: jobs.times("begins").total() == 3, "two slow messages in hand")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "2 messages were not finished" in task.stderr
    assert redis.lrange("messages", 0, -1) == [b"held:1", b"held:2", b"short:1", b"short:2"]
    assert jobs.times("handled") == {"quick": 1}
    assert processed(redis) == 1
    assert redis.keys("inflight:*") == []
    assert not is_member(redis, task.task_id)


@ONE_NEW_SERVER
def test_nobody_is_taken_for_dead_because_redis_was_away(
    new_server: Callable[..., Server], start: Callable[..., TaskProcess], tmp_path: Path
) -> None:
    server = new_server("appendonly", "yes", "appendfsync", "always")
    jobs = Jobs(server, start, tmp_path)
    jobs.heartbeat = 1  # three of them have the tasks to come back
    tasks = [jobs.generator(), jobs.start(), jobs.start()]
    with server.client() as redis:
        redis.rpush("messages", "held:1", "held:2")
        wait_until(lambda: jobs.times("begins").total() == 2, "two messages in hand")
        server.kill()
        time.sleep(8 * jobs.heartbeat)  # it is the time itself that matters
        server.start()
        resumed = time.time()
        wait_until(lambda: redis.zcount("tasks", resumed + 4 * jobs.heartbeat, "+inf") == 3, "all beat for a while")
        jobs.let_go("held:1")
        jobs.let_go("held:2")
        wait_until(lambda: processed(redis) == 2, "the acknowledgements")
        assert redis.hget("totals", "redelivered") is None
    assert jobs.times("begins") == {"held:1": 1, "held:2": 1}
    assert [len(task.reports("createdTaskId")) for task in tasks] == [1, 1, 1]
