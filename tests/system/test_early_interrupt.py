"""Ctrl-C while a program still starts: it ends at once, and without a traceback."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fleets import ENVIRON, ROOT
from tests.tasks import PATIENCE

# Python runs a module of this name before all else: it lets Ctrl-C come when a certain module is looked for.
INTERRUPTS = """
import os, signal, sys

class Interrupts:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts)
"""


def started(folder: Path, interrupt_at: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs one of our programs until it ends."""
    (folder / "sitecustomize.py").write_text(INTERRUPTS)
    (folder / "job.py").write_text("def handle(message): pass\n")
    environ = {**ENVIRON, "PYTHONPATH": f"{folder}:{ROOT}", "INTERRUPT_AT": interrupt_at, "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, *words],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("module", "command"),
    [
        *[
            (module, command)
            for module in ("gevent", "gtask.cli", "docopt", "redis")
            for command in ([], ["getErrors"])
        ],
        ("job", []),
    ],
)
def test_gtask(tmp_path: Path, module: str, command: list[str]) -> None:
    process = started(tmp_path, module, "-m", "gtask", *command, "--handle", "job:handle")
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


@pytest.mark.parametrize("module", ["gmonitor.watchdog", "gevent", "gmonitor.cli", "docopt", "blessed", "gmonitor.app"])
def test_gmonitor(tmp_path: Path, module: str) -> None:
    process = started(tmp_path, module, "-m", "gmonitor", "-n", "1", "--", "true")
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")
