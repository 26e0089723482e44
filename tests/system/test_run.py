"""`gtask.run`: the program in one call, from a main of the user's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import PATIENCE, wait_until

MAIN = """
from gtask.patch import patch
patch()

import sys
import gtask

class Source:
    def __call__(self, last):
        return map(str, range(int(last or 0) + 1, 101))

def main(url):
    handled = open("handled", "a", buffering=1)
    gtask.run(Source(), lambda message: print(message, file=handled), redis=url, heartbeat=5, wait=1,
              delivery="at-least-once")

main(sys.argv[1])
"""

PATCHED = "from gtask.patch import patch; patch()\nimport gtask\n"


@pytest.fixture
def program(server, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a program of one's own that ends by itself."""

    def program(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "own.py").write_text(text)
        return subprocess.run(
            [sys.executable, "own.py", server.url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return program


@ONE_SERVER
def test_two_processes_of_ones_own_main_generate_and_handle(server, redis, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MAIN)
    command = [sys.executable, "own.py", server.url]
    processes = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        handled = tmp_path / "handled"
        wait_until(lambda: handled.exists() and len(handled.read_text().split()) == 100, "all are handled")
        assert sorted(map(int, handled.read_text().split())) == list(range(1, 101))
        assert redis.hget("generator", "generate") == b"__main__:Source"
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()


@ONE_SERVER
@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("import gtask\ngtask.run(list, print)\n", 64, "gtask: this process is not patched: "),
        (
            PATCHED + "gtask.run(list, print, backlog=5)\n",
            64,
            "gtask: there is no setting backlog; there are ",
        ),
        (PATCHED + "gtask.run(list, print, max_backlog=-1)\n", 64, "gtask: --max-backlog '-1': must be 0 or more"),
        (PATCHED + "gtask.run(list, None)\n", 64, "gtask: handle: it is no function, but of type NoneType"),
        (PATCHED + "gtask.run(lambda: 1, print)\n", 70, "gtask: generate: it is called with one argument, last"),
        (PATCHED + "gtask.run(list, print, redis='unix:///nowhere')\n", 69, "gtask: no Redis at "),
    ],
)
def test_a_mistake_is_one_line_and_a_named_exit_code(program, text: str, code: int, line: str) -> None:
    done = program(text)
    assert done.returncode == code, done
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_importing_the_package_imports_neither_gevent_nor_redis() -> None:
    program = "import gtask, sys; gtask.Config(); print(sorted({'gevent', 'redis'} & sys.modules.keys()))"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environ) == "[]\n"
