"""When gmonitor brings a Valkey of its own, and when it must not."""

import shutil
import sys
from pathlib import Path

import pytest

from gmonitor.embedded import is_wanted, place
from tests.system.fleets import GMONITOR, ROOT, needs_free_port, plain
from tests.tasks import PATIENCE

pytestmark = needs_free_port
NOWHERE = "redis://127.0.0.1:1/0"
UNSET = {"GTASK_REDIS": ""}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ((sys.executable, "-P", "-m", "gtask"), True),
        (("/usr/bin/gtask", "--interval", "0"), True),
        (("sh", "-c", "cd work && gtask --interval 0; exit $?"), True),
        (("/usr/bin/gtask", "--redis", NOWHERE), False),
        (("/usr/bin/gtask", f"--redis={NOWHERE}"), False),
        (("sh", "-c", f"exec gtask --redis {NOWHERE}"), False),
        (("env", f"GTASK_REDIS={NOWHERE}", "gtask"), False),
        (("cat",), False),
        (("/home/gtask/worker", "--of", "gtasks"), False),
    ],
)
def test_only_a_gtask_that_is_told_of_no_redis_wants_one(command: tuple[str, ...], wanted: bool) -> None:
    assert is_wanted(command) is wanted


@pytest.mark.parametrize(
    ("command", "told", "shown"),
    [
        (("gtask",), "redis://me:secret@db:7000/1", "redis://***@db:7000/1"),
        (("gtask",), None, "redis://127.0.0.1:6379/0"),
        (("gtask", "--redis", NOWHERE), "redis://db:7000", ""),
        (("worker",), "redis://db:7000", "redis://db:7000"),
        (("worker",), None, ""),
    ],
)
def test_the_title_names_the_redis_of_the_tasks_if_it_is_known(
    command: tuple[str, ...], told: str | None, shown: str
) -> None:
    assert place(command, told) == shown


@pytest.mark.parametrize("command", [("gtask", "--redis", NOWHERE), ("sh", "-c", "echo hello")])
def test_no_server_is_started_that_nobody_uses(command: tuple[str, ...]) -> None:
    with plain(*GMONITOR, "-n", "1", "--", *command, environ=UNSET) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert "embedded" not in out
    assert f"{NOWHERE}" in out or "hello" in out


def test_the_redis_of_gtasks_config_is_respected(tmp_path: Path) -> None:
    """ "Set it in the config module" is one of the three spellings."""
    for package in ("gtask", "gmonitor"):
        shutil.copytree(Path(ROOT, package), tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "gtask" / "config.py"
    before = module.read_text()
    after = before.replace("redis://127.0.0.1:6379/0", NOWHERE)
    assert after != before
    module.write_text(after)
    with plain(*GMONITOR, "-n", "1", environ={**UNSET, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 69
    assert "embedded" not in out
    assert f"no Redis at {NOWHERE}" in out
