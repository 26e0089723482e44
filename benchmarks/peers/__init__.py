"""The queues of this field, each with one worker process and what its documentation recommends for many short jobs.

Each module says which settings. Where there was a choice (threads or greenlets, prefetch), the fastest that we measured
was taken. `python -m benchmarks.peers MODULE COUNT` fills a queue; the peer's own worker imports the module.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable
BULLMQ = str(Path(__file__).parent / "bullmq_app.cjs")


@dataclass(frozen=True)
class Peer:
    """One queue. `messages`: how many jobs last about a second or two. `{url}` in a command is the server's."""

    name: str
    messages: int
    fill: tuple[str, ...]
    work: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()


def _python(name: str, messages: int, *work: str, **environ: str) -> Peer:
    fill = (PYTHON, "-m", "benchmarks.peers", f"{name}_app", str(messages))
    return Peer(name, messages, fill, (PYTHON, "-m", *work), tuple(environ.items()))


PYTHON_PEERS = (
    _python("rq", 1000, "rq.cli", "worker", "bench", "--worker-class", "rq.SimpleWorker", "--url", "{url}", "--quiet"),
    _python("celery", 3000, "celery", "-A", "benchmarks.peers.celery_app", "worker", "-P", "solo", "-c", "1",
            "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"),
    _python("arq", 5000, "arq", "benchmarks.peers.arq_app.WorkerSettings", "--custom-log-dict",
            "benchmarks.peers.arq_app.QUIET"),
    _python("taskiq", 5000, "taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "1",
            "--max-async-tasks", "100", "--max-prefetch", "100", "--log-level", "WARNING"),
    _python("huey", 10_000, "huey.bin.huey_consumer", "benchmarks.peers.huey_app.huey", "-w", "1", "-n", "-q"),
    _python("dramatiq", 10_000, "dramatiq", "benchmarks.peers.dramatiq_app", "--processes", "1", "--threads", "8",
            dramatiq_queue_prefetch="1000"),
)  # fmt: skip


def installed(folder: str) -> tuple[list[Peer], list[str]]:
    """The peers that can be measured here, and why the others cannot. BullMQ is installed into `folder`."""
    found, missing = [], []
    for peer in PYTHON_PEERS:
        if importlib.util.find_spec(peer.name):
            found.append(peer)
        else:
            missing.append(f"{peer.name} is not installed: skipped (pip install -e '.[benchmarks]')")
    if reason := _install_bullmq(folder):
        missing.append(f"BullMQ: skipped ({reason})")
    else:
        environ = (("NODE_PATH", f"{folder}/node_modules"),)
        messages = 20_000
        fill = ("node", BULLMQ, "fill", str(messages))
        found.append(Peer("BullMQ", messages, fill, ("node", BULLMQ, "work"), environ))
    return found, missing


def _install_bullmq(folder: str) -> str:
    """Why not; "" when it is there."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "no node or no npm"
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, "bullmq@6", "ioredis@5"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=180, cwd=folder)
    except subprocess.TimeoutExpired:
        return "npm install took too long"
    return "" if done.returncode == 0 else f"npm install failed with {done.returncode}"


def version_of_bullmq(folder: str) -> str:
    """Version of what is installed there."""
    return str(json.loads((Path(folder) / "node_modules/bullmq/package.json").read_text())["version"])
