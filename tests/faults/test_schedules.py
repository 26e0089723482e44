"""Schedules of one second whose tasks are killed ten times: what became of the ticks."""

import signal

import pytest

from tests.schedules import APPEND, POLL, drill, runner
from tests.servers import ONE_SERVER
from tests.tasks import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.serial, ONE_SERVER]

# The lock is held for as long as the shell or its child lives, which is longer than it takes until a dead task's
# messages come again.
LONG = (
    POLL
    + """command = ["sh", "-c", '''
    exec 9> "lock $GTASK_TICK"
    flock -n 9 || echo "$GTASK_MESSAGE" >> overlaps
    echo "$GTASK_MESSAGE" >> begun
    setsid sleep 6
    echo "$GTASK_MESSAGE" >> handled''']
"""
)


@pytest.mark.parametrize("table", [POLL, APPEND], ids=["handle", "command"])
def test_each_second_of_a_minute_is_there_once_over_ten_sigkills(server, redis, start, tmp_path, table: str) -> None:
    drill(redis, runner(server, start, tmp_path), tmp_path, table, length=60, kills=10)


def test_a_command_never_runs_beside_its_own_redelivery(server, redis, start, tmp_path) -> None:
    run = runner(server, start, tmp_path)
    tasks = [run(LONG) for _ in range(3)]
    killed: set[bytes] = set()  # messages; one that has seen three tasks die would be put aside
    for _ in range(10):
        victim = wait_until(lambda: next((task for task in tasks if held(redis, task) - killed), None), "a busy task")
        killed.update(held(redis, victim))
        victim.send(signal.SIGKILL)
        tasks[tasks.index(victim)] = run(LONG)
        wait_until(lambda gone=victim: not held(redis, gone), "what it held is back")
    ran = (tmp_path / "begun").read_text().splitlines()
    again = len(ran) - len(set(ran))
    print(f"{len(set(ran))} ticks, {again} of them begun again")
    assert again >= 5, "otherwise this shows nothing"
    assert not (tmp_path / "overlaps").exists()


def held(redis, task) -> set[bytes]:
    return set(redis.lrange(f"inflight:{task.task_id}", 0, -1))
