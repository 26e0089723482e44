"""A Celery app with one periodic task, fired by RedBeat or by gtask; the task notes that it ran.

RedBeat's lock lives BENCH_LOCK seconds, with a fifth of it between two looks, its documented ratio; its default is 25
minutes.
"""

import json
import os
import time
from functools import cache

import redis
from celery import Celery, Task

LOCK = float(os.environ.get("BENCH_LOCK", "10"))

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.redbeat_redis_url = os.environ["BENCH_URL"]
app.conf.redbeat_lock_timeout = LOCK
app.conf.beat_max_loop_interval = LOCK / 5
app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": 1.0}}


@app.task(name="tick", bind=True)
def tick(self: Task) -> None:
    """Notes its id, who has sent it (gen<pid>@<host>), and when it ran."""
    notes().rpush("runs", json.dumps([self.request.id, self.request.origin, time.time()]))


def handle(message: str) -> None:
    """What a gtask does with a tick: its message is the task's id."""
    app.send_task("tick", task_id=message)


@cache
def notes() -> redis.Redis:
    """This process's connection for the notes."""
    return redis.Redis.from_url(os.environ["BENCH_URL"])
