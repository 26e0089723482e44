"""Commands without a task."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from gtask.commands import TOGETHER, _pieces
from tests.support.processes import PATIENCE, environment


@given(st.lists(st.integers(0, 3 * TOGETHER)))
def test_pieces_hold_all_lines_in_order_and_several_only_if_they_reach_a_pipe_together(lengths: list[int]) -> None:
    lines = [b"x" * length for length in lengths]
    pieces = list(_pieces(b"name", lines))
    assert b"".join(piece for _, piece in pieces) == b"".join(b"name: %b\n" % line for line in lines)
    assert [piece.count(b"\n") for _, piece in pieces] == [count for count, _ in pieces]
    assert all(len(piece) <= TOGETHER or count == 1 for count, piece in pieces)


def test_no_zombie_stays_though_nothing_else_reaps_children() -> None:
    script = """
from gtask.patch import patch
patch()
import os
from gtask.commands import Commands
from gtask.processes import table
Commands().run(["sh", "-c", "(sleep 0.01 &)"], name="job", message="", tick="")
print([state for state, parent, _ in table().values() if parent == os.getpid()])
"""
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, env=environment(), capture_output=True, check=True).stdout == b"[]\n"


DEAF = """
import os, subprocess, time
family = subprocess.Popen("setsid sleep 600 & touch started; exec sleep 600", shell=True, start_new_session=True)
os.write(3, b"started %d\\n" % family.pid)
time.sleep(600)
"""


def test_a_guard_that_does_nothing_is_killed_with_all_that_is_below_it(tmp_path) -> None:
    """It stands for one that cannot be woken, for instance because a debugger holds it."""
    script = f"""
from gtask.patch import patch
patch()
import os
import gevent
from gtask import commands, processes
commands._BEGIN = {DEAF!r}
commands.TERMINATES = processes.LAST = 0.1
processes.adopt_orphans()
running = commands.Commands()
run = gevent.spawn(running.run, ["sleep", "600"], name="job", message="", tick="")
while not os.path.exists("started") or len(processes.descendants(os.getpid())) < 3:
    gevent.sleep(0.01)
run.kill()
while processes.descendants(os.getpid()):
    gevent.sleep(0.01)
"""
    command = [sys.executable, "-c", script]
    subprocess.run(command, env=environment(), cwd=tmp_path, check=True, timeout=PATIENCE)
