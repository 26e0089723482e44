"""A task for the monitor that only talks: its totals twice a second, as a busy gtask does. The first one of a folder is
the generator.

    python -S talking_task.py FOLDER
"""

import json
import os
import select
import sys
import time

INTERVAL = 0.5


def report(**fields: object) -> None:
    """One report."""
    os.write(1, json.dumps(fields).encode() + b"\r\n")


def main(folder: str) -> None:
    """Until the end of stdin."""
    report(msg="createdTaskId", taskId=os.getpid())
    try:
        os.close(os.open(f"{folder}/generator", os.O_CREAT | os.O_EXCL))
        generates = True
        report(msg="switchedToGenerator Mode")
    except FileExistsError:
        generates = False
    total, due = 0, time.monotonic()
    while True:
        total += 7
        if generates:
            report(msg="generated", total=total)
        else:
            report(msg="processed", total=total, errors=total // 10)
        due += INTERVAL
        readable, _, _ = select.select([0], [], [], max(0, due - time.monotonic()))
        if readable and not os.read(0, 1024):
            return


if __name__ == "__main__":
    main(sys.argv[1])
