"""What may come of a message beside success and failure: time-outs, attempts that ask for another one, rejections. They
befall a fleet with --retries and --timeout only, whose handler is jobs.handle_by_plan."""

import random

import redis

from tests.faults.kinds_code import order
from tests.faults.nemesis import Fault, Nemesis


def handle_hangs(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Until its time-out interrupts it."""
    assert order(nemesis, "handle", "hang")["error"] == "TimedOut"


def handle_asks_again(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    order(nemesis, "handle", "ask_again")


def handle_rejects(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    order(nemesis, "handle", "reject", f"ordered-{chance.randrange(10**9)}")


KINDS: dict[str, Fault] = {fault.__name__: fault for fault in (handle_hangs, handle_asks_again, handle_rejects)}
