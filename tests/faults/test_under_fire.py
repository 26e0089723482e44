"""A fleet under fire: faults in an order that a seed (GTASK_FAULTS_SEED) repeats, then quiet, then the checker."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.commands import CommandProxy
from tests.faults import checker, history
from tests.faults.kinds import KINDS
from tests.faults.nemesis import Nemesis
from tests.servers import ONE_NEW_SERVER
from tests.tasks import TaskProcess, wait_until

CHOSEN = [kind for kind in os.environ.get("GTASK_FAULTS_KINDS", "").split(",") if kind] or list(KINDS)
SEED = int(os.environ.get("GTASK_FAULTS_SEED", "1"))


@ONE_NEW_SERVER
@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
def test_the_promises_hold_under_fire(new_server, start, tmp_path, seed: int) -> None:
    shutil.copy(Path(__file__).with_name("jobs.py"), tmp_path)
    server, started = new_server(*history.OPTIONS), []
    with CommandProxy(server.socket) as proxy:

        def begin() -> TaskProcess:
            started.append(start(
                "--redis", proxy.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "5",
                "--delivery", "at-least-once", "--heartbeat", "0.5", "--wait", "1",
            ))  # fmt: skip
            return started[-1]

        nemesis, chance = Nemesis(server, proxy, begin, 0.5, tmp_path), random.Random(seed)
        order = CHOSEN * int(os.environ.get("GTASK_FAULTS_ROUNDS", "2"))
        chance.shuffle(order)
        for kind in order:
            nemesis.inject(kind, KINDS[kind], chance)
        with server.client() as redis:
            redis.set("generatorIsActive", 1, ex=600)  # of another program: no more messages
            wait_until(lambda: not redis.exists("generatorId"), "the generator to give way")

            def in_flight() -> list[bytes]:
                return [m for key in redis.keys("inflight:*") for m in redis.lrange(key, 0, -1)]

            wait_until(
                lambda: not redis.exists("messages", "messages:suspects") and not in_flight(), "quiet", timeout=90
            )
            handled = [line for f in tmp_path.glob("handled.*") for line in f.read_text().splitlines()]
            errors = [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]
            end = history.End(
                handled=tuple(history.pushed(message).number for message in handled),
                errors=tuple(history.pushed(message).number for message in errors),
                waiting=(), in_flight=(), processed=int(redis.hget("totals", "processed")),
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
        hits = sorted(f"{command} {count} x {fault}" for (fault, command), count in proxy.hits.items())
        print(f"commands: {dict(proxy.seen)}; hit: {', '.join(hits)}")
        print(f"seed {seed}: {nemesis.fired.total()} faults of {len(nemesis.fired)} kinds: {dict(nemesis.fired)}")
        assert not violations, "\n".join(violations[:50])
