"""The servers of tests: what they executed can be seen, and they can have a clock of their own."""

import glob
import itertools
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import servers as support
from tests.support.processes import PATIENCE, wait_until

# For tests in which the kind of server makes no difference and time does: Valkey, which is always there, and, so that
# each kind gets its share of them, the other one, if it is there.
ONE_SERVER = pytest.mark.parametrize("running_server", ["valkey"], indirect=True)
OTHER_SERVER = pytest.mark.parametrize("running_server", [min(support.binaries())], indirect=True)
ONE_NEW_SERVER = pytest.mark.parametrize("new_server", ["valkey"], indirect=True)
OTHER_NEW_SERVER = pytest.mark.parametrize("new_server", [min(support.binaries())], indirect=True)


# In one step: what moves from one list to another between two looks would be seen in neither.
HOLDS_MESSAGES = """
for _, keys in ipairs({'messages*', 'inflight:*', 'tasks:long:*'}) do
  for _, key in ipairs(redis.call('KEYS', keys)) do
    if key ~= 'messages:attempts' and key ~= 'messages:suspects' then return 1 end
  end
end
return 0
"""


def holds_messages(redis) -> bool:
    """Whether any message waits, is to come again, or is in some task's hands."""
    return bool(redis.eval(HOLDS_MESSAGES, 0))


MARK = "end of what was executed"


class Server(support.Server):
    """A server that a test may watch and hold up."""

    @contextmanager
    def monitor(self) -> Iterator["Monitor"]:
        """All that the server executes meanwhile."""
        monitor = Monitor(self.socket)
        try:
            yield monitor
            monitor.catch_up()
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
        self._path = path
        self._marks = itertools.count()
        self._seen: set[str] = set()  # marks that were read
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(b"MONITOR\r\n")
        self._lines = self._socket.makefile("rb")
        assert self._lines.readline() == b"+OK\r\n"
        self._executed: list[Executed] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._lines:
            if found := re.match(r"\+([\d.]+) \[\d+ ([^]]*)\] (.*)\r\n", line.decode("utf-8", "replace")):
                at, client, rest = found.groups()
                words = tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', rest))
                if words[-1].startswith(MARK):
                    self._seen.add(words[-1])
                else:
                    self._executed.append(Executed(float(at), client == "lua", words))

    def catch_up(self) -> None:
        """Returns when all is read that the server has executed until now. It writes to a MONITOR only when it comes to
        that, so what it has answered already may be read later."""
        mark = f"{MARK} {next(self._marks)}"
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(str(self._path))
            asking.sendall(f'ECHO "{mark}"\r\n'.encode())
            assert asking.recv(1000).startswith(b"$"), "the answer to ECHO"
        wait_until(lambda: mark in self._seen, "the end of what was executed", pause=0.001)

    @property
    def history(self) -> list[Executed]:
        """All that was executed so far, or until the end of `Server.monitor`."""
        if self._reader.is_alive():
            self.catch_up()
        return list(self._executed)

    def of(self, *start: str) -> list[Executed]:
        """What was executed so far that begins with these words; the command's case does not matter."""
        head = (start[0].upper(), *start[1:])
        return [e for e in self.history if (e.words[0].upper(), *e.words[1:])[: len(head)] == head]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._lines.close()
        self._socket.close()
