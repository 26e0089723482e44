"""Whose turn it is to talk to Redis about the messages in hand."""

from types import TracebackType

import gevent
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original

AGAIN = 0.002  # seconds until a greenlet looks again whether the native thread is done


class Turn:
    """Numbered calls follow one another, whoever makes them. Greenlets wait here for each other (`with turn:`); the
    native thread, which acts while the event loop is held, comes in only when none of them is at it."""

    def __init__(self) -> None:
        self._greenlets = BoundedSemaphore(1)
        self._free = get_original("_thread", "allocate_lock")()

    def __enter__(self) -> None:
        self._greenlets.acquire()
        try:
            while not self._free.acquire(False):
                gevent.sleep(AGAIN)
        except BaseException:
            self._greenlets.release()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._free.release()
        self._greenlets.release()

    def take_if_free(self) -> bool:
        """For the native thread. Whether it is its turn now, until `give_up`."""
        return bool(self._free.acquire(False))

    def give_up(self) -> None:
        """The native thread is done."""
        self._free.release()
