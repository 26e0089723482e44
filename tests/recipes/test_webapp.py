"""The web application: each tick once, though a worker and two tasks are killed, and nothing outlives the master."""

import json
import signal
import urllib.request

import psutil

from tests.recipes.recipe import needs
from tests.servers import ONE_SERVER
from tests.support.servers import free_port
from tests.tasks import wait_until

WORKERS = 4


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@ONE_SERVER
@needs("starlette", "uvicorn")
def test_each_tick_once_and_no_orphan(redis, cook) -> None:
    port = free_port()
    recipe = cook("webapp", {"UVICORN_PORT": str(port)})

    def go_on() -> None:
        """As many tasks as workers, and ten ticks more."""
        wait_until(lambda: len(recipe.tasks()) == WORKERS, "each worker has a task")
        until = recipe.generated + 10
        wait_until(lambda: recipe.generated >= until, "ten ticks")

    go_on()
    worker = psutil.Process(recipe.generator()).parent()
    its_task = worker.children(recursive=True)
    recipe.kill(worker.pid)
    wait_until(lambda: all(map(gone, its_task)), "the task of the killed worker to end")
    go_on()
    recipe.kill(recipe.generator())
    go_on()
    recipe.kill(recipe.handler())
    go_on()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert json.load(answer)["ticks"] >= 30
    master = psutil.Process(recipe.process.pid)
    all_processes = master.children(recursive=True)
    assert len(all_processes) >= 2 * WORKERS
    master.send_signal(signal.SIGKILL)
    wait_until(lambda: all(map(gone, all_processes)), "all to end with the master")

    handled = {int(number) for number in redis.hkeys("ticks")}
    waiting = {int(number) for number in redis.lrange(recipe.key("messages"), 0, -1)}
    assert not redis.keys(recipe.key("inflight:*")), "what they had in hand was finished or given back"
    assert redis.llen(recipe.key("errors")) == 0
    all_ticks = sorted(handled | waiting)
    assert all_ticks == list(range(all_ticks[0], all_ticks[-1] + 1)), "no tick is missing"
    assert len(all_ticks) == recipe.generated, "and none came twice"
