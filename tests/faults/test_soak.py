"""A fleet of three at full rate for long: nothing grows. One generates as fast as it can, one handles with at-most-once
and one with at-least-once delivery; every 1,000th message fails, because errors carry tracebacks.

It runs for a minute, or for as many seconds as SOAK_SECONDS says; `tox -e soak` lets it run for ten minutes.
"""

import os
import signal
import time
from dataclasses import dataclass, field
from statistics import median

import psutil
import pytest

from tests.faults import ONCE
from tests.servers import ONE_SERVER, Server
from tests.tasks import wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
WARM = 60.0 if SECONDS >= 300 else 20.0  # seconds until the buffers, caches and batches have the size that they need
EVERY = 1.0  # seconds between two looks
NEAR = 5  # looks whose median is a figure: one alone may fall into a batch
GROWTH = 0.05  # of the first figure, or less than so many arenas
# Python takes memory from the system in pieces of this many bytes, and keeps each of which a little is in use. One or
# two of them come by chance, at any moment of the first minute, and are 3 to 7 % of such a process. A leak takes more.
ARENA = 1 << 20
ARENAS = 3
BACKLOG = 1_000
# Three standard ones, the reports' own copy, a pipe for signals, the event loop's two, four connections. The native
# thread that stands in for a loop that is held (stand_in.py) opens its loop's two and two connections.
MOST_FILES = 12 + 4

JOBS = """
import itertools

def generate(last):
    for number in itertools.count(int(last or 0) + 1):
        yield str(number)

def handle(message):
    if message.endswith("000"):
        raise ValueError("every thousandth fails")
"""


@dataclass
class Figures:
    """What was seen of one process after the warm-up, look by look. Bytes and numbers."""

    rss: list[int] = field(default_factory=list)
    pss: list[int] = field(default_factory=list)
    uss: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)

    def look(self, process: psutil.Process) -> None:
        memory = process.memory_full_info()
        self.rss.append(memory.rss)
        self.pss.append(memory.pss)
        self.uss.append(memory.uss)
        self.fds.append(process.num_fds())


def growth(values: list[int]) -> float:
    """The last figure as a multiple of the first."""
    return median(values[-NEAR:]) / median(values[:NEAR])


def grows(values: list[int]) -> bool:
    """Whether this is more than chance."""
    first, last = median(values[:NEAR]), median(values[-NEAR:])
    return last - first >= max(GROWTH * first, ARENAS * ARENA)


def shown(values: list[int]) -> str:
    return f"{median(values[:NEAR]) / 1e6:.1f} -> {median(values[-NEAR:]) / 1e6:.1f} MB ({growth(values) - 1:+.1%})"


@ONCE
@pytest.mark.faults
@pytest.mark.serial
@pytest.mark.timeout(SECONDS + 180)
@ONE_SERVER
def test_a_fleet_at_full_rate_does_not_grow(server: Server, redis, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    options = ("--redis", server.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "0",
               "--max-backlog", str(BACKLOG))  # fmt: skip
    fleet = {"generator": start(*options)}
    wait_until(fleet["generator"].is_generator, "a generator")
    for delivery in ("at-most-once", "at-least-once"):
        fleet[delivery] = start(*options, "--delivery", delivery)
    wait_until(lambda: all(fleet[name].total("processed") for name in list(fleet)[1:]), "both handlers")

    processes = {name: psutil.Process(task.pid) for name, task in fleet.items()}
    seen = {name: Figures() for name in fleet}
    used: list[int] = []  # by the server's data and buffers
    longest = 0
    began = time.monotonic()
    while (now := time.monotonic() - began) < SECONDS:
        redis.delete("errors")  # as somebody who reads them would
        if now >= WARM:
            for name, process in processes.items():
                seen[name].look(process)
            used.append(redis.info("memory")["used_memory"])
            longest = max(longest, redis.llen("messages"))
        zombies = [p for p in psutil.Process().children(recursive=True) if p.status() == psutil.STATUS_ZOMBIE]
        assert not zombies
        time.sleep(EVERY)

    print(f"\n{SECONDS:g} s, looked at from second {WARM:g} on, {len(used)} times")
    for name, task in fleet.items():
        figures, total = seen[name], max(task.total("generated"), task.total("processed"))
        rate = f"{total:,} messages, {total / SECONDS:,.0f} a second"
        print(f"{name:>13}: RSS {shown(figures.rss)}, PSS {shown(figures.pss)}, USS {shown(figures.uss)}, "
              f"{min(figures.fds)} to {max(figures.fds)} file descriptors, {rate}")  # fmt: skip
    print(f"{'server':>13}: {shown(used)} used, at most {max(used) / 1e6:.1f} MB; at most {longest:,} messages waited")

    assert fleet["generator"].is_generator(), "the roles have not changed, so the figures are those of one role each"
    for name, figures in seen.items():
        assert not grows(figures.rss) and not grows(figures.uss), name
        assert max(figures.fds) <= MOST_FILES, name
        assert figures.fds == sorted(figures.fds) and len(set(figures.fds)) <= 3, (
            "only what the native thread opens, once"
        )
    assert max(used) < 2 * median(used), "a list of at most so many messages, whatever the rate"
    assert longest <= 2 * BACKLOG, "what waits is bounded, though handlers may give back a batch to a full queue"
    for task in fleet.values():
        task.send(signal.SIGTERM)
    for task in fleet.values():
        assert task.wait() == 0
        assert "Traceback" not in task.stderr
