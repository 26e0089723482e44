"""Faults that befall one command on its way: for each command that gtask sends, what may happen to it in a network."""

import random
import signal
from functools import partial

import redis

from tests.commands import FAULTS, Ambush
from tests.faults import kinds_flag, kinds_processes
from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import TaskProcess

PATIENCE = 60.0  # seconds: some commands come only when a task was taken for dead


def befall(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, fault: str) -> None:
    """The fault, to a command by chance. It is proven by the proxy, which had the command or its reply in its hands."""
    command = chance.choice(sorted(COMMANDS))
    seconds = chance.uniform(0.1, 1) if fault == "delay_command" else chance.uniform(0.3, 6.5)
    ambush = Ambush(command, fault, seconds)
    nemesis.proxy.lay(ambush)
    try:
        COMMANDS[command](nemesis, client, chance)
        assert ambush.happened.wait(PATIENCE), f"{fault}: {command} did not come, or its reply did not"
    finally:
        nemesis.proxy.lift()


def _comes_anyway(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    pass


def _handler_ends(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    _end(nemesis, nemesis.handler(client, chance))


def _generator_ends(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    _end(nemesis, nemesis.generator(client))


def _end(nemesis: Nemesis, task: TaskProcess) -> None:
    task.send(signal.SIGTERM)
    assert (code := task.wait()) == 0, f"a clean end gave {code}: {task.stderr}"
    nemesis.replace(task)


def _handler_dies(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    kinds_processes.kill_handler(nemesis, client, chance)


def _flag_goes(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    kinds_flag.delete_flag(nemesis, client, chance)


def _connections_break(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    client.client_kill_filter(_type="normal", skipme=True)
    client.client_kill_filter(_type="pubsub")


# What makes a task send it.
COMMANDS: dict[str, Fault] = {
    "beat": _comes_anyway, "push": _comes_anyway, "claim": _comes_anyway, "BLMOVE": _comes_anyway,
    "PING": _comes_anyway, "position": _flag_goes, "release": _generator_ends, "giveback": _handler_ends,
    "INCR": _handler_ends, "reap": _handler_dies, "SUBSCRIBE": _connections_break, "CLIENT": _connections_break,
}  # fmt: skip

KINDS = {fault: partial(befall, fault=fault) for fault in FAULTS}
