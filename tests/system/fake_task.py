"""A program that speaks the report protocol and needs no Redis: whoever holds the lock file is the generator.

    fake_task.py FOLDER [WORD...]

Words change its ways: `stubborn` ignores TERM, INT and the end of stdin; `fast` reports twice a second;
`runaway` starts a child in a session of its own that TERM does not end, but leaves FOLDER/term; `flood`
prints without end; `nasty` prints control characters; `long` prints a line without an end; `careful` takes
a second to end, unless a second signal comes, and waits for a signal after the end of stdin, as an `orphan` only for a
moment; `foreign` becomes another user's process; `usurp` generates,
too, as soon as there is FOLDER/usurp; `fail` ends with exit 3 and a last word on stderr; `chatty` writes 50
lines to stderr with each report; `gtask` means nothing here, but tells gmonitor that this may be one.
Each process leaves a file with its pid in FOLDER/pids; FOLDER/signal is the number of the last signal that ended one.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

RUNAWAY = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: (folder / "term").touch())
(folder / "pids" / str(os.getpid())).touch()
while True: time.sleep(600)
"""

folder, words = Path(sys.argv[1]), set(sys.argv[2:])


def report(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\r\n")
    sys.stdout.flush()


def note_pid(pid: int) -> None:
    (folder / "pids").mkdir(exist_ok=True)
    (folder / "pids" / str(pid)).touch()


def next_id() -> int:
    with open(folder / "taskId", "a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        number = int(counter.read() or 0) + 1
        counter.truncate(0)
        counter.write(str(number))
    return number


def end(number: int, _frame: object) -> None:
    (folder / "signal").write_text(str(number))
    if "careful" in words:
        signal.signal(signal.SIGTERM, at_once)
        signal.signal(signal.SIGINT, at_once)
        (folder / "first").touch()
        time.sleep(1.2)
    raise SystemExit(0)


def at_once(*_: object) -> None:
    (folder / "second").touch()
    os._exit(143)


note_pid(os.getpid())
if "fail" in words:
    sys.exit(sys.stderr.write("some line\nRedis at nowhere:1 refuses: no \x1b[2Jway\n") and 3)
if "stubborn" in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
report(msg="createdTaskId", taskId=next_id())
if "runaway" in words:
    subprocess.Popen(
        [sys.executable, "-c", RUNAWAY, str(folder)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
if "nasty" in words:
    print("evil \x1b[2J\x1b]0;title\x07 \x9b31m text", flush=True)
    print("evil stderr \x1b[5;5H\x1bc", file=sys.stderr, flush=True)
if "long" in words:
    sys.stdout.write("x" * 50_000_000)
    sys.stdout.write("\n")
    sys.stdout.flush()

lock = open(folder / "lock", "a")  # noqa: SIM115  # held until the end
if "foreign" in words:
    os.setresuid(65534, 65534, 65534)
generator = False
generated = processed = errors = 0
report(msg="processed", total=0, errors=0)
while True:
    if not generator:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            generator = True
            report(msg="switchedToGenerator Mode")
        except BlockingIOError:
            if "usurp" in words and (folder / "usurp").exists():
                generator = True
                report(msg="switchedToGenerator Mode")
    if generator:
        generated += 1
        report(msg="generated", total=generated)
    else:
        processed += 2
        errors += processed % 10 == 0
        report(msg="processed", total=processed, errors=errors)
    if "chatty" in words:
        print("one more line\n" * 50, file=sys.stderr, end="", flush=True)
    if "flood" in words:
        for number in range(20_000):
            print(f"flood {number}")
        print("flood to stderr\n" * 100, file=sys.stderr)
        continue
    pause = 0.5 if "fast" in words else 0.2
    readable, _, _ = select.select([sys.stdin] if "stubborn" not in words else [], [], [], pause)
    if readable and not os.read(0, 1024):
        if "careful" in words:  # the signal comes after the end of stdin, and finds us at work
            time.sleep(0.5 if "orphan" in words else 600)
        break
    if "stubborn" in words:
        time.sleep(0)
