"""Native threads of gtask's own, for what must not wait for users' code.

gevent's pool has ten threads, for whatever users' code gives it and for looking up names, that of Redis included.
While all ten are taken, no report would be written, and no lost connection be made again.
"""

import _socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from gevent import get_hub, getcurrent
from gevent.threadpool import ThreadPool

SIZE = 8  # a writer, a look-up for each connection; started when they are needed


def own_threads() -> ThreadPool:
    """The pool for the event loop of the thread that asks."""
    return _pool_of(get_hub())


@contextmanager
def looking_up_apart() -> Iterator[None]:
    """What this greenlet looks up meanwhile is looked up on a thread of ours."""
    hub = get_hub()
    if not isinstance(hub.resolver, _Resolver):
        hub.resolver = _Resolver(hub.resolver)
    greenlet, ours = getcurrent(), hub.resolver.ours
    ours.add(greenlet)
    try:
        yield
    finally:
        ours.discard(greenlet)


@cache
def _pool_of(hub: Any) -> ThreadPool:
    return ThreadPool(SIZE, hub)


class _Resolver:
    """gevent's resolver, whichever was chosen, but for the greenlets in `ours`."""

    def __init__(self, theirs: Any) -> None:
        self._theirs = theirs
        self.ours: set[Any] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)

    def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        """As socket.getaddrinfo, without stopping the other greenlets. Raises OSError."""
        if getcurrent() not in self.ours:
            return self._theirs.getaddrinfo(*args, **options)
        found = own_threads().apply(_look_up, args, options)
        if isinstance(found, OSError):
            raise found
        return found


def _look_up(*args: Any, **options: Any) -> Any:
    """Its error is returned: gevent prints a traceback for one that is raised in a thread."""
    try:
        return _socket.getaddrinfo(*args, **options)
    except OSError as error:
        return error
