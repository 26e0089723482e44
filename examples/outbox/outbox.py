"""Relays the events of a PostgreSQL outbox, in the order of their transactions, and misses none.

Ids are given out when a row is inserted, and a transaction with a smaller id may commit later. So rows are read in the
order of (transaction, id), and only those that are older than every transaction that is still open.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache

import psycopg
import redis

ROWS_AFTER = """
    SELECT xid::text::bigint AS place, id, event FROM outbox
    WHERE (xid, id) > (%s::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xid, id LIMIT 500
"""


def generate(last: str | None) -> Iterator[tuple[str, str]]:
    """Yields each row as a message, with its place (transaction and id) as the position."""
    place = last or "0 0"
    with closing(psycopg.connect(autocommit=True)) as database:  # PGHOST, PGDATABASE and the like say which one
        while True:
            rows = database.execute(ROWS_AFTER, place.split()).fetchall()
            for xid, number, event in rows:
                place = f"{xid} {number}"
                yield json.dumps({"key": number, "event": event}), place
            if not rows:
                time.sleep(0.1)


def handle(message: str) -> None:
    """Delivers one event. It may come again after a crash, so the receiver counts it by its key."""
    row = json.loads(message)
    receiver().hset("received", row["key"], json.dumps(row["event"]))


@cache
def receiver() -> redis.Redis:
    """A Redis hash stands for whatever takes your events: a broker, an index, another service."""
    return redis.Redis.from_url(os.environ.get("GTASK_REDIS", "redis://127.0.0.1:6379/0"))
