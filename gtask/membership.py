"""This process's place among the tasks: its id, and a new one when it was taken for dead."""

import json
import os
import socket
import uuid
from collections.abc import Callable

from gevent.lock import RLock
from gevent.monkey import get_original

from gtask.exceptions import NotMember
from gtask.store import Member, Store

_thread_ident = get_original("_thread", "get_ident")


class Membership:
    """Owner of the task's id. `member` is replaced as a whole, so whoever holds an old one can tell."""

    def __init__(self, store: Store, heartbeat: float, wait: float, generate: str) -> None:
        """`heartbeat`: T in seconds. `wait`: how long a BLMOVE may go on. `generate`: the function's name, for the demo
        and one's own functions must not share keys. Joins nothing yet."""
        self._store = store
        self._thread = _thread_ident()
        self._joining = RLock()
        self._ending = False
        self._entering: Member | None = None  # asked to join, and no answer came yet
        self._record = json.dumps({
            "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": heartbeat, "wait": wait,
            "generate": generate, "nonce": uuid.uuid4().hex,
        })  # fmt: skip
        self.member = Member(0, self._record)
        self.on_join: list[Callable[[Member], None]] = []

    def first_join(self) -> None:
        """Takes this process's first id."""
        self.join(instead_of=self.member)

    def close(self) -> None:
        """The task is ending: an id taken now would be burnt, and stay in Redis as a task that nobody runs."""
        self._ending = True

    def join(self, instead_of: Member, *, to_store: bool = False) -> bool:
        """Takes a new id, unless another greenlet has done it since `instead_of` was seen. Whatever the old member
        held belongs to the queue again.

        After `close` it joins only `to_store` what would be lost otherwise. Returns whether there is a member other
        than `instead_of` now. Raises Trouble; bears repeating. A native thread gets NotMember: greenlets have to do it.
        """
        if _thread_ident() != self._thread:
            if self.member is instead_of:
                raise NotMember
            return True
        with self._joining:
            if self.member is not instead_of:
                return True
            if self._ending and not to_store:
                return False
            self.member = self._enter()
            for listener in self.on_join:
                listener(self.member)
            return True

    def _enter(self) -> Member:
        """Joins with the next free number. After Trouble the same one is asked for again, since perhaps only the reply
        was lost: a slow Redis burns no numbers."""
        while True:
            member = self._entering = self._entering or Member(self._store.next_id(), self._record)
            try:
                self._store.beat(member, join=True)
            except NotMember:  # another task has this number, because the counter was lost
                self._entering = None
            else:
                self._entering = None
                return member
