"""Real gtask processes for tests: started as users start them, their reports read by a thread."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.processes import PATIENCE, ROOT, environment, wait_until

__all__ = ["GATE", "PATIENCE", "CommandLines", "TaskProcess", "wait_until", "waits"]

KEPT = 1_000_000  # bytes
# A message is handled until the test lets it go on; one with "fail" in its name fails then.
GATE = """
import gevent, pathlib
def handle(message):
    pathlib.Path("started " + message).touch()
    while not pathlib.Path("go").exists():
        gevent.sleep(0.01)
    if "fail" in message:
        raise ValueError(message)
"""


def waits(redis) -> bool:
    """Whether a task waits for a message in Redis."""
    return any("b" in client["flags"] for client in redis.client_list())


class TaskProcess:
    """`python -m gtask …` with its stdout and stderr read to the end."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        module: str = "gtask",
    ) -> None:
        """`stdout`: where it goes instead of into `lines`; `stderr`: instead of into `errors`; `module`: what Python
        runs, if it is one that runs gtask."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env=environment(env),
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
            process_group=0,
        )
        self.pid = self.process.pid
        self.lines: list[bytes] = []  # of stdout, ends included
        self.errors: deque[bytes] = deque()  # of stderr, whose last KEPT bytes are kept
        self.error_bytes = 0  # how much it was
        self.times: list[float] = []  # when each line of stdout came, on the monotonic clock
        self._readers = [
            threading.Thread(target=read, args=(stream,), daemon=True)
            for read, stream in ((self._read, self.process.stdout), (self._drain, self.process.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.times.append(time.monotonic())
            self.lines.append(line)

    def _drain(self, stream: Any) -> None:
        kept = 0
        while data := stream.read1(KEPT // 10):
            self.error_bytes += len(data)
            self.errors.append(data)
            kept += len(data)
            while kept > KEPT:
                kept -= len(self.errors.popleft())

    def reports(self, msg: str | None = None) -> list[dict[str, Any]]:
        """The reports so far, or those of one kind."""
        parsed = [json.loads(line) for line in list(self.lines)]
        return [report for report in parsed if msg is None or report["msg"] == msg]

    def total(self, msg: str, field: str = "total") -> int:
        """The latest total of `generated` or `processed` (`errors`)."""
        reports = self.reports(msg)
        return reports[-1][field] if reports else 0

    @property
    def task_id(self) -> int:
        return wait_until(lambda: self.reports("createdTaskId"), "createdTaskId")[-1]["taskId"]

    @property
    def stderr(self) -> str:
        return b"".join(self.errors.copy()).decode(errors="replace")

    def is_generator(self) -> bool:
        """As its last report of a role says."""
        roles = [r["msg"] for r in self.reports() if r["msg"] in ("switchedToGenerator Mode", "processed")]
        return bool(roles) and roles[-1] == "switchedToGenerator Mode"

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once it has ended and all its output is read."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
        return code

    def kill(self) -> None:
        """Ends it, and what users' code started in it: whoever lives on has the pipes open, and a pipe cannot be closed
        here while a thread reads it."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        if any(reader.is_alive() for reader in self._readers):
            raise AssertionError(f"task {self.pid} has ended, and a process that it started still holds its output")
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class CommandLines:
    """Command lines of gtask that end by themselves, many in the time that one process takes to start."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "support" / "command_lines.py"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # one that has not ended, too
        self._process.communicate()

    def run(
        self, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs one, as `subprocess.run` would run `python -m gtask`."""
        assert self._process.stdin and self._process.stdout
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            call = {"arguments": arguments, "cwd": str(cwd or ROOT), "env": environment(env)}
            self._process.stdin.write(json.dumps({**call, "out": out.name, "err": err.name}) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                self.__exit__()
                self.__enter__()
                raise AssertionError(f"gtask {' '.join(arguments)} does not end: {err.read()}")
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())
