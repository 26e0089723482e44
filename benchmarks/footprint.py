"""`python -m benchmarks footprint`: start-up and memory of idle processes; what the monitor costs with many tasks."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.machine import Child, Server, gtask, wait_until
from benchmarks.proc import cpu, memory
from benchmarks.report import Report, figure, middle
from tests.support.terminal import Pty

COLUMNS, ROWS = 120, 50
BARE = "import gevent, redis; print(flush=True); import sys; sys.stdin.read()"
NOWHERE = "redis://127.0.0.1:1/0"  # talking tasks need no Redis
TALKING = str(Path(__file__).parent / "talking_task.py")


class OnTerminal(Pty):
    """A program on a terminal of its own; what it draws is read and counted."""

    def __init__(self, *command: str) -> None:
        self.seen = b""
        self.bytes = 0
        self.writes = 0
        self.began = time.perf_counter()
        super().__init__(command, COLUMNS, ROWS)
        os.close(self._slave)  # so that reading ends with the program
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._master, 1 << 16):
                self.bytes += len(data)
                self.writes += 1
                self.seen = (self.seen + data)[-100_000:]

    def end(self) -> float:
        """Presses q; the seconds until it has ended."""
        began = time.perf_counter()
        self.press("q")
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        seconds = time.perf_counter() - began
        self._reader.join()  # nothing has the terminal open any more
        os.close(self._master)
        return seconds


def gmonitor(tasks: int, *command: str, redis: str = NOWHERE) -> OnTerminal:
    """gmonitor with `tasks` tasks that run `command` (gtask when there is none)."""
    words = [sys.executable, "-m", "gmonitor", "-n", str(tasks), "--redis", redis]
    return OnTerminal(*words, *(("--", *command) if command else ()))


def starts(server: Server, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first sign of life, in turn."""
    made: dict[str, Callable[[], Child]] = {
        "bare import gevent, redis": bare,
        "gtask": lambda: gtask(server.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*made, "gmonitor"]}
    for _ in range(rounds):
        for name, make in made.items():
            began = time.perf_counter()
            with make() as child:
                child.stdout.readline()
                seconds[name].append(time.perf_counter() - began)
        monitor = gmonitor(1, redis=server.url)
        wait_until(lambda: b"generator?" in monitor.seen, pause=0.0005)  # noqa: B023
        seconds["gmonitor"].append(time.perf_counter() - monitor.began)
        monitor.end()
    return seconds


def bare() -> Child:
    """The least that any program with these libraries costs."""
    return Child([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def sizes(server: Server) -> dict[str, tuple[float, float]]:
    """Memory of idle processes in MB: resident, private."""
    idle = ("--generate", "benchmarks.functions:nothing")
    found = {}
    with bare() as plain:
        plain.stdout.readline()
        found["bare import gevent, redis"] = memory(plain.pid)
    for delivery in ("at-most-once", "at-least-once"):
        server.client.flushdb()
        arguments = ("--delivery", delivery, *idle)
        with gtask(server.url, *arguments) as generator, gtask(server.url, *arguments) as handler:
            wait_until(lambda: server.client.zcard("tasks") == 2, generator)
            time.sleep(7)  # waited once for nothing
            both = sorted([memory(generator.pid), memory(handler.pid)])
            found[f"gtask, {delivery} (the larger of generator and handler)"] = both[1]
    monitor = gmonitor(5, redis=server.url)
    time.sleep(5)
    found["gmonitor with 5 tasks"] = memory(monitor.pid)
    monitor.end()
    return found


def watching(tasks: int, seconds: float) -> list[float]:
    """gmonitor with talking tasks: share of a core, memory in MB, frames/s, kB/s drawn, seconds to end all."""
    with tempfile.TemporaryDirectory() as folder:
        monitor = gmonitor(tasks, sys.executable, "-S", TALKING, folder)
        wait_until(lambda: f"{tasks} of {tasks} tasks alive".encode() in monitor.seen, timeout=60, pause=0.05)
        time.sleep(3)
        before = (time.monotonic(), cpu(monitor.pid), monitor.bytes)
        writes = monitor.writes
        time.sleep(seconds)
        wall, used, drawn = (
            now - then for now, then in zip((time.monotonic(), cpu(monitor.pid), monitor.bytes), before, strict=True)
        )
        resident = memory(monitor.pid)[0]
        frames = (monitor.writes - writes) / wall
        return [used / wall, resident, frames, drawn / wall / 1000, monitor.end()]


def frame(tasks: int) -> float:
    """Seconds of the monitor's own code for one picture in which every total has changed."""
    from gmonitor.events import Reported, Started
    from gmonitor.fleet import Fleet
    from gmonitor.terminal import Screen, Writer
    from gmonitor.view import render
    from gtask.protocol import Processed

    os.environ.setdefault("TERM", "xterm-256color")
    fleet, times = Fleet(), []
    for pid in range(tasks):
        fleet.apply(Started(pid), 0.0)
    null = os.open(os.devnull, os.O_WRONLY)
    writer = Writer(null)
    writer.open()
    screen = Screen(writer, None, "utf-8", lambda _: None)
    screen.entered = True
    for number in range(50):
        for pid in range(tasks):
            fleet.apply(Reported(pid, (Processed(number * 7, number),)), 0.5 * number)
        began = time.perf_counter()
        screen.draw(render(fleet, COLUMNS, ROWS, "q"), (COLUMNS, ROWS))
        times.append(time.perf_counter() - began)
    os.close(null)
    return median(times)


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    with machine.server(binary) as server:
        report = Report("footprint", machine.describe(server.name))
        seconds = starts(server, 3 if quick else 15)
        memories = sizes(server)
    base = "bare import gevent, redis"
    report.table(
        "start", "From the start of the process to its first line (gtask: report; gmonitor: picture)",
        ["", "ms: median (min … max)", "÷ bare import"],
        [[name, middle([1000 * s for s in each]), figure(median(each) / median(seconds[base]))]
         for name, each in seconds.items()],
    )  # fmt: skip
    report.table(
        "memory", "Memory of idle processes",
        ["", "resident, MB", "÷ bare import", "private, MB"],
        [[name, figure(rss), figure(rss / memories[base][0]), figure(private)]
         for name, (rss, private) in memories.items()],
    )  # fmt: skip
    watched = {tasks: watching(tasks, 4 if quick else 20) for tasks in ((5, 50) if quick else (5, 50, 200))}
    report.table(
        "monitor", f"gmonitor on a terminal of {COLUMNS}x{ROWS}, tasks that report twice a second",
        ["tasks", "CPU of one core", "resident, MB", "writes/s to the terminal", "kB/s drawn", "one picture, ms",
         "q: all ended after, s"],
        [[str(tasks), f"{100 * share:.1f} %", figure(rss), figure(frames), figure(drawn),
          figure(1000 * frame(tasks)), figure(end)]
         for tasks, (share, rss, frames, drawn, end) in watched.items()],
        "One picture: its own code, when the totals of all tasks have changed.",
    )  # fmt: skip
    ratios = [rss / memories[base][0] for name, (rss, _) in memories.items() if name.startswith("gtask")]
    report.bar("idle gtask: resident memory ÷ bare import", max(ratios), 1.2, least=False)
    report.bar(
        "start to the first report ÷ bare import", median(seconds["gtask"]) / median(seconds[base]), 2, least=False
    )
    most = max(watched)
    report.bar(f"gmonitor, {most} tasks: share of one core", 100 * watched[most][0], 10, least=False, unit=" %")
    report.finish(folder)
