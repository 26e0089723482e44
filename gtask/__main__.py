"""Patches the standard library before anything else is imported, then hands over to cli; nothing else."""

import gc
import sys

from gtask.patch import end_at_interrupt, patch


def main() -> None:
    """The console script `gtask`."""
    end_at_interrupt()
    gc.disable()  # while we import: nothing of that is garbage, and looking for some takes 7 % of our start
    patch()
    # These import redis, which must find its sockets patched.
    from gtask.cli import run  # noqa: PLC0415
    from gtask.leaving import leave  # noqa: PLC0415

    gc.enable()
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    # Where `python -m` was asked to put the current directory first, a user's queue.py would be ours: not before we
    # have imported all that we need.
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
