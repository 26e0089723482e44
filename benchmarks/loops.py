"""What the client library can carry: bare redis-py loops, without anything that makes a task of them.

    python -m benchmarks.loops NAME URL

One fixed connection, hiredis, bytes that nobody looks at: each is as fast as we could make it. They are told through
the environment as stopwatch.py says.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

# The least that is at-least-once: forget the finished batch, move the next one to the in-flight list.
CLAIM = """
redis.call('DEL', KEYS[2])
local batch = redis.call('LPOP', KEYS[1], ARGV[1])
if not batch then return {} end
redis.call('RPUSH', KEYS[2], unpack(batch))
return batch
"""

Step = Callable[[], int]  # one round trip: how many messages it moved


def lpop(client: Any, size: int) -> Step:
    """`LPOP messages <size>`."""
    return lambda: len(client.lpop("messages", size))


def claim(client: Any, size: int) -> Step:
    """A script that acknowledges a batch and claims the next one."""
    script = client.register_script(CLAIM)
    return lambda: len(script(keys=("messages", "inflight:1"), args=(size,)))


def blpop(client: Any, size: int) -> Step:
    """`BLPOP messages 1`, one message each."""
    return lambda: client.blpop("messages", 1) is not None


def rpush(client: Any, size: int) -> Step:
    """`RPUSH messages` with <size> values."""
    values = [f"message-{number:08d}" for number in range(size)]
    return lambda: client.rpush("messages", *values) and size


# name: how a step is made, its batch, under gevent?
LOOPS = {
    "lpop-100": (lpop, 100, False),
    "lpop-1000": (lpop, 1000, False),
    "lpop-100-gevent": (lpop, 100, True),
    "claim-100": (claim, 100, True),
    "claim-1000": (claim, 1000, True),
    "blpop": (blpop, 1, True),
    "rpush-100": (rpush, 100, False),
    "rpush-1000": (rpush, 1000, False),
}


def main(name: str, url: str) -> None:
    """Runs one loop."""
    make, size, patched = LOOPS[name]
    if patched:
        from gevent import monkey

        monkey.patch_all()
    import redis

    from benchmarks.stopwatch import mark

    step = make(redis.Redis.from_url(url, protocol=2, single_connection_client=True), size)
    left = int(os.environ["BENCH_MESSAGES"])
    mark("first")
    while left > 0:
        left -= step()
    mark("last")


if __name__ == "__main__":
    main(*sys.argv[1:])
