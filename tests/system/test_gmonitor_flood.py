"""A child that writes 100 MB without a line end: the memory stays bounded, the picture goes on, and keys work."""

import re
import sys
from pathlib import Path

import psutil
import pytest

from tests.system.fleets import ENVIRON, GMONITOR
from tests.system.terminal import Terminal

# The first process floods until it is told to stop, with 100 MB at least; the other one is a generator.
TASKS = """
import json, os, sys, time
from pathlib import Path

folder, fd = Path(sys.argv[1]), int(sys.argv[2])

def report(**fields):
    print(json.dumps(fields), flush=True)

try:
    (folder / "flooder").mkdir()
except FileExistsError:
    report(msg="createdTaskId", taskId=7)
    report(msg="switchedToGenerator Mode")
    for total in range(1, 10_000):
        report(msg="generated", total=total)
        time.sleep(0.1)
written = 0
while written < 100_000_000 or not (folder / "stop").exists():
    written += os.write(fd, b"x" * 65536)
os.write(fd, b"\\nTHE END\\n")
time.sleep(600)
"""
MORE_MEMORY = 16 << 20  # bytes


@pytest.mark.parametrize("fd", ["1", "2"])
def test_100_mb_without_a_line_end(tmp_path: Path, fd: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    command = [*GMONITOR, "-n", "2", "--", sys.executable, str(tmp_path / "tasks.py"), str(tmp_path), fd]
    with Terminal(command, 80, 24, ENVIRON) as terminal:
        terminal.wait_for("▶.* yes ")
        memory = psutil.Process(terminal.process.pid).memory_info
        before, rss, totals = memory().rss, [0], set()

        def seen(text: str) -> int:
            rss.append(memory().rss)
            totals.update(re.findall(r"▶ +\d+ +7 +yes +(\d+)", text))
            return len(totals)

        terminal.wait_for(lambda text: seen(text) >= 5)
        terminal.press("k")
        terminal.wait_for(lambda text: seen(text) and re.search(r"× +\d+ +7 +yes +was", text))
        (tmp_path / "stop").touch()
        terminal.wait_for(lambda text: seen(text) and "THE END" in text, 120)
        print(f"\n{(max(rss) - before) / 1e6:.1f} MB more than {before / 1e6:.1f} MB")
        assert max(rss) - before < MORE_MEMORY
        terminal.press("q")
        assert terminal.wait() == 0
