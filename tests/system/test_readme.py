"""The jobs of the README's first screens, run as a reader would paste them."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.support.processes import environment
from tests.tasks import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]


def pasted(heading: str) -> str:
    """The shell's lines below that heading, from the file that they make on: what is installed is there already."""
    section = (ROOT / "README.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    [block] = re.findall(r"^    cat .*\n(?:^    .*\n|^\n)*^    gmonitor .*\n", section, flags=re.MULTILINE)
    return textwrap.dedent(block)


@pytest.fixture
def paste(server, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Pastes the lines below a heading into a shell. The file has what was said; at the end TERM ends all."""
    monitors: list[subprocess.Popen] = []

    def paste(heading: str) -> Path:
        commands = tmp_path / "bin"
        commands.mkdir()
        for name in ("gtask", "gmonitor"):
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
            (commands / name).chmod(0o755)
        env = environment({"PATH": f"{commands}:{os.environ['PATH']}", "GTASK_REDIS": server.url})
        said = tmp_path / "said"
        with said.open("wb") as output:
            monitors.append(subprocess.Popen(
                ["bash", "-ec", re.sub("^gmonitor", "exec gmonitor", pasted(heading), flags=re.MULTILINE)],
                cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            ))  # fmt: skip
        return said

    yield paste
    for monitor in monitors:
        monitor.send_signal(signal.SIGTERM)
        try:
            assert monitor.wait(PATIENCE) == 0
        finally:
            monitor.kill()
            monitor.wait()


@ONE_SERVER
def test_the_job_of_the_readme_runs_as_pasted(redis, paste) -> None:
    said = paste("A job of your own")
    wait_until(lambda: said.read_text().count("handled ") >= 3, "three seconds are handled")
    wait_until(lambda: int(redis.hget("ticks:totals", "processed") or 0) >= 1, "at least once: acknowledged")
    assert redis.llen("ticks:errors") == 0
    seconds = re.findall(r"handled \w+ \w+ +\d+ (\d\d:\d\d:\d\d)", said.read_text())
    last, generated = redis.hmget("ticks:generator", "last", "generated")
    assert len(set(seconds)) == len(seconds) <= int(generated), "no second twice"
    assert last.isdigit()


@ONE_SERVER
def test_the_crontab_of_the_readme_runs_as_pasted_and_survives_kill_9(redis, paste) -> None:
    said = paste("A crontab that survives kill -9")
    wait_until(lambda: "hello: " in said.read_text(), "the first run")
    ticks = re.findall(r"^(?:hello|report)@\S+ +\w{3} \S+ \S+ Europe/Berlin$", said.read_text(), re.MULTILINE)
    assert len(ticks) == 3, "gtask cron has printed them"
    owner = wait_until(lambda: redis.get("crontab:generatorId"), "the generator")
    os.kill(json.loads(redis.hget("crontab:tasks:members", owner))["pid"], signal.SIGKILL)
    wait_until(lambda: redis.get("crontab:generatorId") not in (None, owner), "another one generates")
    generated = redis.hget("crontab:generator", "generated")
    wait_until(lambda: redis.hget("crontab:generator", "generated") != generated, "and goes on")
    runs = said.read_text().count("hello: ")
    wait_until(lambda: said.read_text().count("hello: ") > runs, "and all the others")
    assert redis.llen("crontab:errors") == 0
