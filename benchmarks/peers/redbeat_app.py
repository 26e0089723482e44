"""celery beat with RedBeat: one item each 100 ms, the lock's life 2 s and a fifth of it between two looks (its
documented ratio; the default is 25 minutes)."""

import os

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.redbeat_redis_url = os.environ["BENCH_URL"]
app.conf.redbeat_lock_timeout = 2.0
app.conf.beat_max_loop_interval = 0.4
app.conf.beat_schedule = {"tick": {"task": "tick", "schedule": 0.1}}


@app.task(name="tick")
def tick() -> None:
    """Never run: only its sending is watched."""
