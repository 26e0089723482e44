"""The processes below this one: orphans stay ours, children die with us, /proc finds who is left.

All of it is Linux. Elsewhere these are no-ops, and what tells the children is the end of file on what they read. The
guards, which are to start quickly, import this module, so it imports little.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PROC = "/proc"
RUNAWAYS = 1.0  # seconds that what a process has left behind has after TERM
LAST = 5.0  # seconds after SIGKILL; what is left then waits in the kernel, and nobody can say for how long

try:
    _prctl: Callable[[int, Any], int] | None = ctypes.CDLL(None).prctl
except (OSError, AttributeError):
    _prctl = None


def adopt_orphans() -> None:
    """From now on grandchildren whose parent dies become our children, even after setsid."""
    if _prctl:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def go_on_when_parent_dies() -> None:
    """If this process is stopped when the main thread of its parent ends, it goes on."""
    if _prctl:
        _prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def rename(name: str) -> None:
    """What `ps`, `pkill` and `pkill -f` call this process from now on: its name, and in the place of its arguments."""
    if _prctl and proc_is_ours():
        _prctl(PR_SET_NAME, ctypes.create_string_buffer(name.encode()))
        # What the kernel shows as a process's arguments is the memory in which they came, whatever lies there now.
        fields = _stat("self")
        start, end = map(int, fields[45:47])  # arg_start and arg_end: numbers 48 and 49 in proc(5)
        if end - start > len(name):
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, name.encode(), len(name))


def dies_with_parent(
    parent: int, number: int = signal.SIGTERM, files: tuple[int, int] | None = None
) -> Callable[[], None]:
    """What a child runs before exec: asks for a signal when its parent's main thread is gone, and sets its soft and
    hard limits of open `files`."""

    def before_exec() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
        # A shell starts programs with `&` so that they ignore INT. The key k sends INT, and it must reach the task.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if _prctl:
            _prctl(PR_SET_PDEATHSIG, number)
            if os.getppid() != parent:  # The parent died before the line above, so no signal will come.
                os._exit(1)

    return before_exec


def proc_is_ours() -> bool:
    """Whether /proc shows the processes of our own namespace. In a namespace of process ids that has no /proc of
    its own (`unshare -pf`) the numbers in it are other processes, which must not be signalled."""
    try:
        return os.readlink(f"{PROC}/self") == str(os.getpid())
    except OSError:
        return False


def descendants(root: int) -> list[int]:
    """All living processes below `root`, zombies left out."""
    children: dict[int, list[int]] = {}
    for pid, (state, parent, _group) in table().items():
        if state != "Z":
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def table() -> dict[int, tuple[str, int, int]]:
    """pid -> state, parent, group of every process; none where /proc is not ours."""
    found = {}
    for entry in os.listdir(PROC) if proc_is_ours() else ():
        if entry.isdigit():
            try:
                state, parent, group = _stat(entry)[:3]
            except OSError:  # it is gone
                continue
            found[int(entry)] = state, int(parent), int(group)
    return found


def _stat(pid: str) -> list[str]:
    """What proc(5) says in /proc/PID/stat, from its third field on, the state. Raises OSError."""
    with open(f"{PROC}/{pid}/stat", errors="replace") as file:
        # The last parenthesis closes the name, which may hold anything.
        return file.read().rpartition(")")[2].split()


def group_lives(group: int) -> bool:
    """Whether a process of this group lives; zombies, and those of another user whom we cannot signal, do not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not proc_is_ours() or any(theirs == group and state != "Z" for state, _, theirs in table().values())


def signal_group(pid: int, *numbers: int) -> None:
    """Signals to the whole group of a child; one that is gone is no error."""
    for number in numbers:
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):  # gone; or all that is left of it has changed its user
            return


def signal_one(pid: int, number: int) -> None:
    """A signal to a process, which sees it even if it is stopped; one that is gone is no error."""
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
    except (ProcessLookupError, PermissionError):
        return
