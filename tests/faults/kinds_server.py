"""Faults of the server: it is restarted, held, busy, and forgets scripts and clients."""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis

from tests.faults import history
from tests.faults.nemesis import RECOVERY, Fault, Nemesis
from tests.servers import Clock
from tests.tasks import wait_until

STOPPED = 12.0  # seconds
STEP = 60  # seconds


def client_kill(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    assert wait_until(lambda: client.client_kill_filter(_type="normal", skipme=True), "clients to kill")


def restart_server(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """It is killed, and comes back with all that its file holds."""
    mark = _mark(client, chance)
    nemesis.server.kill()
    nemesis.server.start()
    with nemesis.server.client() as again:
        assert again.get("nemesis") == mark


def restart_emptied(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """It is killed, and comes back without its file: it knows nothing, and its numbers begin anew."""
    _mark(client, chance)
    nemesis.server.kill()
    history.set_aside(nemesis.server.folder)
    nemesis.server.start()
    with nemesis.server.client() as again:
        assert not again.exists("nemesis")


def _mark(client: redis.Redis, chance: random.Random) -> bytes:
    mark = chance.randbytes(8)
    assert client.set("nemesis", mark)
    return mark


def stop_server(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Longer than every time-out of a task, and its connections stay open."""
    nemesis.server.pause()
    try:
        with nemesis.server.client(socket_timeout=STOPPED) as asking:
            assert _waited(asking.ping) >= STOPPED
    finally:
        nemesis.server.go_on()


def pause_clients(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    assert client.execute_command("CLIENT", "PAUSE", chance.randrange(300, 1500), "ALL")
    assert _waited(client.ping) > 0.1


def busy_script(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Others wait for it, or are told BUSY after a while. It counts its own time of the processor, because the clock
    stands still in a script. On a busy machine that may take long."""
    patience = chance.choice([100, 5000])  # milliseconds until the others are told
    seconds = chance.uniform(0.3, 1)
    assert client.config_set("lua-time-limit", patience)
    loop = "local e = os.clock() + ARGV[1]; repeat until os.clock() > e; return 1"
    with nemesis.server.client(socket_timeout=RECOVERY) as waiting:
        assert _waited(lambda: waiting.eval(loop, 0, seconds)) > 0.9 * seconds


def fill_memory(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """It takes nothing more (maxmemory), and then it does again."""
    assert client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("nemesis", "was here")
        time.sleep(chance.uniform(0.3, 6) * nemesis.heartbeat)
    finally:
        client.config_set("maxmemory", 0)
    assert client.set("nemesis", "was here")


def step_clock(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """The server's clock is set forward or back by a minute."""
    clock = nemesis.clock
    assert clock is not None
    clock.set(clock.ahead + chance.choice([-STEP, STEP]))
    wait_until(lambda: abs(client.time()[0] - time.time() - clock.ahead) < STEP / 2, "the clock to step")


def flush_scripts(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    client.script_flush()
    # A task may load its script again at once, so what proves the flush is a script that only we know.
    known = client.script_load("return 'nemesis'")
    client.script_flush()
    assert client.script_exists(known) == [False]


def _waited(call: Callable[[], object]) -> float:
    """For how many seconds a call waited for its answer."""
    began = time.monotonic()
    with suppress(redis.TimeoutError):
        call()
    return time.monotonic() - began


KINDS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        client_kill,
        restart_server,
        restart_emptied,
        stop_server,
        pause_clients,
        busy_script,
        flush_scripts,
        fill_memory,
        *([step_clock] if Clock.LIBRARIES else []),
    )
}
