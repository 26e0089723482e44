"""Tasks of a schedule for tests, and what became of its ticks."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gtask.cron.message import parse
from gtask.cron.position import read
from tests.servers import Server, holds_messages
from tests.tasks import TaskProcess, wait_until

HANDLE = """
def handle(message):
    with open("handled", "a") as file:
        file.write(message + "\\n")
"""
NEVER = '[a]\ncron = "0 0 31 2 *"'
POLL = '[poll]\nevery = "1s"\nmissed = "all"\n'
APPEND = POLL + """command = "sh -c 'echo $GTASK_MESSAGE >> handled'"\n"""


def runner(server: Server, start: Callable[..., TaskProcess], folder: Path) -> Callable[..., TaskProcess]:
    """Starts a task of a schedule, with a handle that writes down what it gets. With a long heartbeat one that
    generates goes on doing so, though the machine is busy."""
    (folder / "job.py").write_text(HANDLE)

    def run(
        table: str, *options: str, handle: str | None = "job:handle", heartbeat: float = 0.5, **more
    ) -> TaskProcess:
        file = folder / "crontab.toml"
        if not file.exists() or file.read_text() != table:  # another one may be reading it
            file.write_text(table)
        own = [] if handle is None else ["--handle", handle]
        always = ["--redis", server.url, "--cron", "crontab.toml", "--heartbeat", f"{heartbeat:g}", "--wait", "1"]
        return start(*always, *own, *options, **more)

    return run


def handled(folder: Path) -> list[str]:
    """The messages that were handled so far."""
    file = folder / "handled"
    return file.read_text().splitlines() if file.exists() else []


def seconds(messages: list[str]) -> list[int]:
    """The times that messages name."""
    return [int(parse(message)[1].timestamp()) for message in messages]


def drill(redis, run: Callable[..., TaskProcess], folder: Path, table: str, *, length: float, kills: int) -> None:
    """Kills the generator again and again. Each second of the schedule is there once, and was handled."""
    tasks = [run(table) for _ in range(3)]
    wait_until(lambda: redis.llen("messages") or handled(folder), "the first tick")
    began = time.monotonic()
    for number in range(kills):
        time.sleep(max(0.0, began + length * number / kills - time.monotonic()))
        owner = wait_until(lambda: redis.get("generatorId"), "a generator")
        task = next((task for task in tasks if task.task_id == int(owner)), tasks[0])
        task.send(signal.SIGKILL)
        tasks[tasks.index(task)] = run(table)
    time.sleep(max(0.0, began + length - time.monotonic()))
    wait_until(lambda: int(redis.hget("generator", "generated") or 0) >= length - 3, "a tick each second")
    redis.set("generatorIsActive", 1, ex=600)
    wait_until(lambda: not redis.exists("generatorId"), "the generator gives way")
    last = read(redis.hget("generator", "last").decode())
    wait_until(lambda: not holds_messages(redis), "all is handled, what the dead had in hand, too")
    got = Counter(seconds(handled(folder)))
    print(f"{len(got)} ticks, {kills} SIGKILLs, handled twice: {sum(got.values()) - len(got)}")
    assert sorted(got) == list(range(min(got), last.last.at + 1)), "a tick is missing"
    assert int(redis.hget("generator", "generated")) == len(got) == last.counts.fired
    assert len(got) >= length - 3
