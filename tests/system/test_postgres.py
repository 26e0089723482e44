"""A real PostgreSQL through psycopg2, whose C code holds the event loop for as long as it waits for an answer."""

import re
import signal

from tests.postgres import NEEDED
from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = [ONE_SERVER, NEEDED]

CONNECT = """
import os, time
from contextlib import closing
import psycopg2

def connect():
    return closing(psycopg2.connect(os.environ["DSN"]))
"""


def field(redis, name: str) -> int:
    return int(redis.hget("generator", name) or 0)


SLOW_QUERY = """
def generate(last):
    number = int(last or 0)
    with connect() as connection, connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_sleep(3)")
            number += 1
            yield str(number)
"""


def test_a_query_that_takes_longer_than_the_flag_lives_keeps_its_term(server, redis, start, postgres, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(CONNECT + SLOW_QUERY)
    options = ("--redis", server.url, "--heartbeat", "1", "--generate", "jobs:generate", "--interval", "0")
    first = start(*options, "--handle", "builtins:len", env={"DSN": postgres.dsn})
    wait_until(first.is_generator)
    second = start(*options, "--handle", "builtins:len", env={"DSN": postgres.dsn})
    wait_until(lambda: second.total("processed") >= 2, "messages that the other one generated")
    assert field(redis, "term") == 1
    assert not second.reports("switchedToGenerator Mode")


ONE_LOCK = """
def handle(message):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7)")
        time.sleep(0.1)  # the other worker's turn: it waits for the lock, and this one for the loop
        cursor.execute("SELECT pg_advisory_unlock(7)")
"""


def test_two_workers_that_want_one_lock_are_named_and_end_in_time(server, redis, start, postgres, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(CONNECT + ONE_LOCK)
    redis.set("generatorIsActive", 1, ex=600)
    messages = [b"one", b"two", b"three", b"four"]
    redis.rpush("messages", *messages)
    task = start(
        "--redis", server.url, "--heartbeat", "0.5", "--handle", "jobs:handle", "--delivery", "at-least-once",
        "--concurrency", "2", "--grace", "1", env={"DSN": postgres.dsn},
    )  # fmt: skip
    held = re.compile(r"nothing else has run here for (\S+) s: jobs\.py:(\d+) handle$", re.M)
    said = wait_until(lambda: held.search(task.stderr))
    assert float(said[1]) < 4
    assert "pg_advisory_lock" in (tmp_path / "jobs.py").read_text().splitlines()[int(said[2]) - 1]
    task.send(signal.SIGTERM)
    assert task.wait(10) == 75
    assert re.search(rf"ended by force.*--grace 1 .*jobs\.py:{said[2]} handle", task.stderr.splitlines()[-1])
    assert sorted(redis.lrange("messages", 0, -1)) == sorted(messages)
    assert not redis.keys("inflight:*")
    assert not redis.exists("errors", "tasks")


ROWS = """
def generate(last):
    number = int(last or 0)
    with connect() as connection, connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT id FROM rows WHERE id > %s ORDER BY id LIMIT 20", [number])
            for number, in cursor.fetchall():
                yield str(number)
                time.sleep(0.01)

def handle(message):
    os.write(handled, f"{message}\\n".encode())

handled = os.open("handled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
"""
FAILURE = (
    r"WARNING term \d+ failed: jobs:generate raised psycopg2\.\S+: .+ \(jobs\.py:\d+ (connect|generate)\); "
    r"generating is tried again in \d+\.\d s$"
)


def test_a_fleet_outlives_a_restart_of_postgresql(server, redis, start, postgres, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(CONNECT + ROWS)
    postgres.execute("CREATE TABLE rows AS SELECT generate_series(1, 50000) AS id", "CREATE INDEX ON rows (id)")
    options = ("--redis", server.url, "--heartbeat", "0.5", "--generate", "jobs:generate", "--interval", "0")
    tasks = [start(*options, "--handle", "jobs:handle", env={"DSN": postgres.dsn}) for _ in range(3)]
    wait_until(lambda: field(redis, "generated") > 50, "it generates")
    before = field(redis, "term")
    postgres.stop()
    wait_until(lambda: field(redis, "failures") == 3, "at 0, 1 and 3 s")
    assert field(redis, "term") - before == 2
    postgres.start()
    count = field(redis, "generated")
    wait_until(lambda: field(redis, "generated") > count + 50, "it generates again")
    assert redis.hmget("generator", "error", "failures") == [None, None]
    assert all(task.process.poll() is None for task in tasks)
    for task in tasks:
        assert task.task_id
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0, 0]
    lines = [line for task in tasks for line in task.stderr.splitlines()]
    assert 3 <= len(lines) <= 4, "one line a failure (the fourth: it was still starting), and nothing else"
    assert [line for line in lines if not re.search(FAILURE, line)] == []
    waiting = [int(message) for message in redis.lrange("messages", 0, -1)]
    handled = [int(message) for message in (tmp_path / "handled").read_text().split()]
    assert sorted(waiting + handled) == list(range(1, field(redis, "generated") + 1)), "each row once"
