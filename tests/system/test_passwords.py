"""No line of either program shows a password, whatever is wrong with the URL that holds it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.processes import environment
from tests.tasks import PATIENCE, CommandLines

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


@pytest.fixture(scope="module")
def gtask() -> Iterator[CommandLines]:
    with CommandLines() as lines:
        yield lines


def gmonitor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gmonitor", *arguments],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


def output(done: subprocess.CompletedProcess[str]) -> str:
    """What it wrote, to whichever stream."""
    assert done.returncode in (64, 69)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_cannot_be_used(gtask: CommandLines, url: str) -> None:
    for done in (
        gtask.run("status", env={"GTASK_REDIS": url}),
        gtask.run("--redis", url),
        gmonitor("-n", "1", "--plain", "--redis", url),
    ):
        said = output(done)
        assert "s3" not in said and "cret" not in said
        assert "redis" in said.lower()


@pytest.mark.parametrize("arguments", [["--reddis={}"], ["--reddis", "{}"], ["{}"], ["-n", "{}"]])
@pytest.mark.parametrize("program", ["gtask", "gmonitor"])
def test_a_url_where_none_belongs(gtask: CommandLines, program: str, arguments: list[str]) -> None:
    words = [word.format("redis://:s3cret@127.0.0.1:1/0") for word in arguments]
    said = output(gtask.run(*words) if program == "gtask" else gmonitor(*words))
    assert "s3" not in said and "cret" not in said
