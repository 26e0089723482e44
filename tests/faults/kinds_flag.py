"""Faults of the flag: somebody deletes it, or another program takes it."""

import random

import redis

from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import wait_until


def delete_flag(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.generator(client)
    assert wait_until(lambda: client.delete("generatorIsActive"), "a flag to delete")


def foreign_flag(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.generator(client)
    assert client.set("generatorIsActive", 1, ex=2)
    wait_until(lambda: not client.exists("generatorId"), "the generator to give way")


KINDS: dict[str, Fault] = {fault.__name__: fault for fault in (delete_flag, foreign_flag)}
