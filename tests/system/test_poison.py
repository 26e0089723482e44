"""A message that kills its process, and all those that were only near: real processes, each death a SIGKILL."""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until

JOBS = """
import os, time

def generate(last):
    return ()

log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def handle(message):
    os.write(log, f"begins {message} {time.monotonic()}\\n".encode())
    if message == "poison":
        time.sleep(0.05)  # its neighbours are in hand by then
        os.kill(os.getpid(), 9)
    time.sleep(float(message.split(":")[0]))
    os.write(log, f"handled {message} {time.monotonic()}\\n".encode())
"""


class Fleet:
    """Handlers with a generator that only holds the flag, and what they noted."""

    def __init__(
        self, server: Server, start: Callable[..., TaskProcess], folder: Path, concurrency: int, *, heartbeat: float = 5
    ) -> None:
        """`heartbeat`: the generator's, in seconds. With a long one its flag lives for longer than it might stand still
        (without the flag it would handle), but while it is the only one alive it finds the dead late."""
        self._start = start
        self._folder = folder
        self._options = (
            "--redis", server.url, "--generate", "jobs:generate", "--handle", "jobs:handle",
            "--delivery", "at-least-once", "--wait", "1", "--concurrency", str(concurrency),
        )  # fmt: skip
        (folder / "jobs.py").write_text(JOBS)
        wait_until(self.start(heartbeat=heartbeat).is_generator, "the generator")

    def start(self, *, heartbeat: float = 0.5) -> TaskProcess:
        task = self._start(*self._options, "--heartbeat", str(heartbeat))
        assert task.task_id
        return task

    @contextmanager
    def respawning(self, tasks: int) -> Iterator[list[TaskProcess]]:
        """As a supervisor would: who has ended is started again."""
        options = (*self._options, "--heartbeat", "0.5")
        running = [self._start(*options) for _ in range(tasks)]
        over = Event()

        def respawn() -> None:
            while not over.wait(0.05):
                for i, task in enumerate(running):
                    if task.process.poll() is not None:
                        running[i] = self._start(*options)  # which may be dead before it has said anything

        thread = Thread(target=respawn)
        thread.start()
        try:
            yield running
        finally:
            over.set()
            thread.join()

    def noted(self, what: str) -> list[tuple[str, float]]:
        """(message, time) of each time that a handler began or was done."""
        path = self._folder / "log"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(message, float(at)) for w, message, at in lines if w == what]

    def times(self, what: str) -> Counter[str]:
        return Counter(message for message, _ in self.noted(what))


def processed(redis) -> int:
    return int(redis.hget("totals", "processed") or 0)


@OTHER_SERVER
@pytest.mark.parametrize(("concurrency", "deaths"), [(1, 3), (10, 5)])
def test_a_poison_is_out_after_three_deaths_of_its_own_and_nobody_else_is_blamed(
    redis, server: Server, start: Callable[..., TaskProcess], tmp_path: Path, concurrency: int, deaths: int
) -> None:
    fleet = Fleet(server, start, tmp_path, concurrency)
    innocent = [f"0.1:{n}" for n in range(12)]
    redis.rpush("messages", *innocent[:4], "poison", *innocent[4:])
    with fleet.respawning(2):
        wait_until(lambda: redis.llen("errors") and processed(redis) == 13, "the end of the poison", timeout=150)
    record = json.loads(redis.lindex("errors", 0))
    assert record["message"] == "poison"
    assert record["error"] == "killed the 3 tasks that handled it"
    assert redis.llen("errors") == 1, "nobody else is blamed"
    assert fleet.times("begins")["poison"] <= deaths
    assert set(innocent) <= set(fleet.times("handled"))
    assert redis.keys("inflight:*") == redis.keys("messages*") == redis.keys("tasks:long:*") == []


@ONE_SERVER
def test_one_poison_among_a_hundred_in_hand_is_found_and_all_others_are_handled(
    redis, server: Server, start: Callable[..., TaskProcess], tmp_path: Path
) -> None:
    fleet = Fleet(server, start, tmp_path, 100)
    innocent = [f"0.2:{n}" for n in range(100)]
    redis.rpush("messages", *innocent[:50], "poison", *innocent[50:])
    with fleet.respawning(1):
        wait_until(lambda: redis.llen("errors") and processed(redis) == 101, "the end of the poison", timeout=150)
    assert [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)] == ["poison"]
    assert fleet.times("begins")["poison"] <= 6
    assert set(innocent) <= set(fleet.times("handled"))
    assert redis.keys("inflight:*") == redis.keys("messages*") == []


@ONE_SERVER
@pytest.mark.serial
def test_after_a_sigkill_the_others_go_on_as_before(
    redis, server: Server, start: Callable[..., TaskProcess], tmp_path: Path
) -> None:
    """Two handlers with 100 messages of 0.5 s in hand each; one is killed. The other one's share was 200 a second."""
    fleet = Fleet(server, start, tmp_path, 100)
    redis.rpush("messages", *(f"0.5:{n}" for n in range(4000)))
    victim, _ = fleet.start(), fleet.start()
    wait_until(lambda: fleet.times("handled").total() > 400, "both at work")
    both = rate(fleet, time.monotonic(), 400)
    victim.send(signal.SIGKILL)
    wait_until(lambda: redis.hget("totals", "redelivered"), "the recovery")
    alone = rate(fleet, time.monotonic() + 1, 400)
    print(f"\n{both:.0f} a second by two, {alone:.0f} after the recovery by the one that is left")
    assert alone >= 0.8 * both / 2


@ONE_SERVER
@pytest.mark.serial
def test_suspects_hold_up_nobody(redis, server: Server, start: Callable[..., TaskProcess], tmp_path: Path) -> None:
    """After a second death with the same messages in hand they are tried a few at a time, beside the others."""
    fleet = Fleet(server, start, tmp_path, 100, heartbeat=1)
    redis.rpush("messages", *(f"0.25:{n}" for n in range(6000)))
    for _ in range(2):
        victim = fleet.start()
        wait_until(lambda v=victim: redis.llen(f"inflight:{v.task_id}") + redis.hlen(f"tasks:long:{v.task_id}") > 90,
                   "its hands are full")  # fmt: skip
        victim.send(signal.SIGKILL)
        wait_until(lambda v=victim: not redis.hexists("tasks:members", v.task_id), "the recovery")
    fleet.start()
    wait_until(lambda: fleet.noted("handled"), "the third is at work")
    alone = rate(fleet, time.monotonic() + 1, 1200)
    print(f"\n{alone:.0f} a second by the one that is left; {redis.llen('messages:apart')} suspects still wait")
    assert alone >= 0.7 * 400
    wait_until(lambda: not redis.exists("messages:apart"), "the suspects are handled", timeout=90)
    assert not redis.exists("errors")


def rate(fleet: Fleet, since: float, count: int) -> float:
    """Messages handled in a second, while so many are. They end by the hundred, so from one end to another is counted:
    a window of time would hold one hundred more or less."""

    def ends() -> list[float]:
        return sorted(at for _, at in fleet.noted("handled") if at >= since)

    wait_until(lambda: len(ends()) > count, "messages to be handled", pause=0.1)
    first, *_, last = ends()[: count + 1]
    return count / (last - first)
