"""The entry point: what must come before monkey-patching, the patching, and then cli."""

import os
import signal
import sys

from gtask.exceptions import EXIT_READER_GONE
from gtask.patch import end_at_interrupt, ensure_standard_files, patch


def main() -> None:
    """Runs gmonitor and exits."""
    end_at_interrupt()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a TERM that our starter has blocked would be so for the tasks too
    ensure_standard_files()
    from gmonitor.watchdog import Guard  # noqa: PLC0415

    guard = Guard.fork()  # before there is an event loop that it would share

    patch()
    from gmonitor.cli import run  # noqa: PLC0415

    try:
        code = run(sys.argv[1:], os.environ, guard)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = EXIT_READER_GONE
    guard.dismiss()
    sys.exit(code)


if __name__ == "__main__":
    main()
