"""Faults of users' code: what `generate` and `handle` do that they should not. The code itself is in jobs.py."""

import json
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import redis

from tests.faults.nemesis import Fault, Nemesis
from tests.tasks import TaskProcess, wait_until

PATIENCE = 60.0  # seconds until a call takes an order and has obeyed it
TRIES = 5
SHOUT = 100_000_000  # bytes


def order(nemesis: Nemesis, function: str, *words: object) -> dict[str, Any]:
    """Orders the next call of the function to do it. What that says when it has."""
    done, given = nemesis.folder / "done", nemesis.folder / f"order.{function}"
    done.unlink(missing_ok=True)
    written = nemesis.folder / "order.new"
    written.write_text(" ".join(map(str, words)))
    written.rename(given)
    try:
        wait_until(done.exists, f"{function} to {words}", timeout=PATIENCE)
        return dict(json.loads(done.read_text()))
    finally:
        given.unlink(missing_ok=True)


def who(nemesis: Nemesis, said: dict[str, Any]) -> TaskProcess:
    return next(task for task in nemesis.tasks if task.pid == said["pid"])


def raises(nemesis: Nemesis, function: str, chance: random.Random, *words: object) -> None:
    """Orders an exception, and waits until its task has told somebody: a failed message is in its totals, a failed term
    in its log. A message that is tried again has not failed yet; that it comes again, the checker sees."""
    reason = f"ordered-{chance.randrange(10**9)}"
    before = {task.pid: task.total("processed", "errors") for task in nemesis.tasks}
    task = who(nemesis, order(nemesis, function, *words, reason))

    def told() -> bool:
        if function == "generate":
            return reason in task.stderr
        return nemesis.retries or task.total("processed", "errors") > before[task.pid]

    wait_until(told, f"task {task.pid} to tell that {function} has failed", timeout=PATIENCE)


def fails(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    raises(nemesis, function, chance, "fail")


def blocks(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    """From less than a heartbeat to longer than the flag and the membership live."""
    seconds = chance.uniform(0.3, 7) * nemesis.heartbeat
    said = order(nemesis, function, "block", seconds, chance.choice(["keep", "release"]))
    assert said["seconds"] >= seconds and not said["turns"]


def forks(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    said = order(nemesis, function, "fork")
    wait_until(lambda: ended(said["child"]), "the child to end")
    text = f"process {said['child']}, which generate or handle forked, has returned from it"
    task = who(nemesis, said)
    wait_until(lambda: text in task.stderr, f"{task.pid} to say: {text}")


def ended(pid: int) -> bool:
    """Whether it is gone, or only its parent has not asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it goes while its file is read
        return True


def leaks_a_timeout(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    order(nemesis, function, "leak", 0.3)


def exits(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    """At once, or with the exception of sys.exit, which must not end the task."""
    if chance.random() < 0.5:
        raises(nemesis, function, chance, "leave", "politely")
    else:
        task = who(nemesis, order(nemesis, function, "leave", "abruptly", "-"))
        assert task.wait() == 3
        nemesis.replace(task)


def shouts(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    before = {task.pid: task.error_bytes for task in nemesis.tasks}
    stream = chance.choice(["stdout", "stderr"])
    task = who(nemesis, order(nemesis, function, "shout", SHOUT, chance.choice(["none", "each"]), stream))
    wait_until(lambda: task.error_bytes - before[task.pid] >= SHOUT, "all that it printed, on its stderr")


def never_returns(nemesis: Nemesis, client: redis.Redis, chance: random.Random, *, function: str) -> None:
    """Until it is let go on after all, or its process is killed."""
    staying, go = nemesis.folder / "staying", nemesis.folder / "go"
    go.unlink(missing_ok=True)
    for _ in range(TRIES):
        task = who(nemesis, order(nemesis, function, "stay"))
        time.sleep(chance.uniform(1, 7) * nemesis.heartbeat)
        if staying.exists():
            break  # else a busy machine has kept the task from its heartbeats, and so its generate was interrupted
    else:
        raise AssertionError(f"{function} has returned each time")
    if chance.random() < 0.5:
        go.touch()
        wait_until(lambda: not staying.exists(), "it to go on")
    else:
        task.process.kill()
        assert task.wait() == -signal.SIGKILL
        nemesis.replace(task)
        staying.unlink(missing_ok=True)


KINDS: dict[str, Fault] = {
    f"{function}_{what.__name__}": partial(what, function=function)
    for function in ("generate", "handle")
    for what in (fails, blocks, forks, leaks_a_timeout, exits, shouts, never_returns)
}
