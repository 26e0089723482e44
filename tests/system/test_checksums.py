"""The example of the README as it stands: a real job under gmonitor, its generator killed three times."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.servers import OTHER_SERVER
from tests.tasks import wait_until

ROOT = Path(__file__).parents[2]
LIBRARY = sysconfig.get_path("stdlib")
PATIENCE = 120.0


def sha256sum(folder: str) -> dict[bytes, bytes]:
    """What coreutils says: path below `folder` -> checksum."""
    listing = subprocess.run(
        "find . \\( -name __pycache__ -o -name site-packages \\) -prune -o -type f -print0 | xargs -0 sha256sum --zero",
        shell=True, cwd=folder, capture_output=True, check=True,
    ).stdout  # fmt: skip
    return {path.removeprefix(b"./"): checksum for checksum, path in
            (line.split(b"  ", 1) for line in listing.split(b"\0") if line)}  # fmt: skip


@OTHER_SERVER
def test_every_file_once_and_equal_sums_though_the_generator_is_killed_three_times(server, redis, start, tmp_path):
    """gmonitor with 4 tasks; when three are dead, one more is started by hand: any replica will do."""
    job = ["--generate", "checksums:generate", "--handle", "checksums:handle",
           "--max-backlog", "50", "--delivery", "at-least-once"]  # fmt: skip
    env = {"GTASK_REDIS": server.tcp_url, "CHECKSUMS_ROOT": LIBRARY, "PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}",
           "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    expected = sha256sum(LIBRARY)
    command = [sys.executable, "-m", "gmonitor", "-n", "4", "--plain", "--redis", server.tcp_url, "--"]
    with (tmp_path / "events").open("wb") as events:
        monitor = subprocess.Popen(
            [*command, sys.executable, "-m", "gtask", *job], env={**os.environ, **env}, cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=events,
        )  # fmt: skip
    try:
        killed: set[int] = set()
        for share in (1, 2, 3):
            pushed = len(expected) * share // 5
            wait_until(lambda: int(redis.hget("generator", "generated") or 0) >= pushed, "a share", PATIENCE)  # noqa: B023
            # All may be pushed before the flag of the one that was killed last has expired. And a dead one says nothing
            # more, so gmonitor is to know that this one generates.
            shown = len(killed) + 1
            wait_until(lambda: (tmp_path / "events").read_text().count("is the generator") >= shown, "it says so")  # noqa: B023
            pid = wait_until(lambda: pid_of_owner(redis, killed), "another generator")
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        start(*job, env=env)  # the one task that is left generates; nobody would handle
        wait_until(lambda: int(redis.hget("generator", "generated") or 0) >= len(expected), "all pushed", PATIENCE)
        wait_until(lambda: redis.hlen("checksums") >= len(expected), "all handled", PATIENCE)
        assert len(killed) == 3
        assert redis.hget("generator", "generated") == str(len(expected)).encode()  # no gap, no repeat
        assert redis.hgetall("checksums") == expected
        assert redis.llen("errors") == 0
        monitor.send_signal(signal.SIGTERM)
        assert monitor.wait(PATIENCE) == 0
        assert (tmp_path / "events").read_text().count("is the generator") >= 3
    finally:
        monitor.kill()
        monitor.wait()


def pid_of_owner(redis, killed: set[int]) -> int | None:
    """The process of the generator, as the fleet knows it; None: there is none, or it is one of those that are dead."""
    owner = redis.get("generatorId")
    record = owner and redis.hget("tasks:members", owner)
    pid = json.loads(record)["pid"] if record else None
    return None if pid in killed else pid
