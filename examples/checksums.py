"""A real job: the SHA-256 of every file below a folder, into a Redis hash.

    export CHECKSUMS_ROOT=/usr/share GTASK_REDIS=redis://127.0.0.1:6379/0
    gmonitor -n 4 -- gtask --generate checksums:generate --handle checksums:handle \\
        --max-backlog 50 --delivery at-least-once

`generate` walks the tree in a fixed order, so it can go on after the last path that was pushed, whichever process
it runs in. `handle` may run twice for a file (at-least-once delivery) and writes the same field again.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache

import redis

SKIPPED = {"__pycache__", "site-packages"}  # what running Python changes, and what is not its own


def generate(last: str | None) -> Iterator[str]:
    """Yields every file's path, relative to CHECKSUMS_ROOT, that comes after `last`."""
    yield from walk(os.environ["CHECKSUMS_ROOT"], "", last.split("/") if last else [])


def walk(root: str, folder: str, after: list[str]) -> Iterator[str]:
    """Files below `folder`, names in order, depth first; only what comes after the path `after`."""
    first, rest = (after[0], after[1:]) if after else ("", [])
    for entry in sorted(os.scandir(os.path.join(root, folder)), key=lambda entry: entry.name):
        if entry.name < first or entry.name in SKIPPED:
            continue
        path = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(root, path, rest if entry.name == first else [])
        elif entry.is_file(follow_symlinks=False) and entry.name != first:
            yield path


def handle(path: str) -> None:
    """Stores the file's checksum; a file that cannot be read is a failed message."""
    with open(os.path.join(os.environ["CHECKSUMS_ROOT"], path), "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    results().hset("checksums", os.fsencode(path), checksum)


@cache
def results() -> redis.Redis:
    """This process's connection for results."""
    return redis.Redis.from_url(os.environ["GTASK_REDIS"])
