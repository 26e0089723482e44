"""Whose turn it is to talk to Redis about the messages in hand.

Locks are taken in this order: a Turn or the Election's lock, but never both; then the Membership's; then redis-py's, of
which each connection has one. Whoever holds a lock waits only for those that come later. So what Membership calls when
it has joined, under its lock, must take neither of the first two.
"""

from types import TracebackType

import gevent
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original

AGAIN = 0.002  # seconds until a greenlet looks again whether the native thread is done


class Turn:
    """Sees to it that a task's numbered calls follow one another, whoever makes them.

    Greenlets wait here for each other (`with turn:`). The native thread, which acts while the event loop is held, never
    waits: a greenlet that has its turn cannot go on before the loop turns, so the thread could wait for ever.
    """

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
        """Takes the turn for the native thread, until `give_up`, unless a greenlet has it. Returns whether it did."""
        return bool(self._free.acquire(False))

    def give_up(self) -> None:
        """Ends the native thread's turn."""
        self._free.release()
