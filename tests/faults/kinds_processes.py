"""Faults of the fleet's processes: they are killed, and stopped for a while."""

import random
import signal
import time
from pathlib import Path

import redis

from tests.faults.history import Takeover
from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import wait_until


def kill_generator(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """How fast the takeover is, is promised for a SIGKILL by itself, so all is well before it."""
    nemesis.all_well(client)
    victim = nemesis.generator(client)
    term = client.hget("generator", "term")
    victim.process.kill()
    assert victim.process.wait() == -signal.SIGKILL
    began = last = time.monotonic()
    life, stalled = max(client.pttl("generatorIsActive"), 0) / 1000, 0.0
    while client.hget("generator", "term") == term:
        time.sleep(0.005)
        now = time.monotonic()
        stalled, last = max(stalled, now - last - 0.005), now
        assert now - began < 60, "nobody takes over"
    nemesis.takeovers.append(Takeover(life, time.monotonic() - began, stalled))
    nemesis.replace(victim)


def kill_handler(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    victim = nemesis.handler(client, chance)
    victim.process.kill()
    assert victim.process.wait() == -signal.SIGKILL
    nemesis.replace(victim)


def stop_task(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    victim = chance.choice([nemesis.generator(client), nemesis.handler(client, chance)])
    victim.send(signal.SIGSTOP)
    state = Path(f"/proc/{victim.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "stopped")
    time.sleep(chance.uniform(0.3, 6) * nemesis.heartbeat)
    victim.send(signal.SIGCONT)


KINDS: dict[str, Fault] = {fault.__name__: fault for fault in (kill_generator, kill_handler, stop_task)}
