"""A fleet under fire: faults in an order that a seed (GTASK_FAULTS_SEED) repeats, then quiet, then the checker."""

import os
import random

import pytest

from tests.faults import checker, history
from tests.faults.nemesis import KINDS, Nemesis
from tests.proxy import Proxy
from tests.servers import ONE_NEW_SERVER
from tests.tasks import TaskProcess, wait_until

JOBS = """
import itertools, os, time
calls = itertools.count(1)
log = os.open(f"handled.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def generate(last):
    author = f"{os.getpid()}.{next(calls)}"
    for number in itertools.count(int(last.split()[0]) + 1 if last else 1):
        yield f"{number} {author}"

def handle(message):
    os.write(log, (message + "\\n").encode())
"""
SEED = int(os.environ.get("GTASK_FAULTS_SEED", "1"))


@ONE_NEW_SERVER
@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
def test_the_promises_hold_under_fire(new_server, start, tmp_path, seed: int) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    server, started = new_server(*history.OPTIONS), []
    with Proxy(server.socket) as proxy:

        def begin() -> TaskProcess:
            started.append(start(
                "--redis", proxy.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "5",
                "--delivery", "at-least-once", "--heartbeat", "0.5", "--wait", "1",
            ))  # fmt: skip
            return started[-1]

        nemesis, chance = Nemesis(server, proxy, begin, 0.5), random.Random(seed)
        order = list(KINDS) * int(os.environ.get("GTASK_FAULTS_ROUNDS", "2"))
        chance.shuffle(order)
        for kind in order:
            nemesis.inject(kind, chance)
        with server.client() as redis:
            redis.set("generatorIsActive", 1, ex=600)  # of another program: no more messages
            wait_until(lambda: not redis.exists("generatorId"), "the generator to give way")

            def in_flight() -> list[bytes]:
                return [m for key in redis.keys("inflight:*") for m in redis.lrange(key, 0, -1)]

            wait_until(
                lambda: not redis.exists("messages", "messages:suspects") and not in_flight(), "quiet", timeout=90
            )
            handled = [line for f in tmp_path.glob("handled.*") for line in f.read_text().splitlines()]
            end = history.End(
                handled=tuple(history.pushed(message).number for message in handled),
                errors=(), waiting=(), in_flight=(), processed=int(redis.hget("totals", "processed")),
            )  # fmt: skip
        events = history.read(server.folder)
        violations = [
            *checker.deposed_is_silent(events), *checker.numbers_are_whole(events),
            *checker.nothing_is_lost(events, end), *checker.nothing_is_invented(events, end),
            *(v for task in started for v in checker.reports_are_whole(task.lines)),
            *checker.takeovers_are_fast(nemesis.takeovers),
        ]  # fmt: skip
        terms = sum(isinstance(event, history.Elected) for event in events)
        print(f"\n{len(events) - terms} messages, {terms} terms, {len(checker.judged(nemesis.takeovers))} of "
              f"{len(nemesis.takeovers)} takeovers judged")  # fmt: skip
        print(f"seed {seed}: {nemesis.fired.total()} faults of {len(nemesis.fired)} kinds: {dict(nemesis.fired)}")
        assert not violations, "\n".join(violations[:50])
