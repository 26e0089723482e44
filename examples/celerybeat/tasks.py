"""Celery's side: tasks as you have them. The id of each is its tick, such as `poll@2026-11-24T02:30:00+00:00`."""

import os
import time
from functools import cache

import redis
from celery import Celery, Task

REDIS = os.environ.get("GTASK_REDIS", "redis://127.0.0.1:6379/0")

app = Celery("tasks", broker=REDIS)


@app.task(name="poll", bind=True)
def poll(self: Task) -> None:
    """May run twice for one tick after a crash, so what it does is kept by its id."""
    results().hset("ran", self.request.id, time.ctime())


@app.task(name="report", bind=True)
def report(self: Task) -> None:
    """The same each two seconds."""
    results().hset("ran", self.request.id, time.ctime())


@cache
def results() -> redis.Redis:
    """This process's connection for results."""
    return redis.Redis.from_url(REDIS)
