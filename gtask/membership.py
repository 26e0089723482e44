"""This process's place among the tasks: its id, and a new one when it was taken for dead."""

import json
import os
import socket
import uuid
from collections.abc import Callable

from gevent.lock import RLock

from gtask.exceptions import NotMember
from gtask.store import Member, Store


class Membership:
    """Owner of the task's id. `member` is replaced as a whole, so whoever holds an old one can tell."""

    def __init__(self, store: Store, heartbeat: float, wait: float, generate: str) -> None:
        """`heartbeat`: T in seconds. `wait`: how long a BLMOVE may go on. `generate`: the function's name, for the demo
        and one's own functions must not share keys. Joins nothing yet."""
        self._store = store
        self._joining = RLock()
        self._ending = False
        self._entering: Member | None = None  # asked to join, and no answer came yet
        self._what = {
            "host": socket.gethostname(), "pid": os.getpid(), "heartbeat": heartbeat, "wait": wait,
            "generate": generate,
        }  # fmt: skip
        self.member = Member(0, "")  # of nothing yet
        self.on_join: Callable[[Member], object] = lambda member: None  # is called with each new one

    def first_join(self) -> None:
        """Takes this process's first id."""
        self.join(instead_of=self.member)

    def close(self) -> None:
        """No more ids are taken, because the task is ending. A new one would stay in Redis as a task that nobody
        runs."""
        self._ending = True

    def join(self, instead_of: Member, *, to_store: bool = False) -> Member:
        """Takes a new id, unless another greenlet has done it since `instead_of` was seen. Whatever the old member
        held belongs to the queue again. Returns the present member.

        After `close` it joins only `to_store` what would be lost otherwise, and raises NotMember if not. Raises
        Trouble; bears repeating.
        """
        with self._joining:
            if self.member is instead_of:
                if self._ending and not to_store:
                    raise NotMember
                self.member = self._enter()
                self.on_join(self.member)
            return self.member

    def _enter(self) -> Member:
        """Joins with the next free number. After Trouble the same one is asked for again, since perhaps only the reply
        was lost: a slow Redis burns no numbers."""
        while True:
            member = self._entering = self._entering or Member(self._store.next_id(), self._record())
            try:
                self._store.beat(member, join=True)
            except NotMember:  # another task has this number, because the counter was lost
                self._entering = None
            else:
                self._entering = None
                return member

    def _record(self) -> str:
        """Unlike any other's, this process's own under another id included: so a call of an old membership that arrives
        late is never taken for one of the new."""
        return json.dumps({**self._what, "nonce": uuid.uuid4().hex})
