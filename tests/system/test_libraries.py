"""What docs/functions.md says of libraries, for those that are light enough to be installed with the tests."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.servers import ONE_SERVER
from tests.support import web
from tests.tasks import PATIENCE, wait_until

pytestmark = ONE_SERVER

AT_ONCE = 10

CALLS = {
    "requests": "import requests\ndef get(url): requests.get(url).raise_for_status()\n",
    "httpx": "import httpx\ndef get(url): httpx.get(url, timeout=60).raise_for_status()\n",
    "httpx.AsyncClient": (
        "import httpx\n"
        "async def get(url):\n"
        "    async with httpx.AsyncClient(timeout=60) as client: (await client.get(url)).raise_for_status()\n"
    ),
    "aiohttp": (
        "import aiohttp\n"
        "async def get(url):\n"
        "    async with aiohttp.ClientSession() as session, session.get(url) as response: response.raise_for_status()\n"
    ),
    "asyncio.to_thread": (
        "import asyncio, requests\n"
        "session = requests.Session()\n"
        "async def get(url): (await asyncio.to_thread(session.get, url)).raise_for_status()\n"
    ),
    "urllib3": (
        "import urllib3\npool = urllib3.PoolManager()\ndef get(url): assert pool.request('GET', url).status == 200\n"
    ),
    "urllib": "import urllib.request\ndef get(url): urllib.request.urlopen(url).read()\n",
    "subprocess": (
        "import subprocess, sys\n"
        "def get(url): subprocess.run([sys.executable, '-c', "
        "'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])', url], check=True)\n"
    ),
    "ThreadPoolExecutor": (
        "import concurrent.futures, urllib.request\n"
        "executor = concurrent.futures.ThreadPoolExecutor(10)\n"
        "def get(url): executor.submit(urllib.request.urlopen, url).result()\n"
    ),
}


@pytest.fixture
def meeting() -> Iterator[str]:
    """The URL of a server that answers nobody before ten requests are there, all at the same time."""
    everybody = threading.Barrier(AT_ONCE)

    class Answer(web.Handler):
        protocol_version = "HTTP/1.0"  # each request has a connection of its own

        def do_GET(self) -> None:
            try:
                everybody.wait(PATIENCE)
                self.answer(200)
            except threading.BrokenBarrierError:
                self.answer(503)

    with web.serve(Answer, "localhost") as url:
        yield url
        everybody.abort()


@pytest.mark.parametrize("library", CALLS)
def test_ten_calls_run_at_once(server, redis, start, tmp_path, meeting: str, library: str) -> None:
    (tmp_path / "job.py").write_text(CALLS[library])
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", *[meeting] * AT_ONCE * 2)
    clean = {"http_proxy": "", "HTTP_PROXY": "", "no_proxy": "localhost"}
    task = start("--redis", server.url, "--handle", "job:get", "--concurrency", str(AT_ONCE), env=clean)
    wait_until(lambda: task.total("processed") == AT_ONCE * 2)
    assert task.total("processed", "errors") == 0, redis.lrange("errors", 0, 0)


def test_coverage_measures_a_task_that_leaves_by_exit(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text("def handle(message):\n    if message == '':\n        return 1\n    return 2\n")
    settings = "[run]\npatch = _exit\nconcurrency = gevent\ninclude = job.py\n"
    (tmp_path / ".coveragerc").write_text(settings)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "m")
    task = start("run", "-m", "gtask", "--redis", server.url, "--handle", "job:handle", module="coverage")
    wait_until(lambda: task.total("processed") == 1)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "report", "-m"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "job.py" in report.stdout and report.stdout.splitlines()[2].split()[-2:] == ["75%", "3"]
