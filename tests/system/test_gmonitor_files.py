"""How many files gmonitor may have open, and its tasks."""

import re
import signal
import subprocess
import sys

from tests.system.fleets import GMONITOR, Run, plain
from tests.tasks import PATIENCE

SAYS = ("sh", "-c", "trap 'exit 0' TERM; echo may open $(ulimit -Sn) and $(ulimit -Hn) files; cat")


def limited(limits: str, *command: str) -> "subprocess.Popen[str]":
    """This command in a shell that has set these limits of open files."""
    return plain("sh", "-c", f'{limits}; exec "$@"', "sh", *command)


def test_gmonitor_takes_as_many_files_as_it_needs_and_its_tasks_get_the_limit_that_was_set() -> None:
    """60 tasks have 180 pipes."""
    with limited("ulimit -Sn 70; ulimit -Hn 1000", *GMONITOR, "-n", "60", "--", *SAYS) as process:
        assert process.stdout
        said = (re.search(r"may open (\d+) and (\d+) files", line) for line in process.stdout)
        for _ in range(60):
            assert next(filter(None, said)).groups() == ("70", "1000")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_where_not_enough_files_are_permitted_nothing_is_started() -> None:
    with limited("ulimit -n 200", *GMONITOR, "-n", "60", "--", *SAYS) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 64
    assert out == ""
    assert re.fullmatch(r"gmonitor: 60 tasks need 244 open files, and only 200 are permitted .*\n", err)


def test_a_start_that_fails_later_ends_the_other_tasks_gracefully(run: Run) -> None:
    """The limit is reached in earnest, because gmonitor counts wrong here."""
    wrong = (
        "import gmonitor.supervisor as supervisor; supervisor.FILES_EACH = supervisor.FILES_OWN = 0\n"
        "from gmonitor.__main__ import main; main()"
    )
    arguments = run.command("careful", tasks=30)[len(GMONITOR) :]
    with limited("ulimit -n 40", sys.executable, "-c", wrong, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 64
    assert re.fullmatch(r"gmonitor: cannot start task \d+ of 30: Too many open files\n", err)
    ends = re.findall(r"ended: (.*)", out)
    assert len(ends) == int(re.search(r"task (\d+) of", err)[1]) - 1  # type: ignore[index]
    assert set(ends) <= {"exit 0", "signal 15"}, "by TERM dies who is still starting; nobody was killed"
    assert (run.folder / "first").exists() and not (run.folder / "second").exists()
    assert run.left == []
