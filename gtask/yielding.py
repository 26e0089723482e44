"""Letting the others run, for loops that never wait: gevent.sleep(0) is not enough."""

import gevent
from gevent import get_hub

SLICE = 0.005  # seconds: nothing runs longer without letting the heartbeat run


def let_others_run() -> None:
    """One turn of the event loop: sockets and timers are looked at, and every other greenlet runs.

    With sleep(0) gevent runs 50 turns before it looks at clock and sockets again: where each turn computes for
    20 ms, a heartbeat waits 2 s for its answer. An idle watcher makes the loop poll, without waiting; its priority,
    the highest, keeps the caller's turn while sockets are never quiet.
    """
    gevent.idle(get_hub().loop.MAXPRI)
