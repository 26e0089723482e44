"""celery: results ignored, no events, gossip or mingle, a large prefetch for short tasks; the solo pool (prefork and
gevent were slower)."""

import os

from celery import Celery

from benchmarks.stopwatch import lap

app = Celery("bench", broker=os.environ["BENCH_URL"])
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 1000
app.conf.worker_send_task_events = False
app.conf.worker_enable_remote_control = False


@app.task(name="job")
def job(message: str) -> None:
    """Does nothing."""
    lap()


def fill(count: int) -> None:
    """Queues the jobs."""
    with app.producer_pool.acquire() as producer:
        for number in range(count):
            job.apply_async((f"message-{number:08d}",), producer=producer)
