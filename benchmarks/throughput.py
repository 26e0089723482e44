"""`python -m benchmarks throughput`: the same messages through bare loops, gtask and the peers; generating; handlers
that wait; several handler processes."""

import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine, peers
from benchmarks.functions import MESSAGE
from benchmarks.machine import Child, Server, gtask, wait_until
from benchmarks.report import Report, figure, middle

HEARTBEAT = 0.5  # seconds: twice as many beats to see as with the default
TIMEOUT = 120  # seconds for one run
AT_MOST, AT_LEAST = "gtask at-most-once", "gtask at-least-once"
BEST_PEER_BAR, BULLMQ_BAR = 50, 40


@dataclass(frozen=True)
class Case:
    """One way to move messages. `prepare`: fills its own queue; None: the list `messages` (or nothing) is filled."""

    name: str
    messages: int
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    prepare: list[str] | None = None
    backlog: bool = True


@dataclass(frozen=True)
class Run:
    """What one run gave: messages a second, CPU seconds of each side for a million messages, beats that were late."""

    rate: float
    client: float
    server: float
    late: list[float]
    held_up: int  # how often this program could not look for beats


class Beats:
    """The heartbeats of gtask processes as Redis saw them.

    The score of a task in `tasks` is the server's clock at its last beat, set by the beat itself. Looking at it more
    often than it changes gives the exact time of each beat, and costs the server 50 cheap commands a second. Where this
    program itself was held up for longer than half a heartbeat, a beat may have been missed, and nothing is concluded.
    """

    def __init__(self, server: Server) -> None:
        self._client = server.client
        self._last: dict[bytes, float] = {}
        self._looked = 0.0
        self.held_up = 0
        self.late: list[float] = []  # by how many seconds a beat came later than one heartbeat after the one before

    def look(self) -> None:
        """To be called more often than tasks beat."""
        scores: Any = self._client.zrange("tasks", 0, -1, withscores=True)
        now = time.monotonic()
        if now - self._looked > HEARTBEAT / 2:
            self.held_up += self._looked > 0
            self._last.clear()
        self._looked = now
        for task, score in scores:
            since = score - self._last.setdefault(task, score)
            if since > HEARTBEAT / 2:  # not the first beat, which follows at once after the task has joined
                self.late.append(since - HEARTBEAT)
            self._last[task] = score


def run(server: Server, case: Case, core: int | None) -> Run:
    """Runs one process until it has had all messages."""
    server.client.flushdb()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "marks"
        environ = {
            "BENCH_URL": server.url, "BENCH_MESSAGES": str(case.messages), "BENCH_RESULT": str(result),
            "BENCH_SERVER": str(server.pid), **case.environ,
        }  # fmt: skip
        if case.prepare:
            with Child(case.prepare, core=core, environ=environ) as filling:
                wait_until(lambda: filling.process.poll() is not None, timeout=TIMEOUT)
                if filling.process.returncode:
                    raise machine.Failed(f"{case.name}: {filling.said()}")
        elif case.backlog:
            fill(server, case.messages)
        beats = Beats(server)

        def over() -> bool:
            beats.look()
            return result.exists() and result.read_text().count("\n") == 2

        with Child([part.format(url=server.url) for part in case.command], core=core, environ=environ) as child:
            wait_until(over, child, TIMEOUT, pause=0.02)
        first, last = map(json.loads, result.read_text().splitlines())
    seconds = last["at"] - first["at"]
    millions = case.messages / 1e6
    used = [(last[side] - first[side]) / millions for side in ("client", "server")]
    return Run(case.messages / seconds, used[0], used[1], beats.late, beats.held_up)


def fill(server: Server, messages: int) -> None:
    """The list `messages`; and somebody else is the generator, so that gtask only handles.

    A list of each length is made once, in the server's second database.
    """
    key = f"{messages} messages"
    if not server.shelf.exists(key):
        for first in range(0, messages, 1000):
            server.shelf.rpush(key, *(MESSAGE.format(n) for n in range(first, min(first + 1000, messages))))
    server.shelf.execute_command("COPY", key, "messages", "DB", 0)
    server.client.set("generatorIsActive", "1", ex=3600)


# -- the cases


def gtask_case(name: str, messages: int, *arguments: str, handle: str = "handle_at_once", **environ: str) -> Case:
    """A gtask process with a function of ours."""
    command = [sys.executable, "-m", "gtask", "--redis", "{url}", "--heartbeat", str(HEARTBEAT)]
    command += ["--handle", f"benchmarks.functions:{handle}", *arguments]
    return Case(name, messages, command, environ)


def loop_case(name: str, loop: str, messages: int, backlog: bool = True) -> Case:
    """A bare loop (loops.py)."""
    return Case(name, messages, [sys.executable, "-m", "benchmarks.loops", loop, "{url}"], backlog=backlog)


def drains(many: int) -> list[Case]:
    """The backlog through bare loops and gtask."""
    return [
        loop_case("bare loop: LPOP messages 100", "lpop-100", many),
        loop_case("bare loop: LPOP messages 1000", "lpop-1000", many),
        loop_case("bare gevent loop: claim script, 100", "claim-100", many),
        loop_case("bare gevent loop: claim script, 1000", "claim-1000", many),
        loop_case("bare gevent loop: BLPOP one by one", "blpop", many // 40),
        gtask_case(AT_MOST, many),
        gtask_case(AT_LEAST, many, "--delivery", "at-least-once"),
    ]


def pushes(many: int) -> list[Case]:
    """Generating as fast as it goes."""
    generate = ("--generate", "benchmarks.functions:generate", "--interval", "0", "--max-backlog", "0")
    command = gtask_case("", many, *generate).command
    return [
        loop_case("bare loop: RPUSH 100 values", "rpush-100", many, backlog=False),
        loop_case("bare loop: RPUSH 1000 values", "rpush-1000", many, backlog=False),
        Case("gtask generator, --interval 0", many, command, backlog=False),
    ]


def peer_cases(found: list[peers.Peer]) -> list[Case]:
    """The other queues."""
    return [Case(p.name, p.messages, list(p.work), dict(p.environ), list(p.fill)) for p in found]


def measure(server: Server, cases: list[Case], rounds: int, core: int | None) -> dict[str, list[Run]]:
    """All cases in turn, `rounds` times: what disturbs the machine for a while disturbs all of them."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(rounds):
        for case in cases:
            progress(f"round {number + 1} of {rounds}: {case.name}")
            runs[case.name].append(run(server, case, core))
    progress("")
    return runs


def progress(text: str) -> None:
    """One line that is overwritten, for a person who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# -- several processes


def together(server: Server, processes: int, messages: int, *arguments: str, handle: str, wait: str = "0") -> float:
    """Messages a second of several handler processes that all wait when the backlog appears."""
    server.client.flushdb()
    fill(server, messages)
    server.client.rename("messages", "backlog")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        result = Path(folder) / "marks"
        environ = {
            "BENCH_MESSAGES": "0", "BENCH_LAST": MESSAGE.format(messages - 1), "BENCH_RESULT": str(result),
            "BENCH_SERVER": str(server.pid), "BENCH_WAIT": wait,
        }  # fmt: skip
        handle = f"benchmarks.functions:{handle}"
        for _ in range(processes):
            child = stack.enter_context(gtask(server.url, "--handle", handle, *arguments, environ=environ))
        wait_until(lambda: server.client.info("clients")["blocked_clients"] == processes, child)
        server.client.rename("backlog", "messages")
        began = time.perf_counter()

        def ends() -> list[float]:
            marks = map(json.loads, result.read_text().splitlines()) if result.exists() else ()
            return [mark["at"] for mark in marks if mark["mark"] == "last"]

        last: float = wait_until(ends, child, TIMEOUT, pause=0.02)[0]
        return messages / (last - began)


# -- the command


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    many = 100_000 if quick else 2_000_000
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory(prefix="gb") as node:
        found, missing = peers.installed(node)
        with machine.server(binary) as server:
            about = machine.describe(server.name)
        if any(peer.name == "BullMQ" for peer in found):
            about["packages"] += f", BullMQ {peers.version_of_bullmq(node)} on node"
        report = Report("throughput", about)
        print(*missing, sep="\n")
        # Pinned: server and client on one core, which makes ratios repeatable; this program keeps to another.
        os.sched_setaffinity(0, machine.CORES[:1])
        core = machine.CORES[-1]
        with machine.server(binary, core) as server:
            pinned = measure(server, drains(many), rounds, core)
            pinned |= measure(server, peer_cases(found), min(rounds, 3), core)
            show_backlog(report, "pinned", "server and client pinned to one core", pinned)
            pushed = measure(server, pushes(many // 2), rounds, core)
            show_pushes(report, "pinned", "server and client pinned to one core", pushed)
            waiting = measure_waiting(server, quick, core)
            show_waiting(report, waiting)
        os.sched_setaffinity(0, machine.CORES)
        with machine.server(binary) as server:
            free = measure(server, drains(many), min(rounds, 3), None)
            free |= measure(server, peer_cases(found), min(rounds, 2), None)
            show_backlog(report, "free", "the scheduler decides where they run", free)
            free_pushed = measure(server, pushes(many // 2), min(rounds, 3), None)
            show_pushes(report, "free", "the scheduler decides where they run", free_pushed)
            show_processes(report, server, quick)
        everything = [item for runs in (pinned, pushed, free, free_pushed, waiting) for item in runs.items()]
        late = [lateness for _, each in everything for r in each for lateness in r.late]
        worst = sorted(((max(r.late), str(name)) for name, each in everything for r in each if r.late), reverse=True)
        report.data["late"] = worst[:20]
        report.table(
            "beats", "The heartbeat while it is busy: how much later than T after the one before",
            ["heartbeats seen", "median, ms", "largest, ms", "times that nobody looked"],
            [[str(len(late)), figure(1000 * median(late)), figure(1000 * max(late)),
              str(sum(r.held_up for _, each in everything for r in each))]] if late else [],
            "From the tasks' scores in Redis (the server's clock at each beat), over all gtask runs above. When this "
            "program itself is held up for more than half a heartbeat, it cannot tell and does not count.",
        )  # fmt: skip
        judge(report, pinned, pushed, waiting, late)
        report.finish(folder)


def rate(runs: dict[Any, list[Run]], key: Any) -> float:
    """Median messages a second."""
    return median(each.rate for each in runs[key])


def show_backlog(report: Report, key: str, how: str, runs: dict[str, list[Run]]) -> None:
    """The table of who drains how fast."""
    base = rate(runs, "bare gevent loop: BLPOP one by one")
    best = rate(runs, AT_LEAST)
    rows = []
    for name, each in runs.items():
        middle_rate = rate(runs, name)
        rows.append([
            name, middle([r.rate for r in each]), figure(middle_rate / base), figure(best / middle_rate),
            figure(median(r.client for r in each)), figure(median(r.server for r in each)),
        ])  # fmt: skip
    report.table(
        f"backlog-{key}", f"A backlog of 16-byte messages, one process, no-op handler; {how}",
        ["", "messages/s: median (min … max)", "÷ BLPOP loop", "gtask at-least-once ÷ this",
         "client CPU, s per million", "server CPU, s per million"],
        rows,
    )  # fmt: skip
    report.data[f"backlog-{key}"] = {name: [r.rate for r in each] for name, each in runs.items()}


def show_pushes(report: Report, key: str, how: str, runs: dict[str, list[Run]]) -> None:
    """The table of generating."""
    rows = [
        [name, middle([r.rate for r in each]), figure(rate(runs, name) / rate(runs, "bare loop: RPUSH 100 values")),
         figure(median(r.client for r in each)), figure(median(r.server for r in each))]
        for name, each in runs.items()
    ]  # fmt: skip
    report.table(
        f"generate-{key}", f"Generating 16-byte messages; {how}",
        ["", "messages/s: median (min … max)", "÷ RPUSH 100", "client CPU, s per million", "server CPU, s per million"],
        rows,
    )  # fmt: skip


def measure_waiting(server: Server, quick: bool, core: int) -> dict[tuple[str, int, int], list[Run]]:
    """Handlers that wait as for I/O."""
    runs: dict[tuple[str, int, int], list[Run]] = defaultdict(list)
    for _ in range(1 if quick else 3):
        for delivery, wait, concurrency in waiting_cases():
            ideal = 1000 * concurrency / wait
            messages = int(min(max(ideal * (0.5 if quick else 1.5), 100), 10_000 if quick else 60_000))
            arguments = ("--delivery", delivery, "--concurrency", str(concurrency))
            name = f"{delivery}, {wait} ms, concurrency {concurrency}"
            case = gtask_case(name, messages, *arguments, handle="handle_waiting", BENCH_WAIT=str(wait))
            progress(name)
            runs[delivery, wait, concurrency].append(run(server, case, core))
    progress("")
    return runs


def waiting_cases() -> Iterator[tuple[str, int, int]]:
    """Delivery, milliseconds, concurrency."""
    for delivery in ("at-most-once", "at-least-once"):
        for wait in (1, 10):
            for concurrency in (1, 10, 100, 1000):
                yield delivery, wait, concurrency


def show_waiting(report: Report, runs: dict[tuple[str, int, int], list[Run]]) -> None:
    """The table of handlers that wait."""
    rows = []
    for (delivery, wait, concurrency), each in runs.items():
        ideal = 1000 * concurrency / wait
        reached = rate(runs, (delivery, wait, concurrency))
        rows.append([f"{wait} ms, concurrency {concurrency}, {delivery}", middle([r.rate for r in each]), figure(ideal),
                     f"{100 * reached / ideal:.0f} %", figure(median(r.client for r in each))])  # fmt: skip
    report.table(
        "waiting", "Handlers that wait (as I/O does), one process; server and client pinned to one core",
        ["", "messages/s: median (min … max)", "ideal", "share of the ideal", "client CPU, s per million"], rows,
        "The ideal is concurrency ÷ waiting time. Where the share is small, the core is the limit.",
    )  # fmt: skip


def show_processes(report: Report, server: Server, quick: bool) -> None:
    """The table of one, two and four handler processes."""
    many, few = (50_000, 5_000) if quick else (2_000_000, 40_000)
    rounds = 1 if quick else 3
    rows = []
    for name, messages, handle, arguments in (
        ("no-op, at-most-once", many, "handle_at_once", ()),
        ("no-op, at-least-once", many, "handle_at_once", ("--delivery", "at-least-once")),
        ("10 ms, concurrency 100, at-least-once", few, "handle_waiting",
         ("--delivery", "at-least-once", "--concurrency", "100")),
    ):  # fmt: skip
        cells = []
        for processes in (1, 2, 4):
            progress(f"{processes} processes: {name}")
            cells.append([together(server, processes, messages, *arguments, handle=handle, wait="10")
                          for _ in range(rounds)])  # fmt: skip
        rows.append([name, *map(middle, cells)])
    progress("")
    report.table(
        "processes", "Handler processes on one backlog, messages/s of all together; not pinned",
        ["", "1 process", "2 processes", "4 processes"], rows,
        f"{len(machine.CORES)} cores, the server's included: no-op handlers cannot gain more than that.",
    )  # fmt: skip


def judge(
    report: Report,
    pinned: dict[str, list[Run]],
    pushed: dict[str, list[Run]],
    waiting: dict[tuple[str, int, int], list[Run]],
    late: list[float],
) -> None:
    """The bars, all from the pinned runs."""
    most, least = rate(pinned, AT_MOST), rate(pinned, AT_LEAST)
    python = [rate(pinned, peer.name) for peer in peers.PYTHON_PEERS if peer.name in pinned]
    bull = rate(pinned, "BullMQ") if "BullMQ" in pinned else None
    generator = rate(pushed, "gtask generator, --interval 0") / rate(pushed, "bare loop: RPUSH 100 values")
    bar = report.bar
    bar("at-least-once ÷ bare gevent claim-script loop with batches of 100",
        least / rate(pinned, "bare gevent loop: claim script, 100"), 0.5, least=True)  # fmt: skip
    lpop = rate(pinned, "bare loop: LPOP messages 100")
    bar("at-most-once ÷ bare LPOP messages 100 loop", most / lpop, 0.33, least=True)
    bar("at-least-once ÷ the fastest Python peer", least / max(python) if python else None, BEST_PEER_BAR, least=True)
    bar("at-least-once ÷ BullMQ", least / bull if bull else None, BULLMQ_BAR, least=True)
    bar("generator at interval 0 ÷ bare RPUSH loop with 100 values", generator, 0.25, least=True)
    for delivery in ("at-most-once", "at-least-once"):
        share = rate(waiting, (delivery, 10, 100)) / 10_000
        bar(f"10 ms handler, concurrency 100, {delivery}: share of the ideal 10,000/s", share, 0.8, least=True)
    bar("largest delay of a heartbeat in these runs", 1000 * max(late) if late else None, 50, least=False, unit=" ms")
