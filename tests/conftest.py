"""Fixtures that all tests share: real servers (each test runs on every server that is here) and real tasks."""

import faulthandler
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import Clock, Server
from tests.support.servers import binaries
from tests.tasks import TaskProcess

# An example that takes long says nothing about the program, nor does one that takes long to be made.
settings.register_profile("slow machines", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slow machines")

BINARIES = binaries()
if os.environ.get("CI") and "redis" not in BINARIES:
    raise RuntimeError("CI runs the tests on Debian's redis-server too; install it")


def pytest_configure() -> None:
    """Under nohup the tests ignore SIGHUP, and what they start would inherit that. A handler is not inherited."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The tests run in two parts, and one of them may be empty: `tox -- tests/unit` has nothing to measure."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.option.markexpr:
        session.exitstatus = pytest.ExitCode.OK


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """A test that has failed must not hang while it is cleaned up. pytest stops its clocks as soon as a test fails, in
    case somebody debugs it; where nobody does, this starts the last of them again. It ends with the test."""
    seconds = float(node.config.getini("faulthandler_timeout"))
    if seconds and isinstance(node, pytest.Item) and not node.config.option.usepdb:
        faulthandler.dump_traceback_later(seconds, exit=True)


@pytest.fixture(scope="session", params=sorted(BINARIES))
def running_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server of each kind for all tests that do not hurt it."""
    with tempfile.TemporaryDirectory(prefix="gt") as folder:  # a unix socket's path must be short
        server = Server(BINARIES[request.param], Path(folder)).start()
        yield server
        server.kill()


@pytest.fixture
def server(running_server: Server) -> Server:
    """A shared server, emptied."""
    with running_server.client() as client:
        client.flushall()
        client.config_resetstat()
    return running_server


@pytest.fixture
def redis(server: Server) -> Iterator:
    """A client of `server` for looking."""
    with server.client() as client:
        yield client


@pytest.fixture(params=sorted(BINARIES))
def new_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Makes servers that a test may kill, stop or configure; call it with redis.conf settings."""
    made: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="gt") as folder:

        def make(*options: str, clock: Clock | None = None) -> Server:
            home = Path(folder) / str(len(made))
            home.mkdir()
            made.append(
                Server(BINARIES[request.param], home, *options, environment=clock.environment if clock else None)
            )
            return made[-1].start()

        yield make
        for server in made:
            server.kill()


@pytest.fixture
def postgres() -> Iterator[Any]:
    """A PostgreSQL of its own (tests/postgres.py) for tests that are marked NEEDED."""
    from tests.postgres import Postgres  # it needs a driver, and most tests do not

    with tempfile.TemporaryDirectory(prefix="gt") as folder:
        postgres = Postgres(Path(folder))
        try:
            yield postgres.start()
        finally:
            postgres.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TaskProcess]]:
    """Starts tasks in `tmp_path` (modules that a test writes there are found); none survives the test."""
    started: list[TaskProcess] = []

    def start(*arguments: str, **options) -> TaskProcess:
        started.append(TaskProcess(*arguments, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for task in started:
        task.kill()
        if task.stderr:
            print(f"stderr of task {task.pid}:\n{task.stderr}")  # pytest shows this where the test has failed
