"""docs/deployment.md: its command lines are understood, and its supervisors wait for as long as it says."""

import re
import shlex
from pathlib import Path

from gtask.cli import USAGE
from gtask.config import Config, read

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text()


def block(language: str) -> str:
    [text] = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(text)


def settings(words: list[str]) -> Config:
    return Config.load(read("gtask", USAGE, words), {})


def test_systemd_waits_for_longer_than_the_grace() -> None:
    unit = dict(line.split("=", 1) for line in block("ini").splitlines() if "=" in line)
    program, *words = shlex.split(unit["ExecStart"])
    assert program.endswith("/gtask")
    assert float(unit["TimeoutStopSec"]) >= settings(words).grace + 10


def test_kubernetes_waits_for_longer_than_the_grace_and_runs_more_than_one() -> None:
    manifest = block("yaml")
    task, probe = re.findall(r'command: \["sh", "-c", "(.*)"\]', manifest)
    exec_, program, *words, redirection = shlex.split(task)
    assert (exec_, program, redirection) == ("exec", "gtask", ">/dev/null")
    [period] = re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest)
    assert float(period) >= settings(words).grace + 10
    assert int(re.findall(r"replicas: (\d+)", manifest)[0]) >= 2
    [status] = re.findall(r"\$\(gtask (status .*?)\)", probe)
    assert read("gtask", USAGE, status.split())["status"]
    assert settings(status.split()).namespace == settings(words).namespace, "the fleet that it asks about is this one"
