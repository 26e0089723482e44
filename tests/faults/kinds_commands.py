"""Faults that befall one command on its way: for each command that gtask sends, what may happen to it in a network."""

import random
import signal
from collections.abc import Mapping
from functools import partial

import redis

from tests.commands import FAULTS, Ambush
from tests.faults import kinds_flag, kinds_processes
from tests.faults.kinds_code import order, raises
from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import TaskProcess, wait_until

PATIENCE = 60.0  # seconds: some commands come only when a task was taken for dead


def befall(
    nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, fault: str, commands: Mapping[str, Fault]
) -> None:
    """The fault, to a command by chance. It is proven by the proxy, which had the command or its reply in its hands."""
    command = chance.choice(sorted(commands))
    seconds = chance.uniform(0.1, 1) if fault == "delay_command" else chance.uniform(0.3, 6.5)
    ambush = Ambush(command, fault, seconds)
    nemesis.proxy.lay(ambush)
    try:
        commands[command](nemesis, client, chance)
        assert ambush.happened.wait(PATIENCE), f"{fault}: {command} did not come, or its reply did not"
    finally:
        nemesis.proxy.lift()


def comes_anyway(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Nobody has to be made to send it."""


def _handler_ends(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.all_well(client)
    _end(nemesis, nemesis.handler(client, chance))


def _generator_ends(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.all_well(client)
    _end(nemesis, nemesis.generator(client))


def _end(nemesis: Nemesis, task: TaskProcess) -> None:
    task.send(signal.SIGTERM)
    assert (code := task.wait()) == 0, f"a clean end gave {code}: {task.stderr}"
    nemesis.replace(task)


def _handler_dies(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    nemesis.all_well(client)  # one that is no member yet need not be reaped
    kinds_processes.kill_handler(nemesis, client, chance)


def _handler_fails(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    raises(nemesis, "handle", chance, "fail")


def _listeners_break(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    wait_until(lambda: client.client_kill_filter(_type="pubsub"), "listeners to kill")


def _position_is_large(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Else the heartbeat that elects brings it along."""
    order(nemesis, "generate", "swell")
    before = int(client.hget("generator", "generated") or 0)
    wait_until(lambda: int(client.hget("generator", "generated") or 0) > before, "a large message")
    kinds_flag.delete_flag(nemesis, client, chance)


def _connections_break(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    wait_until(lambda: client.client_kill_filter(_type="normal", skipme=True), "clients to kill")


# What makes a task send it.
COMMANDS: dict[str, Fault] = {
    "beat": comes_anyway, "push": comes_anyway, "PING": comes_anyway,
    "release": _generator_ends, "giveback": _handler_ends, "SUBSCRIBE": _listeners_break,
    "EXISTS": _handler_ends, "INFO": _handler_ends, "COMMAND": _handler_ends, "INCR": _handler_ends,  # another begins
}  # fmt: skip
AT_LEAST_ONCE = COMMANDS | {
    "claim": comes_anyway, "BLMOVE": comes_anyway, "reap": _handler_dies, "CLIENT": _connections_break,
    "position": _position_is_large,
}  # fmt: skip
AT_MOST_ONCE = COMMANDS | {"settle": _handler_fails}
FETCHING = {"pop": comes_anyway, "BLPOP": comes_anyway}  # a lost answer to these is a lost message

KINDS: dict[str, Fault] = {fault: partial(befall, fault=fault, commands=AT_LEAST_ONCE) for fault in FAULTS}
