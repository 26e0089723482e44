"""Faults of all links between the fleet and its server at once."""

import random
import time

import redis

from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import wait_until


def cut_links(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    before = nemesis.proxy.accepted
    nemesis.proxy.cut()
    wait_until(lambda: nemesis.proxy.accepted > before, "a task to connect again")


def stall_links(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.proxy.stalled = True
    try:
        time.sleep(0.1)
        before = nemesis.proxy.carried
        time.sleep(chance.uniform(0.3, 3))
        assert nemesis.proxy.carried == before
    finally:
        nemesis.proxy.stalled = False


KINDS: dict[str, Fault] = {fault.__name__: fault for fault in (cut_links, stall_links)}
