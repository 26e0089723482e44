"""Faults of the server: it is restarted, held, busy, and forgets scripts and clients."""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import redis

from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import wait_until


def client_kill(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    assert wait_until(lambda: client.client_kill_filter(_type="normal", skipme=True), "clients to kill")


def restart_server(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    before = client.info("server")["run_id"]
    nemesis.server.kill()
    nemesis.server.start()
    with nemesis.server.client() as again:
        assert again.info("server")["run_id"] != before


def pause_clients(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    assert client.execute_command("CLIENT", "PAUSE", chance.randrange(300, 1500), "ALL")
    assert _waited(client.ping) > 0.1


def busy_script(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    loop = "local t = redis.call('TIME'); local e = t[1] + t[2]/1e6 + ARGV[1]\n"
    loop += "repeat t = redis.call('TIME') until t[1] + t[2]/1e6 > e; return 1"
    assert _waited(lambda: client.eval(loop, 0, chance.uniform(0.5, 1.5))) > 0.4


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
    fault.__name__: fault for fault in (client_kill, restart_server, pause_clients, busy_script, flush_scripts)
}
