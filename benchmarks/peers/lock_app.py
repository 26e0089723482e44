"""python-redis-lock: who holds the lock pushes an item each 10 ms. The lock lives 1 s, its minimum, and is renewed."""

import os
import signal
import sys
import time

import redis_lock
from redis import Redis


def main() -> None:
    """Until TERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    client = Redis.from_url(os.environ["BENCH_URL"])
    with redis_lock.Lock(client, "bench", expire=1, auto_renewal=True):
        while True:
            client.rpush("items", f"from {os.getpid()}")
            time.sleep(0.01)


if __name__ == "__main__":
    main()
