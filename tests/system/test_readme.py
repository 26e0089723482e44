"""The job of the README's first screen, run as a reader would paste it."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.servers import ONE_SERVER
from tests.support.processes import environment
from tests.tasks import wait_until

ROOT = Path(__file__).parents[2]


def pasted() -> str:
    """The shell's lines: the module and the command below it."""
    section = (ROOT / "README.md").read_text().split("## A job of your own", 1)[1].split("\nPress", 1)[0]
    [block] = re.findall(r"(?:^    .*\n|^\n)*^    gmonitor .*\n", section, flags=re.MULTILINE)
    return textwrap.dedent(block)


@ONE_SERVER
def test_the_job_of_the_readme_runs_as_pasted(server, redis, tmp_path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("gtask", "gmonitor"):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        (commands / name).chmod(0o755)
    env = environment({"PATH": f"{commands}:{os.environ['PATH']}", "GTASK_REDIS": server.url})
    said = tmp_path / "said"
    with said.open("wb") as output:
        monitor = subprocess.Popen(
            ["bash", "-ec", pasted().replace("gmonitor -n", "exec gmonitor -n")],
            cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: said.read_text().count("handled ") >= 3, "three seconds are handled")
        assert int(redis.hget("ticks:totals", "processed") or 0) >= 1, "at least once: acknowledged"
        assert redis.llen("ticks:errors") == 0
        monitor.send_signal(signal.SIGTERM)
        assert monitor.wait(30) == 0
    finally:
        monitor.kill()
        monitor.wait()
    last, generated = redis.hmget("ticks:generator", "last", "generated")
    seconds = re.findall(r"handled \w+ \w+ +\d+ (\d\d:\d\d:\d\d)", said.read_text())
    assert len(set(seconds)) == len(seconds) <= int(generated), "no second twice"
    assert last.isdigit()
