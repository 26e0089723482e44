"""One look at the whole: two tasks, one generates, the other handles; and the commands as they were installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import PATIENCE, wait_until


def test_one_task_generates_and_the_other_handles(server, redis, start) -> None:
    # With the usual heartbeat a busy machine might keep the first one from renewing its flag meanwhile.
    first = start("--redis", server.url, "--interval", "20", "--heartbeat", "5")
    wait_until(first.is_generator, "the first task generates")
    second = start("--redis", server.url, "--heartbeat", "5")
    wait_until(lambda: second.total("processed") >= 3, "the second task handles")
    for task in (first, second):
        task.send(signal.SIGTERM)
    assert [task.wait() for task in (first, second)] == [0, 0]
    assert redis.get("generatorIsActive") is None


@ONE_SERVER
def test_the_installed_commands_bring_all_that_they_need(server, redis, tmp_path) -> None:
    """Outside of the repository, so that only what was packaged is found (all other tests use the repository)."""
    gtask, gmonitor = (Path(sys.executable).with_name(name) for name in ("gtask", "gmonitor"))
    if not gtask.exists():
        pytest.skip("not installed")
    ours = ("PYTHONPATH", "GTASK_", "GMONITOR_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [gmonitor, "-n", "2", "--redis", server.url, "--", gtask, "--interval", "5"]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: redis.zcard("tasks") == 2 and redis.llen("messages") > 10, "both work")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    for name in (gtask, gmonitor):
        assert subprocess.run([name, "--version"], cwd=tmp_path, env=env, check=True, capture_output=True).stdout
