"""Commands without a task."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from gtask.commands import TOGETHER, _pieces
from tests.support.processes import environment


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
