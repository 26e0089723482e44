"""What may come of a message beside success and failure: time-outs, attempts that ask for another one, rejections. And
what may happen to the step that stores it. They befall a fleet with --retries and --timeout only, whose handler is
jobs.handle_by_plan."""

import random
import signal
from functools import partial

import redis

from tests.commands import FAULTS, Ambush
from tests.faults.kinds_code import order
from tests.faults.kinds_commands import PATIENCE, befall, comes_anyway
from tests.faults.nemesis import Fault, Nemesis


def handle_hangs(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    """Until its time-out interrupts it; a coroutine is cancelled then."""
    assert order(nemesis, "handle", "hang")["error"] in ("TimedOut", "CancelledError")


def handle_asks_again(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    order(nemesis, "handle", "ask_again")


def handle_rejects(nemesis: Nemesis, client: redis.Redis, chance: random.Random) -> None:
    order(nemesis, "handle", "reject", f"ordered-{chance.randrange(10**9)}")


def all_die_amid_a_step(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, fault: str) -> None:
    """The step in which a task tells what came of its messages has arrived, and its task never hears of it; or it has
    not. Which task it was, only the proxy knows, so all of them are killed."""
    ambush = Ambush("claim", fault)
    nemesis.proxy.lay(ambush)
    try:
        assert ambush.happened.wait(PATIENCE), "nothing was told"
    finally:
        nemesis.proxy.lift()
    for task in nemesis.tasks[:]:
        task.process.kill()
        assert task.wait() in (-signal.SIGKILL, 69)  # 69: it had found no server at its start
        nemesis.replace(task)


KINDS: dict[str, Fault] = {
    **{fault.__name__: fault for fault in (handle_hangs, handle_asks_again, handle_rejects)},
    **{f"claim_{fault}": partial(befall, fault=fault, commands={"claim": comes_anyway}) for fault in FAULTS},
    **{f"all_die_{f}": partial(all_die_amid_a_step, fault=f) for f in ("drop_request", "drop_reply")},
}
