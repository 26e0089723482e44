"""No line of either program shows a password, whatever is wrong with the URL that holds it."""

import subprocess
import sys

import pytest

from tests.support.processes import environment
from tests.tasks import PATIENCE

URLS = [
    "redis://:s3/cret@127.0.0.1:1/0",
    "redis://:s3@cret@127.0.0.1:1/0",
    "redis://:s3cret@127.0.0.1:port/0",
    "redis://:s3cret@127.0.0.1:1/zero",
    "redis://127.0.0.1:1/0?password=s3cret",
    "redis://127.0.0.1:1/0?s3cret=1",
    "rediss://127.0.0.1:1/0?ssl_cert_reqs=none;password=s3cret",
    "redis:/:s3cret@h",
    "http://:s3cret@h",
]


def run(program: str, *arguments: str, **more: str) -> str:
    """What it writes, to whichever stream."""
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        env=environment(more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode in (64, 69)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_cannot_be_used(url: str) -> None:
    outputs = [
        run("gtask", "status", GTASK_REDIS=url),
        run("gtask", "--redis", url),
        run("gmonitor", "-n", "1", "--plain", "--redis", url),
    ]
    for output in outputs:
        assert "s3" not in output and "cret" not in output
        assert "redis" in output.lower()


@pytest.mark.parametrize("arguments", [["--reddis={}"], ["--reddis", "{}"], ["{}"], ["-n", "{}"]])
@pytest.mark.parametrize("program", ["gtask", "gmonitor"])
def test_a_url_where_none_belongs(program: str, arguments: list[str]) -> None:
    output = run(program, *(word.format("redis://:s3cret@127.0.0.1:1/0") for word in arguments))
    assert "s3" not in output and "cret" not in output
