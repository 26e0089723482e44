"""Faults: each is injected on purpose, and proves that it happened (or raises)."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from tests.commands import CommandProxy
from tests.faults.history import Takeover
from tests.servers import Server
from tests.tasks import TaskProcess, wait_until

Fault = Callable[["Nemesis", redis.Redis, random.Random], None]


class Nemesis:
    """Injects faults into a fleet. `tasks` are its living tasks; `begin` starts another one; they work in `folder`."""

    def __init__(
        self, server: Server, proxy: CommandProxy, begin: Callable[[], TaskProcess], heartbeat: float, folder: Path
    ) -> None:
        self.server, self.proxy, self.begin, self.heartbeat, self.folder = server, proxy, begin, heartbeat, folder
        self.tasks = [begin() for _ in range(4)]
        self.fired: Counter[str] = Counter()
        self.takeovers: list[Takeover] = []

    def inject(self, kind: str, fault: Fault, chance: random.Random) -> None:
        """One fault of this kind; counted only when it is proven."""
        self.supervise()
        with self.server.client() as client:
            fault(self, client, chance)
        self.fired[kind] += 1

    def supervise(self) -> None:
        """Starts a task again that found no server at its start (69); none ends by itself for any other reason."""
        for task in self.tasks[:]:
            if (code := task.process.poll()) is not None:
                assert code == 69, f"a task ended by itself with {code}: {task.stderr}"
                self.replace(task)

    def all_well(self, client: redis.Redis) -> None:
        """Waits until a task holds the flag and every task beats."""

        def beating() -> bool:
            self.supervise()
            seconds, microseconds = client.time()
            now = seconds + microseconds / 1e6
            ids = [str(t.reports("createdTaskId")[-1]["taskId"]) for t in self.tasks if t.reports("createdTaskId")]
            beats = [client.zscore("tasks", task_id) or 0 for task_id in ids]
            return len(ids) == len(self.tasks) and now - min(beats) < 1.5 * self.heartbeat

        wait_until(lambda: beating() and client.exists("generatorId"), "all to be well", timeout=60)

    def generator(self, client: redis.Redis) -> TaskProcess:
        """The task that generates; waits until there is one."""

        def found() -> TaskProcess | None:
            self.supervise()
            owner = client.get("generatorId")
            ids = {t.reports("createdTaskId")[-1]["taskId"]: t for t in self.tasks if t.reports("createdTaskId")}
            return ids.get(int(owner)) if owner else None

        return wait_until(found, "a generator", timeout=60)

    def handler(self, client: redis.Redis, chance: random.Random) -> TaskProcess:
        generator = self.generator(client)
        return chance.choice([task for task in self.tasks if task is not generator])

    def replace(self, task: TaskProcess) -> None:
        self.tasks[self.tasks.index(task)] = self.begin()
