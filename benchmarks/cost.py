"""`python -m benchmarks cost`: what must cost no more than it should: the death of a neighbour, an acknowledgement
beside long-running messages, a long list of failures."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

from benchmarks import machine
from benchmarks.functions import MESSAGE
from benchmarks.machine import Child, Server, gtask, wait_until
from benchmarks.proc import cpu
from benchmarks.report import Report, figure

OPTIONS = ("--delivery", "at-least-once", "--heartbeat", "0.5", "--handle", "benchmarks.functions:handle_by_name")
RARE = 100  # one failure of so many is what --match looks for


def processed(server: Server) -> int:
    """Messages that at-least-once tasks have acknowledged."""
    return int(server.client.hget("totals", "processed") or 0)


@contextmanager
def handlers(server: Server, tasks: int, concurrency: int) -> Iterator[list[Child]]:
    """Tasks that only handle: another program holds the flag."""
    server.client.flushdb()
    server.client.set("generatorIsActive", "1", ex=3600)
    with ExitStack() as stack:
        children = [
            stack.enter_context(gtask(server.url, *OPTIONS, "--concurrency", str(concurrency))) for _ in range(tasks)
        ]
        wait_until(lambda: server.client.zcard("tasks") == tasks, children[0])
        yield children


@contextmanager
def pings(server: Server) -> Iterator[list[float]]:
    """How long the server took for the answers, while the block runs; seconds."""
    times: list[float] = []
    over = Event()

    def ask() -> None:
        with server.client.client() as client:
            while not over.wait(0.002):
                began = time.perf_counter()
                client.ping()
                times.append(time.perf_counter() - began)

    thread = Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def put(server: Server, key: str, name: str, count: int, make: Callable[[int], str]) -> None:
    """Fills the list `key` in one step, from a list that is made once in the server's second database."""
    if not server.shelf.exists(name):
        for first in range(0, count, 1000):
            server.shelf.rpush(name, *(make(n) for n in range(first, min(first + 1000, count))))
    server.shelf.execute_command("COPY", name, "new", "DB", 0)
    server.client.rename("new", key)


def kill(server: Server, window: float) -> tuple[float, float]:
    """Messages a second by two tasks, and by the one that is left, from one second after the recovery on."""
    with handlers(server, 2, 100) as (victim, _):
        put(server, "messages", "half seconds", 8000, "half:{}".format)
        wait_until(lambda: processed(server) > 400)
        both = rate(server, window)
        victim.kill()
        wait_until(lambda: server.client.hget("totals", "redelivered"), timeout=30)
        time.sleep(1)
        return both, rate(server, window)


def rate(server: Server, window: float) -> float:
    """Messages a second, from now on."""
    began, before = time.monotonic(), processed(server)
    time.sleep(window)
    return (processed(server) - before) / (time.monotonic() - began)


def acknowledge(server: Server, long: int, quick: int) -> tuple[float, float, float]:
    """Quick messages beside long-running ones: messages/s, us of the server's CPU for each, longest PING in ms."""
    with handlers(server, 1, 2000) as (task,):
        for first in range(0, long, 100):
            server.client.rpush("messages", *(f"long:{n}" for n in range(first, min(first + 100, long))))
        wait_until(lambda: server.client.llen("messages") == 0, task)
        time.sleep(2)  # all of them are begun, and nothing else goes on
        with pings(server) as times:
            used, began = cpu(server.pid), time.monotonic()
            put(server, "messages", f"{quick} quick ones", quick, MESSAGE.format)
            wait_until(lambda: processed(server) == quick, task, timeout=120)
            seconds, used = time.monotonic() - began, cpu(server.pid) - used
        return quick / seconds, 1e6 * used / quick, 1000 * max(times)


def record(number: int) -> str:
    """A failure as gtask stores it."""
    error = "Rare: no" if number % RARE == 0 else "ValueError: no"
    return (
        f'{{"message": "message-{number:08d}", "error": "{error}", "taskId": 7, "at": "2026-11-25T10:00:00.000+00:00"}}'
    )


def retry(server: Server, entries: int, *arguments: str) -> tuple[float, float, float, int]:
    """`retryErrors`: seconds, CPU seconds of the server, longest PING in ms, messages put back (-1: it failed)."""
    server.client.flushdb()
    put(server, "errors", f"{entries} failures", entries, record)
    command = [sys.executable, "-m", "gtask", "--redis", server.url]
    with pings(server) as times:
        used, began = cpu(server.pid), time.monotonic()
        with Child([*command[:3], "retryErrors", *command[3:], *arguments], stdout=subprocess.PIPE) as child:
            code = child.process.wait(600)
        seconds, used = time.monotonic() - began, cpu(server.pid) - used
    return seconds, used, 1000 * max(times), -1 if code else server.client.llen("messages")


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    window, many, sizes = (2, 20_000, (20_000,)) if quick else (4, 60_000, (100_000, 300_000, 1_000_000))
    with machine.server(binary) as server:
        report = Report("cost", machine.describe(server.name))
        both, alone = kill(server, window)
        beside = [acknowledge(server, long, many) for long in (0, 1900)]
        retried = [
            (entries, how, retry(server, entries, *arguments))
            for entries in sizes
            for how, arguments in (("all", ()), ("--match Rare", ("--match", "Rare")))
        ]
    report.table(
        "kill", "Two tasks with 100 messages of 0.5 s in hand each; one is killed",
        ["", "messages/s"],
        [["both", figure(both)], ["the one that is left, from 1 s after the recovery on", figure(alone)]],
    )  # fmt: skip
    report.table(
        "acknowledge", f"{many:,} quick messages through one task (at-least-once, concurrency 2,000)",
        ["long-running messages in its hands", "messages/s", "CPU of the server for each, us", "longest PING, ms"],
        [[f"{long:,}", *map(figure, run)] for long, run in zip((0, 1900), beside, strict=True)],
    )  # fmt: skip
    report.table(
        "retry", f"retryErrors; one entry of {RARE} matches",
        ["entries", "which", "seconds", "CPU seconds of the server", "longest PING, ms", "back in the queue"],
        [[f"{entries:,}", how, *map(figure, run[:3]), "it failed" if run[3] < 0 else f"{run[3]:,}"]
         for entries, how, run in retried],
    )  # fmt: skip
    report.bar("the share of the one that is left", alone / (both / 2), 0.8, least=True)
    report.bar("beside 1,900 long-running messages: CPU of the server for each", beside[1][1] / beside[0][1], 2,
               least=False, unit=" times")  # fmt: skip
    first, last = retried[1], retried[-1]
    report.bar("retryErrors --match: seconds for an entry of the longest list, against the shortest",
               (last[2][0] / last[0]) / (first[2][0] / first[0]), 1.5, least=False, unit=" times")  # fmt: skip
    report.bar("retryErrors: longest PING", max(run[2] for _, _, run in retried), 20, least=False, unit=" ms")
    report.finish(folder)
