"""A real PostgreSQL for tests: Debian's, on a unix socket in a folder of its own, and never as root."""

import glob
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.tasks import wait_until

BINARIES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
NEEDED = pytest.mark.skipif(not BINARIES, reason="needs PostgreSQL (apt-get install postgresql)")


class Postgres:
    """One PostgreSQL in `folder`, whose path must be short, as a unix socket's is. `dsn` is what psycopg2 takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dsn = f"host={folder} dbname=postgres user=tests"
        self.process: subprocess.Popen | None = None
        # It refuses to run as root; Debian's package comes with a user for it.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")
        made = self._run("initdb", "--username", "tests", "--auth", "trust", "--no-sync", "--locale", "C").wait()
        assert made == 0, self._log()

    def _run(self, program: str, *arguments: str) -> subprocess.Popen:
        command = [f"{BINARIES[-1]}/{program}", "-D", f"{self.folder}/data", *arguments]
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self._user)

    def start(self) -> "Postgres":
        """Returns when it can be used, which is after its recovery if it was stopped."""
        self.process = self._run("postgres", "-k", str(self.folder), "-c", "listen_addresses=", "-F")
        wait_until(self._answers, "PostgreSQL")
        return self

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(self._log())
        with suppress(psycopg2.OperationalError):
            psycopg2.connect(self.dsn).close()
            return True
        return False

    def _log(self) -> str:
        return (self.folder / "log").read_text()

    def execute(self, *statements: str) -> None:
        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def stop(self) -> None:
        """At once, as in a crash: every connection breaks, and the next start has something to recover."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
            self.process = None
