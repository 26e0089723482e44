"""Signals that gmonitor gets, and those that it sends."""

import signal

from tests.system.fleets import Run, plain, wait_for_line
from tests.tasks import PATIENCE


def test_two_signals_at_once_are_one(run: Run) -> None:
    """`timeout` signals its child and, in the same instant, its child's group. (The kernel merges equal ones.)"""
    with plain(*run.command("careful", tasks=1)) as process:
        wait_for_line(process, "is the generator")
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert (run.folder / "first").exists() and not (run.folder / "second").exists()
    assert run.left == []
