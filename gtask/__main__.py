"""Patches the standard library before anything else is imported, then hands over to cli; nothing else."""

import sys

from gtask.patch import patch


def main() -> None:
    """The console script `gtask`."""
    patch()
    from gtask.cli import run  # noqa: PLC0415 - imports redis, which must find its sockets patched

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
