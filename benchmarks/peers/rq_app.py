"""rq: the worker that does not fork for each job (SimpleWorker), results not kept."""

import os

from redis import Redis
from rq import Queue

from benchmarks.stopwatch import lap


def job(message: str) -> None:
    """Does nothing."""
    lap()


def fill(count: int) -> None:
    """Queues the jobs."""
    queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_URL"]))
    jobs = [
        Queue.prepare_data("benchmarks.peers.rq_app.job", (f"message-{number:08d}",), result_ttl=0)
        for number in range(count)
    ]
    queue.enqueue_many(jobs)
