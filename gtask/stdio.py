"""What the process was started with: its standard files and its working directory.

Standard files are made whole where they are closed, and the reports are kept apart from what users' code prints. None
is ever set non-blocking, because other processes, such as the user's shell, share them.
"""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gevent.socket import wait_read

from gtask.exceptions import Unavailable
from gtask.threads import own_threads


def working_directory() -> Path:
    """The current directory. Raises Unavailable when it has been removed since the shell went there."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise Unavailable("the working directory has been removed; go to one that is there, and start again") from None


def keep_stdout_apart() -> int:
    """Returns a private descriptor of stdout, for reports, and turns stdout itself into stderr.

    So nothing that users' code, C code or child processes print can get between the reports. In forked children the
    private descriptor becomes /dev/null. Therefore only tasks have the reports' pipe open, and a monitor that waits for
    its end waits for tasks alone.
    """
    private = os.dup(1)
    os.register_at_fork(after_in_child=lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), private, inheritable=False))
    sys.stdout.flush()
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # as stderr is, which it has become
    return private


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it in a native thread, so that other greenlets can run meanwhile. Raises OSError."""
    while data:
        written = own_threads().apply(_write, (fd, data))
        if isinstance(written, OSError):
            raise written
        data = data[written:]


def _write(fd: int, data: bytes) -> int | OSError:
    """os.write, with its error returned and not raised: gevent prints a traceback for what a thread raises."""
    try:
        return os.write(fd, data)
    except OSError as error:
        return error


def watch_end_of_stdin(on_end: Callable[[], None]) -> None:
    """Calls `on_end` at the end of file on stdin, and returns. Until then only the calling greenlet waits."""
    while True:
        wait_read(0)
        try:
            if not os.read(0, 4096):
                break
        except BlockingIOError:
            continue
        except OSError:
            break
    on_end()
