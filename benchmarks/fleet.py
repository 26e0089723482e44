"""`python -m benchmarks fleet`: what idle tasks cost the server and themselves.

Ten tasks are ten processes; more are greenlets of four processes (many_tasks.py). One of them is the generator and
generates nothing. After all have joined, one window measures CPU and memory; a second one counts commands with MONITOR,
which itself costs the server something.
"""

import re
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.machine import Child, Server, gtask, wait_until
from benchmarks.proc import cpu, memory
from benchmarks.report import Report, figure

AS_PROCESSES = 10
HOSTS = 4  # processes that larger fleets share
MOST_SENT = 2.5  # commands a second of an idle task: one beat, one ping for its two quiet connections, and its waits
IDLE = ("--generate", "benchmarks.functions:nothing", "--handle", "benchmarks.functions:ignore")


@dataclass(frozen=True)
class Cost:
    """What a fleet costs. `sent`, `inside`: commands a second from tasks, and by their scripts; CPU in cores; memory in
    MB; `traffic`: bytes a second both ways."""

    delivery: str
    tasks: int
    processes: int
    sent: float
    inside: float
    server_cpu: float
    tasks_cpu: float
    server_memory: float
    tasks_memory: float
    connections: int
    traffic: float


def measure(server: Server, delivery: str, tasks: int, window: float) -> Cost:
    """One fleet."""
    wait_until(lambda: server.client.info("clients")["connected_clients"] == 1)  # the last fleet has gone
    server.client.flushdb()
    before = server.client.info("memory")["used_memory"]
    with ExitStack() as stack:
        children = [stack.enter_context(child) for child in start(server, delivery, tasks)]
        wait_until(lambda: server.client.zcard("tasks") == tasks, children[0], timeout=120, pause=0.1)
        time.sleep(6)  # the first waits in Redis are over
        pids = [child.pid for child in children]
        began, used = time.monotonic(), (cpu(server.pid), cpu(*pids), traffic(server))
        time.sleep(window)
        seconds = time.monotonic() - began
        server_cpu, tasks_cpu, bytes_ = (
            (now - then) / seconds
            for now, then in zip((cpu(server.pid), cpu(*pids), traffic(server)), used, strict=True)
        )
        sent, inside = commands(server, window)
        return Cost(
            delivery, tasks, len(children), sent, inside, server_cpu, tasks_cpu,
            (server.client.info("memory")["used_memory"] - before) / 2**20, sum(memory(pid)[1] for pid in pids),
            server.client.info("clients")["connected_clients"] - 1, bytes_,
        )  # fmt: skip


def start(server: Server, delivery: str, tasks: int) -> list[Child]:
    """The processes of a fleet."""
    if tasks <= AS_PROCESSES:
        return [gtask(server.url, *IDLE, "--delivery", delivery) for _ in range(tasks)]
    command = [sys.executable, "-m", "benchmarks.many_tasks", server.url, str(tasks // HOSTS), delivery]
    return [Child(command) for _ in range(HOSTS)]


def traffic(server: Server) -> int:
    """Bytes in and out of the server so far."""
    stats = server.client.info("stats")
    return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])


def commands(server: Server, window: float) -> tuple[float, float]:
    """Commands a second that clients send, and that scripts call, counted on MONITOR for `window` seconds."""
    sent = inside = 0
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(server.socket)
        monitor.sendall(b"MONITOR\r\n")
        stream = monitor.makefile("rb")
        stream.readline()  # +OK
        monitor.settimeout(window + 30)
        first = last = None
        for line in stream:
            found = re.match(rb"\+(\d+\.\d+) \[\d+ (\S+)\]", line)
            if not found:
                continue
            last = float(found[1])
            first = first or last
            if last - first >= window:
                break
            if found[2] == b"lua":
                inside += 1
            else:
                sent += 1
    return sent / window, inside / window


def main(binary: str | None, folder: Path | None, quick: bool) -> None:
    """Measures and prints all of it."""
    window, sizes = (5, (10, 100)) if quick else (10, (10, 100, 1000))
    costs = []
    with machine.server(binary) as server:
        report = Report("fleet", machine.describe(server.name))
        for delivery in ("at-most-once", "at-least-once"):
            for tasks in sizes:
                costs.append(measure(server, delivery, tasks, window))
    rows = [
        [f"{c.tasks:,} ({c.delivery})", str(c.processes), figure(c.sent), figure(c.sent / c.tasks),
         figure((c.sent + c.inside) / c.tasks), f"{100 * c.server_cpu:.1f} %", figure(c.traffic / 1000 / c.tasks),
         figure(c.connections / c.tasks), figure(1024 * c.server_memory / c.tasks)]
        for c in costs
    ]  # fmt: skip
    report.table(
        "server", "What idle tasks cost the server (heartbeat 1 s, wait 5 s)",
        ["tasks", "processes", "commands/s", "… per task", "… with those inside scripts", "CPU of one core",
         "kB/s per task", "connections per task", "memory per task, kB"],
        rows,
    )  # fmt: skip
    report.table(
        "tasks", "What they cost themselves",
        ["tasks", "processes", "CPU of one core, all together", "CPU per task", "private memory per task, MB"],
        [[f"{c.tasks:,} ({c.delivery})", str(c.processes), f"{100 * c.tasks_cpu:.1f} %",
          f"{100 * c.tasks_cpu / c.tasks:.2f} %", figure(c.tasks_memory / c.tasks)] for c in costs],
        f"More than {AS_PROCESSES} tasks are greenlets of {HOSTS} processes, each with its own connections and thread.",
    )  # fmt: skip
    largest = [cost for cost in costs if cost.tasks == max(sizes)]
    report.table(
        "reach", f"How far one server carries, from the fleets of {max(sizes):,}",
        ["", "idle tasks that would use half of the server's core", "connections that they would have"],
        [[c.delivery, figure(c.tasks * 0.5 / max(c.server_cpu, 0.001)),
          figure(c.connections * 0.5 / max(c.server_cpu, 0.001))] for c in largest],
        "In proportion, not measured.",
    )  # fmt: skip
    report.data["costs"] = [vars(cost) for cost in costs]
    for delivery in ("at-most-once", "at-least-once"):
        worst = max(cost.sent / cost.tasks for cost in costs if cost.delivery == delivery)
        report.bar(f"idle task, {delivery}: commands sent", worst, MOST_SENT, least=False, unit=" /s")
    report.finish(folder)
