"""Faults of the fleet's processes: they are killed, and stopped for a while."""

import random
import signal
import time
from pathlib import Path

import redis

from gtask.store.connection import COMMAND_TIMEOUT
from tests.faults.history import Takeover
from tests.faults.nemesis import RECOVERY, Fault, Nemesis
from tests.tasks import TaskProcess, wait_until

OWNER_EARLIER = 5  # milliseconds by which the owner's key ends before a flag that nobody else has set


def kill_generator(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """How fast the takeover is, is promised where a whole flag ends by itself and somebody is there to see it; so that
    is all that is waited for. Everything else may still be in disorder.

    The flag is whole: it is there, and nobody else has set or deleted it. (Nobody is told of a deletion; it is found by
    the next heartbeat.) Somebody sees it: another task has beaten since the latest fault, so it can reach the server.
    """
    since = _now(client)
    victim = wait_until(lambda: _holder(nemesis, client, since), "a generator and a handler that beats", RECOVERY)
    term = client.hget("generator", "term")
    victim.process.kill()
    assert victim.process.wait() == -signal.SIGKILL
    began = last = time.monotonic()
    life, stalled = max(client.pttl("generatorIsActive"), 0) / 1000, 0.0
    while client.hget("generator", "term") == term:
        time.sleep(0.005)
        now = time.monotonic()
        stalled, last = max(stalled, now - last - 0.005), now
        assert now - began < RECOVERY, "nobody takes over"
    nemesis.takeovers.append(Takeover(life, time.monotonic() - began, stalled))
    nemesis.replace(victim)


def _holder(nemesis: Nemesis, client: redis.Redis, since: float) -> TaskProcess | None:
    """The task that holds a whole flag, if another one has beaten since then."""
    generator = nemesis.generator(client)
    with client.pipeline() as together:
        together.pttl("generatorIsActive")
        together.pttl("generatorId")
        together.get("generatorId")
        together.zrange("tasks", 0, -1, withscores=True)
        together.time()
        flag, owned, owner, beats, (seconds, _) = together.execute()
    whole = owned > 0 and flag - owned == OWNER_EARLIER
    seen = any(since < beat < seconds + 1 for task_id, beat in beats if task_id != owner)
    return generator if whole and seen else None


def _now(client: redis.Redis) -> float:
    """The server's."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def kill_handler(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    victim = nemesis.handler(client, chance)
    victim.process.kill()
    assert victim.process.wait() == -signal.SIGKILL
    nemesis.replace(victim)


def stop_task(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """For less than the flag lives, or for longer than the membership."""
    _stop(nemesis, client, chance, chance.uniform(0.3, 6) * nemesis.heartbeat)


def stop_for_long(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """For longer than any answer of Redis is waited for."""
    _stop(nemesis, client, chance, COMMAND_TIMEOUT + chance.uniform(0.2, 2))


def _stop(nemesis: Nemesis, client: redis.Redis, chance: random.Random, seconds: float) -> None:
    victim = chance.choice([nemesis.generator(client), nemesis.handler(client, chance)])
    victim.send(signal.SIGSTOP)
    state = Path(f"/proc/{victim.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "stopped")
    time.sleep(seconds)
    victim.send(signal.SIGCONT)


KINDS: dict[str, Fault] = {fault.__name__: fault for fault in (kill_generator, kill_handler, stop_task, stop_for_long)}
