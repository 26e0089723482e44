"""`python -m benchmarks schedule`: a task of Celery's that is due each second, while those that fire it are killed.

Three processes of a kind run, and one Celery worker, which nobody touches. Whoever fires is killed (SIGKILL) at the
same moments for each kind, and started again a little later; then all three are killed and away for a while. What the
worker ran is held against what was due.
"""

import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import Child, Server, wait_until
from benchmarks.report import Report, figure

APP = "benchmarks.peers.beat_app"
CELERY = (sys.executable, "-m", "celery", "-A", APP)
WORKER = (*CELERY, "worker", "-P", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
REDBEAT = (*CELERY, "beat", "-S", "redbeat.RedBeatScheduler", "--pidfile", "", "-l", "ERROR")
GTASK = (sys.executable, "-m", "gtask", "--redis", "{url}", "--cron", "benchmarks/peers/beat.toml",
         "--handle", f"{APP}:handle")  # fmt: skip
PROCESSES = 3
PERIOD = 1.0  # seconds, as the two schedules have it


@dataclass(frozen=True)
class Plan:
    """Seconds since the first run: when the one that fires is killed, when all are, when these are started again, and
    the end. A single one is started again `back` seconds after its death."""

    kills: tuple[float, ...]
    back: float
    all_killed: float
    all_back: float
    end: float


FULL = Plan((10, 22.3, 34.6, 46.9), 5, 60, 75, 100)  # at different moments between two ticks
QUICK = Plan((4,), 2, 8, 12, 20)


@dataclass(frozen=True)
class Run:
    """The worker ran the task: its id, who sent it, and when that was."""

    task: str
    origin: str
    at: float


@dataclass(frozen=True)
class Kind:
    """Processes of which one at a time fires. `module`: what must be installed; `holder`: its process id."""

    name: str
    module: str
    command: tuple[str, ...]
    lock: str
    holder: Callable[[Server], int]


def generator(server: Server) -> int:
    """The pid of the task that generates; 0: there is none."""
    member = server.client.hget("tasks:members", server.client.get("generatorId") or "")
    return int(json.loads(member)["pid"]) if member else 0


def last_sender(server: Server) -> int:
    """The pid of the beat that has sent the last task."""
    found = re.match(r"gen(\d+)@", runs(server)[-1].origin)
    assert found
    return int(found[1])


KINDS = (
    Kind("gtask --cron, heartbeat 1 s (flag 2 s)", "cronsim", GTASK, "", generator),
    Kind("celery beat with RedBeat, lock 10 s", "redbeat", REDBEAT, "10", last_sender),
    Kind("celery beat with RedBeat, lock 2 s", "redbeat", REDBEAT, "2", last_sender),
)


def runs(server: Server) -> list[Run]:
    """What has run so far."""
    return [Run(*json.loads(line)) for line in server.client.lrange("runs", 0, -1)]


def drill(server: Server, kind: Kind, plan: Plan) -> list[Run]:
    """What ran, from the first run on to the plan's end and one period more."""
    server.client.flushdb()
    environ = {"BENCH_URL": server.url, "BENCH_LOCK": kind.lock or "10"}
    with ExitStack() as stack:

        def start(*_: object) -> None:
            child = Child([part.format(url=server.url) for part in kind.command], environ=environ)
            running[stack.enter_context(child).pid] = child

        def kill(*pids: int) -> None:
            for pid in pids:
                running.pop(pid).kill()

        running: dict[int, Child] = {}
        worker = stack.enter_context(Child(WORKER, environ=environ))
        for _ in range(PROCESSES):
            start()
        wait_until(lambda: runs(server), worker)
        began = time.monotonic()
        steps: list[tuple[float, Callable[[], object]]] = [
            *((at, lambda: kill(kind.holder(server))) for at in plan.kills),
            *((at + plan.back, start) for at in plan.kills),
            (plan.all_killed, lambda: kill(*running)),
            *((plan.all_back, start) for _ in range(PROCESSES)),
            (plan.end + PERIOD, lambda: None),
        ]
        for at, step in sorted(steps, key=lambda step: step[0]):
            time.sleep(max(0, began + at - time.monotonic()))
            step()
        return runs(server)


@dataclass(frozen=True)
class Verdict:
    """Of one kind: how many ticks were due, were run, were missed; how many runs were one too many; seconds that one
    came after its time at most, while only the one that fires was killed, and over all."""

    due: int
    run: int
    missed: int
    doubled: int
    latest_by_kills: float
    latest: float


def judged_by_id(ran: list[Run], plan: Plan) -> Verdict:
    """For tasks whose id says their tick."""
    first = _tick(ran[0])
    inside = [run for run in ran if first <= _tick(run) < first + plan.end]
    due = round(plan.end / PERIOD)
    ticks = {run.task for run in inside}
    late = [(_tick(run) - first, run.at - _tick(run)) for run in inside]
    by_kills = max(late for at, late in late if at < plan.all_killed - PERIOD)
    return Verdict(due, len(ticks), due - len(ticks), len(inside) - len(ticks), by_kills, max(late for _, late in late))


def judged_by_time(ran: list[Run], plan: Plan) -> Verdict:
    """For tasks that do not say their tick: two within half a period are one too many, and as late as the longest
    silence was longer than a period, so late was one of them."""
    times = [run.at - ran[0].at for run in ran if run.at < ran[0].at + plan.end]
    silences = [(one, other - one) for one, other in pairwise([*times, plan.end])]
    doubled = sum(silence < PERIOD / 2 for _, silence in silences[:-1])
    due, run = round(plan.end / PERIOD), len(times) - doubled
    by_kills = max(min(silence, plan.all_killed - at) for at, silence in silences if at < plan.all_killed)
    longest = max(silence for _, silence in silences)
    return Verdict(due, run, max(0, due - run), doubled, by_kills - PERIOD, longest - PERIOD)


def _tick(run: Run) -> float:
    return datetime.fromisoformat(run.task.partition("@")[2]).timestamp()


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    plan = QUICK if quick else FULL
    with machine.server(binary) as server:
        report = Report("schedule", machine.describe(server.name))
        verdicts: dict[str, Verdict] = {}
        for kind in KINDS:
            if not (importlib.util.find_spec("celery") and importlib.util.find_spec(kind.module)):
                print(f"{kind.name}: celery or {kind.module} is not installed: skipped")
                continue
            ran = drill(server, kind, plan)
            verdicts[kind.name] = (judged_by_time if kind.lock else judged_by_id)(ran, plan)
            report.data[kind.name] = [[run.task, round(run.at, 3)] for run in ran]
    report.table(
        "drill", f"A task that is due each second for {plan.end:g} s",
        ["", "due", "run", "missed", "doubled", "largest delay by the single kills, s", "over all, s"],
        [[name, *map(str, (v.due, v.run, v.missed, v.doubled)), figure(v.latest_by_kills), figure(v.latest)]
         for name, v in verdicts.items()],
        f"Who fires is killed after {', '.join(f'{at:g}' for at in plan.kills)} s and back {plan.back:g} s later; "
        f"all three are killed after {plan.all_killed:g} s and back after {plan.all_back:g} s. RedBeat's tasks do not "
        "say which time they are for: their largest delay is the longest silence, less the second.",
    )  # fmt: skip
    if ours := verdicts.get(KINDS[0].name):
        away = plan.all_back - plan.all_killed
        report.bar("ticks missed", ours.missed, 0, least=False)
        report.bar("largest delay by the single kills", ours.latest_by_kills, 5, least=False, unit=" s")
        report.bar("over all, less the time that all were down", ours.latest - away, 5, least=False, unit=" s")
    report.finish(folder)
