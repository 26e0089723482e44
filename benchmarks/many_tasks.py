"""Many gtask tasks as greenlets of one process, for fleets that would not fit as processes.

    python -m benchmarks.many_tasks URL COUNT DELIVERY

Each has its own connections, greenlets and native thread, as if it were alone. They report to /dev/null.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402
from contextvars import copy_context  # noqa: E402
from functools import partial  # noqa: E402

import gevent  # noqa: E402

from benchmarks.functions import ignore, nothing  # noqa: E402
from gtask.config import Config  # noqa: E402
from gtask.functions import Handle  # noqa: E402
from gtask.store import Store  # noqa: E402
from gtask.task import Task  # noqa: E402
from gtask.watch import LoopWatch  # noqa: E402


def main(url: str, count: int, delivery: str) -> None:
    """Runs until it is killed."""
    gevent.get_hub().threadpool.maxsize = count + 10
    config = Config(redis=url, delivery=delivery)
    make_store = partial(Store, url, "", heartbeat=config.heartbeat, wait=config.wait)
    watch = LoopWatch(config.heartbeat, config.grace)  # one for all; it stands in for the task that came last
    watch.start()
    null = os.open(os.devnull, os.O_WRONLY)
    handle = Handle(ignore, copy_context)
    tasks = []
    for _ in range(count):
        tasks.append(gevent.spawn(Task(config, make_store, nothing, handle, null, watch).run))
        gevent.sleep(1 / count)  # not all beats at once: nobody starts a fleet in one moment
    gevent.joinall(tasks)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
