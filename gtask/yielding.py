"""How loops that never wait let other greenlets run. gevent.sleep(0) is not enough for that."""

import gevent
from gevent import get_hub

SLICE = 0.005  # seconds: no loop runs longer without letting others run, the heartbeat among them


def let_others_run() -> None:
    """Lets the event loop turn once: it looks at sockets and timers, and every other greenlet runs.

    After sleep(0) gevent would run 50 turns before it looks at clock and sockets again. If each turn computes for 20
    ms, a heartbeat waits 2 s for its answer. An idle watcher makes the loop look at once, without waiting. It has the
    highest priority, because otherwise the caller would not run again while sockets are never quiet.
    """
    gevent.idle(get_hub().loop.MAXPRI)
