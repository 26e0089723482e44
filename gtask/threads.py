"""Native threads of gtask's own, for what must not wait for users' code.

gevent's pool has ten threads. They serve whatever users' code gives them, and they look up host names, that of Redis
included. While users' code keeps all ten busy, no report would be written there, and no lost connection opened again.
"""

import _socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from gevent import get_hub, getcurrent
from gevent.threadpool import ThreadPool

SIZE = 8  # one writes reports, and each connection may need one to look up a name; they start when they are needed


def own_threads() -> ThreadPool:
    """The pool for the event loop of the thread that asks."""
    return _pool_of(get_hub())


@contextmanager
def looking_up_apart() -> Iterator[None]:
    """Within this context the host names that this greenlet asks for are looked up in our threads."""
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
    """Stands before gevent's resolver, whichever was chosen, and serves only the greenlets in `ours` itself."""

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
    """The addresses, or the error. It is not raised, because gevent prints a traceback for what a thread raises."""
    try:
        return _socket.getaddrinfo(*args, **options)
    except OSError as error:
        return error
