"""The processes below this one: orphans stay ours, children die with us, /proc finds who is left.

All of it is Linux; elsewhere these are no-ops, and end of file on stdin is what tells the tasks.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")

try:
    _prctl: Callable[[int, Any], int] | None = ctypes.CDLL(None).prctl
except (OSError, AttributeError):
    _prctl = None


def adopt_orphans() -> None:
    """From now on grandchildren whose parent dies become our children, even after setsid."""
    if _prctl:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def rename(name: str) -> None:
    """What `ps` and `pkill` call this process (its arguments stay)."""
    if _prctl:
        _prctl(PR_SET_NAME, ctypes.create_string_buffer(name.encode()))


def dies_with_parent(parent: int, number: int = signal.SIGTERM) -> Callable[[], None]:
    """What a child runs before exec: asks for a signal when its parent's main thread is gone."""

    def before_exec() -> None:
        # A shell's `&` starts programs with INT ignored, and k must reach the task.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if _prctl:
            _prctl(PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return before_exec


def descendants(root: int) -> list[int]:
    """All living processes below `root`, zombies left out."""
    children: dict[int, list[int]] = {}
    for pid, (state, parent, _group) in processes().items():
        if state != "Z":
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def processes() -> dict[int, tuple[str, int, int]]:
    """pid -> state, parent, group of every process."""
    found = {}
    for entry in os.listdir(PROC) if PROC.is_dir() else ():
        if entry.isdigit():
            try:
                stat = (PROC / entry / "stat").read_text(errors="replace")
            except OSError:  # it is gone
                continue
            state, parent, group = stat[stat.rindex(")") + 2 :].split(None, 3)[:3]  # a name may hold anything
            found[int(entry)] = state, int(parent), int(group)
    return found


def signal_group(pid: int, *numbers: int) -> None:
    """Signals to the whole group of a child; one that is gone is no error."""
    for number in numbers:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):  # gone; or all that is left of it has changed its user
            return
