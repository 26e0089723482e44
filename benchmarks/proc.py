"""What /proc says about processes. Imports little: it also runs inside what is measured."""

import os
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu(*pids: int) -> float:
    """CPU seconds (user and system) that these processes have used so far."""
    return sum(_stat(pid)[1] for pid in pids)


def cpu_of_group(group: int) -> float:
    """CPU seconds of all living processes of a process group, and of their ended children."""
    seconds = 0.0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            its_group, used = _stat(int(pid))
            seconds += used if its_group == group else 0
    return seconds


def _stat(pid: int) -> tuple[int, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[2]), sum(map(int, fields[11:15])) / TICK


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process in MB, and its private part (what one process more costs)."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name] = int(size) / 1024
    return sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]
