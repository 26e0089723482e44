"""Monkey-patching, in one place for both programs. Importing this module changes nothing."""

# ruff: noqa: PLC0415


def patch() -> None:
    """Makes the standard library cooperative. To be called before whatever opens sockets or starts threads is imported.

    gevent's own Queue is not the standard library's: it has no `mutex` and no condition variables, and its `maxsize`
    is None where the original says 0. Libraries that build on those (watchdog) die of it, while the original works
    well on patched locks. SimpleQueue is written in C and knows no patched lock, so that one has to be gevent's.
    """
    import queue

    import gevent.queue
    from gevent import monkey

    monkey.patch_all(queue=False)
    monkey.patch_item(queue, "SimpleQueue", gevent.queue.SimpleQueue)
