"""A recipe of examples/, run as its README says, by a shell."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, environment
from tests.tasks import wait_until

HEARTBEAT = "0.5"  # seconds: half of the default, so that what dead tasks held comes back sooner


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skips what a machine without these cannot run. Nothing is imported: only the recipe's own processes need them."""
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} from PyPI")


def commands(folder: Path) -> list[str]:
    """The lines of its README's block that a reader pastes into a shell, without the installation."""
    blocks = re.findall(r"(?:^    .*\n)+", (folder / "README.md").read_text(), flags=re.MULTILINE)
    assert len(blocks) == 1, "a recipe has one block of commands"
    return [line for line in textwrap.dedent(blocks[0]).replace("\\\n", "").splitlines() if not line.startswith("pip ")]


class Recipe:
    """The shell's last command, which goes on until it is ended, and the tasks that it has started."""

    def __init__(self, name: str, redis: Any, server: Any, home: Path, env: dict[str, str] | None = None) -> None:
        """`redis`: a client of `server`; `home`: a folder for the programs and for what they say. The namespace of the
        recipe is its name."""
        self.name = name
        self.killed: set[int] = set()  # process ids
        self._redis = redis
        self.said = home / "said"
        programs = home / "bin"
        programs.mkdir()
        for program in ("gtask", "gmonitor", "celery", "uvicorn"):
            (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {program} "$@"\n')
            (programs / program).chmod(0o755)
        *first, last = commands(ROOT / "examples" / name)
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                ["bash", "-euc", "\n".join([*first, f"exec {last}"])],
                cwd=ROOT / "examples" / name,
                env=environment({
                    "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1",
                    "GTASK_REDIS": server.tcp_url, "GTASK_HEARTBEAT": HEARTBEAT, **(env or {}),
                }),
                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip

    def key(self, name: str) -> str:
        return f"{self.name}:{name}"

    @property
    def generated(self) -> int:
        """Messages that were pushed so far."""
        return int(self._redis.hget(self.key("generator"), "generated") or 0)

    def tasks(self) -> dict[int, int]:
        """The fleet's tasks that were not killed: taskId -> process id."""
        members = self._redis.hgetall(self.key("tasks:members"))
        pids = {int(task): json.loads(member)["pid"] for task, member in members.items()}
        return {task: pid for task, pid in pids.items() if pid not in self.killed}

    def generator(self) -> int:
        """The process id of the task that generates, as soon as one does that was not killed."""
        return wait_until(lambda: self.tasks().get(int(self._redis.get(self.key("generatorId")) or 0)), "a generator")

    def handler(self) -> int:
        """The process id of a task that does not generate."""
        return next(pid for pid in self.tasks().values() if pid != self.generator())

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.killed.add(pid)

    def end(self) -> None:
        """Gracefully, as Ctrl-C does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.said.read_text()

    def close(self) -> None:
        """Whatever happened, nothing of it lives on: what gmonitor has started, in other groups, ends by itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
