"""The Postgres outbox: no row is missing, though transactions commit late and roll back and tasks are killed.
The fault suite writes the rows that docs/recipes.md speaks of, plain tox a fifth of them."""

import json
import random
import threading
import time

import psycopg2
import pytest

from tests.postgres import NEEDED
from tests.recipes.recipe import needs
from tests.servers import OTHER_SERVER
from tests.tasks import wait_until

pytestmark = [OTHER_SERVER, NEEDED, needs("psycopg")]

WRITERS = 6
TOGETHER = 20  # rows of one transaction


class Writers:
    """Threads that write events in transactions, of which one in ten commits late and one in ten rolls back."""

    def __init__(self, dsn: str, rows: int) -> None:
        self._rows = rows
        self.committed: list[str] = []  # the events that are in the table for good
        self.rolled_back = 0
        self._threads = [
            threading.Thread(target=self._write, args=(dsn, random.Random(seed))) for seed in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, dsn: str, chance: random.Random) -> None:
        connection = psycopg2.connect(dsn)
        while len(self.committed) < self._rows:
            events = [json.dumps({"n": chance.getrandbits(60)}) for _ in range(TOGETHER)]
            with connection.cursor() as cursor:
                for event in events:
                    cursor.execute("INSERT INTO outbox (event) VALUES (%s)", [event])
            time.sleep(0.3 if chance.random() < 0.1 else 0.02)
            if chance.random() < 0.1:
                connection.rollback()
                self.rolled_back += 1
            else:
                connection.commit()
                self.committed += events
        connection.close()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("rows", [2000, pytest.param(10_000, marks=pytest.mark.faults)])
def test_each_row_once_and_three_kills(redis, cook, postgres, rows: int) -> None:
    recipe = cook("outbox", {"PGHOST": str(postgres.folder), "PGDATABASE": "postgres", "PGUSER": "tests"})
    wait_until(lambda: redis.exists(recipe.key("generatorId")), "the table is there")
    writers = Writers(postgres.dsn, rows)
    try:
        for share, victim in ((1, recipe.generator), (2, recipe.handler), (3, recipe.generator)):
            wait_until(lambda: recipe.generated >= rows * share // 5, f"{share} of 5 parts are generated")  # noqa: B023
            recipe.kill(victim())
    finally:
        writers.join()
    wait_until(lambda: redis.hlen("received") >= len(writers.committed), "all are received")
    received = redis.hgetall("received")
    assert sorted(json.loads(event)["n"] for event in received.values()) == sorted(
        json.loads(event)["n"] for event in writers.committed
    )
    assert len(received) == recipe.generated >= rows, "each row once, by its key"
    assert writers.rolled_back > 0
    recipe.end()
