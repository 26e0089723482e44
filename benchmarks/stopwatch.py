"""Runs inside what is measured: notes the clock and the CPU seconds at the first and at the last message.

It is told through the environment: BENCH_MESSAGES, how many messages come; BENCH_RESULT, a file that gets one JSON line
for each mark; BENCH_SERVER, the server's pid. Where several processes share the messages, the one that gets the last of
them makes the mark (BENCH_LAST, that message).
"""

import json
import os
import time
from collections.abc import Callable
from itertools import count

from benchmarks.proc import cpu, cpu_of_group

GROUP = os.getpgid(0)


def mark(name: str) -> None:
    """Notes this moment."""
    if name == "first":
        used, at = (cpu_of_group(GROUP), cpu(int(os.environ["BENCH_SERVER"]))), time.perf_counter()
    else:
        at, used = time.perf_counter(), (cpu_of_group(GROUP), cpu(int(os.environ["BENCH_SERVER"])))
    line = json.dumps({"mark": name, "at": at, "client": used[0], "server": used[1]}) + "\n"
    file = os.open(os.environ["BENCH_RESULT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def make_lap() -> Callable[..., None]:
    """A function to be called once for each message; it costs about 0.1 us. Threads may share it."""
    numbers = count(1)
    expected = int(os.environ.get("BENCH_MESSAGES", "0"))
    last = os.environ.get("BENCH_LAST")

    def lap(message: str = "") -> None:
        number = next(numbers)
        if number == 1:
            mark("first")
        if number == expected or message == last:
            mark("last")

    return lap


lap = make_lap()
