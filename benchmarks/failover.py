"""`python -m benchmarks failover`: how long nothing is generated after the generator was killed or has ended cleanly.

Three processes of a kind run. Redis's MONITOR says, in the server's own clock, when an item was sent and (in the
item) by which process. The holder gets SIGKILL or SIGTERM at a random moment of its heartbeat; the time counts until
the first item of another process. What is left of the flag's life (or the lock's) at the kill is subtracted in
`beyond`: that part is a setting, the rest is the program's.
"""

import importlib.util
import random
import re
import signal
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.machine import Child, Server, wait_until
from benchmarks.report import Report, figure

PYTHON = sys.executable


@dataclass(frozen=True)
class Kind:
    """Processes of which one at a time sends items. `item`: finds the sender's pid in MONITOR's line; `key`: the flag
    or lock; `module`: what must be installed; `ready`: seconds until a new process stands by."""

    name: str
    module: str
    command: tuple[str, ...]
    item: str
    key: str
    ready: float
    times: int


KINDS = (
    Kind("gtask, heartbeat 1 s (flag 2 s)", "gtask",
         (PYTHON, "-m", "gtask", "--redis", "{url}", "--interval", "1", "--max-backlog", "0",
          "--generate", "benchmarks.functions:signed", "--handle", "benchmarks.functions:ignore"),
         r'"RPUSH" "messages" "from (\d+)"', "generatorIsActive", 1.0, 30),
    Kind("celery beat with RedBeat, lock 2 s", "redbeat",
         (PYTHON, "-m", "celery", "-A", "benchmarks.peers.redbeat_app", "beat", "-S", "redbeat.RedBeatScheduler",
          "--pidfile", "", "-l", "ERROR"),
         r'"LPUSH" "celery" .*gen(\d+)@', "redbeat::lock", 3.0, 10),
    Kind("python-redis-lock, 1 s", "redis_lock", (PYTHON, "-m", "benchmarks.peers.lock_app"),
         r'"RPUSH" "items" "from (\d+)"', "lock:bench", 1.0, 10),
)  # fmt: skip


class Watch(threading.Thread):
    """Reads MONITOR: who sent the last item, and when each sender's first one after a given moment came."""

    def __init__(self, server: Server, item: str) -> None:
        super().__init__(daemon=True)
        self._item = re.compile(item)
        self._monitor = server.client.monitor()
        self._monitor.__enter__()
        self.items: list[tuple[float, int]] = []
        self.start()

    def run(self) -> None:
        connection = self._monitor.connection
        while True:
            try:
                line = connection.read_response().decode(errors="replace")
            except Exception:
                return  # the server is gone
            if found := self._item.search(line.replace('\\"', '"')):
                self.items.append((float(line.split(" ", 1)[0]), int(found[1])))

    def first_of_another(self, since: float, pid: int) -> float | None:
        """The server's time of the first item after `since` that was sent by another process than `pid`."""
        return next((at for at, sender in self.items if at > since and sender != pid), None)


@dataclass(frozen=True)
class Gap:
    """Seconds from the signal to the next item, and beyond the remaining life of flag or lock."""

    total: float
    beyond: float


def measure(server: Server, kind: Kind, number: int, times: int) -> list[Gap]:
    """The gaps of `times` ends of the holder by signal `number`."""
    server.client.flushdb()
    gaps = []
    with ExitStack() as stack:

        def start() -> Child:
            command = [part.format(url=server.url) for part in kind.command]
            return stack.enter_context(Child(command, environ={"BENCH_URL": server.url}))

        watch = Watch(server, kind.item)
        running = {child.pid: child for child in (start(), start(), start())}
        time.sleep(kind.ready)
        for _ in range(times):
            time.sleep(random.uniform(0.1, 1.1))
            watch.items.clear()
            wait_until(lambda: watch.items, next(iter(running.values())))
            holder = watch.items[-1][1]
            child = running.pop(holder)
            began, _ = look(server, kind.key)
            child.process.send_signal(number)
            if number == signal.SIGKILL:
                child.process.wait()
            dead, life = look(server, kind.key)
            resumed = wait_until(lambda: watch.first_of_another(began, holder), timeout=60)  # noqa: B023
            gaps.append(Gap(resumed - began, resumed - dead - life))
            child.end()
            new = start()
            running[new.pid] = new
            if kind.ready > 1:
                time.sleep(kind.ready - 1)
    return gaps


def look(server: Server, key: str) -> tuple[float, float]:
    """The server's clock and the remaining life of a key, in seconds."""
    pipe = server.client.pipeline(transaction=True)
    pipe.time()
    pipe.pttl(key)
    (seconds, micros), life = pipe.execute()
    return seconds + micros / 1e6, max(0, life) / 1000


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    with machine.server(binary) as server:
        report = Report("failover", machine.describe(server.name))
        rows = []
        results: dict[str, dict[str, list[Gap]]] = {}
        for kind in KINDS:
            if not importlib.util.find_spec(kind.module):
                print(f"{kind.name}: {kind.module} is not installed: skipped")
                continue
            times = min(kind.times, 3) if quick else kind.times
            killed = measure(server, kind, signal.SIGKILL, times)
            ended = measure(server, kind, signal.SIGTERM, times)
            results[kind.name] = {"killed": killed, "ended": ended}
            rows.append(row(f"{kind.name}: SIGKILL", killed, with_life=True))
            rows.append(row(f"{kind.name}: clean end (SIGTERM)", ended, with_life=False))
    report.table(
        "failover", "From the signal to the next item of another process, ms",
        ["", "times", "median", "largest", "beyond the remaining life: median", "largest"], rows,
        "An item is due each 10 ms (gtask: 1 ms, RedBeat: 100 ms). gtask keeps the interval over a takeover.",
    )  # fmt: skip
    report.data = {name: {how: [[g.total, g.beyond] for g in gaps] for how, gaps in ends.items()}
                   for name, ends in results.items()}  # fmt: skip
    ours = results[KINDS[0].name]
    beyond = [1000 * gap.beyond for gap in ours["killed"]]
    report.bar(
        "takeover after SIGKILL, beyond the flag's remaining life: median", median(beyond), 50, least=False, unit=" ms"
    )
    report.bar("the same, largest", max(beyond), 150, least=False, unit=" ms")
    handover = median(1000 * gap.total for gap in ours["ended"])
    report.bar("handover after a clean end: median", handover, 100, least=False, unit=" ms")
    report.finish(folder)


def row(name: str, gaps: list[Gap], *, with_life: bool) -> list[str]:
    """A line of the table, in ms."""
    total, beyond = [1000 * gap.total for gap in gaps], [1000 * gap.beyond for gap in gaps]
    cells = [str(len(gaps)), figure(median(total)), figure(max(total))]
    return [name, *cells, *([figure(median(beyond)), figure(max(beyond))] if with_life else ["–", "–"])]
