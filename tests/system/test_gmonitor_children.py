"""What the tasks of a gmonitor are started with."""

import signal
import sys
import sysconfig

import pytest

from tests.servers import ONE_SERVER
from tests.system.fleets import ROOT, plain, wait_for_line
from tests.system.terminal import alive
from tests.tasks import PATIENCE, wait_until

GMONITOR = [sys.executable, "-P", "-m", "gmonitor"]  # as the installed command: nothing comes from this folder


@ONE_SERVER
def test_files_named_like_modules_of_others_in_the_current_directory_do_no_harm(server, redis, tmp_path) -> None:
    for name in ("random", "redis", "queue", "socket", "docopt", "gevent", "uuid"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not the module that was meant')\n")
    with plain(*GMONITOR, "-n", "2", "--redis", server.url, cwd=tmp_path) as process:
        wait_for_line(process, "is the generator")
        wait_until(lambda: redis.zcard("tasks") == 2, "both tasks work")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@ONE_SERVER
def test_the_users_functions_are_found_in_the_current_directory(server, redis, tmp_path) -> None:
    (tmp_path / "job.py").write_text("def handle(message):\n    open('handled ' + message, 'w').close()\n")
    redis.rpush("messages", "one")
    command = ("gtask", "--handle", "job:handle", "--redis", server.url)
    with plain(*GMONITOR, "-n", "2", "--", *command, cwd=tmp_path) as process:
        wait_until((tmp_path / "handled one").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_checkout_that_is_not_installed_starts_its_own_gtask() -> None:
    libraries = sysconfig.get_path("purelib")  # as a plain folder: there an editable installation is none
    environ = {"PYTHONPATH": libraries, "PYTHONNOUSERSITE": "1"}
    command = [sys._base_executable, "-m", "gmonitor", "-n", "1", "--", "gtask", "--version"]  # type: ignore[attr-defined]
    with plain(*command, cwd=ROOT, environ=environ) as process:
        assert wait_for_line(process, "ended: exit 0")
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("setting", "seen"), [("-uPYTHONUNBUFFERED", "1"), ("PYTHONUNBUFFERED=", "")])
def test_what_a_python_program_prints_comes_at_once(tmp_path, setting: str, seen: str) -> None:
    """It is written unbuffered, unless the user has set PYTHONUNBUFFERED otherwise."""
    (tmp_path / "program.py").write_text(
        "import os, sys\n"
        "seen = os.environ.get('PYTHONUNBUFFERED')\n"
        "print(f'PYTHONUNBUFFERED is {seen!r}')\n"
        "if seen != '': sys.stdin.read()\n"
    )
    command = ["env", setting, *GMONITOR, "-n", "1", "--", sys.executable, "program.py"]
    with plain(*command, cwd=tmp_path) as process:
        wait_for_line(process, f"PYTHONUNBUFFERED is {seen!r}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


FORKS = """
import os, pathlib, signal
def handle(message):
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: None)
    pathlib.Path("forked").write_text(str(os.getpid()))
    while True:
        signal.pause()
"""


@ONE_SERVER
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_a_handler_has_forked_is_not_waited_for_like_a_task(server, redis, tmp_path, number) -> None:
    (tmp_path / "job.py").write_text(FORKS)
    redis.rpush("messages", "one")
    command = ("gtask", "--handle", "job:handle", "--redis", server.url)
    with plain(*GMONITOR, "-n", "2", "--grace", "1000", "--", *command, cwd=tmp_path) as process:
        wait_until(lambda: (tmp_path / "forked").exists() and (tmp_path / "forked").read_text())
        forked = int((tmp_path / "forked").read_text())
        assert alive(forked)
        process.send_signal(number)
        wait_until(lambda: not alive(forked))
        process.wait(PATIENCE)
