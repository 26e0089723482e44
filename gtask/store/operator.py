"""What commands ask of Redis: failed messages, and a look at everything."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gtask import forms
from gtask.exceptions import WrongType
from gtask.status import Status, status_of
from gtask.store import scripts
from gtask.store.server import REPLY_BYTES, Server
from gtask.text import to_bytes

REMOVE, STAY, RETRY_AS_IT_IS, RETRY = "-", "+", "=", ">"  # what becomes of a failed message (resolve.lua)


@dataclass(frozen=True)
class Rewound:
    """The answer to `rewind`. `busy`: refused, because somebody's flag lives on for so many seconds (negative: for
    ever); else the position before (None: there was none), and how many messages were deleted: of those that wait, that
    have failed, and that were to come again `later`. `misfit`: refused, because whoever stands at a position could not
    go on from the new one."""

    busy: float | None
    before: str | None = None
    waiting: int = 0
    failed: int = 0
    later: int = 0
    misfit: bool = False


class OperatorCalls(Server):
    """Each method is one attempt."""

    # -- failed messages

    def lock_errors(self, token: str, seconds: int) -> bool:
        """Takes or renews the right to take entries out of `errors` (lock.lua)."""
        answer = self._run(scripts.LOCK, (self.keys.reader,), token, seconds)
        if answer < 0:
            raise WrongType(f"{self.keys.reader} holds what never expires, and no gtask has set; delete it")
        return bool(answer)

    def unlock_errors(self, token: str) -> None:
        """Gives that right up."""
        self._run(scripts.LOCK, (self.keys.reader,), token, 0)

    def entries(self, start: int, count: int, reply_bytes: int = REPLY_BYTES) -> list[str]:
        """Entries of `errors`, oldest first; up to `count`, and no more after `reply_bytes`."""
        return list(self._run(scripts.READ, (self.keys.errors,), start, count, reply_bytes))

    def errors_length(self) -> int:
        """How many entries `errors` has."""
        with self._asking("_commands") as commands:
            return int(commands.llen(self.keys.errors))

    def resolve(self, token: str, seconds: int, fates: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
        """Deals with the first entries of `errors` (resolve.lua): each with REMOVE, STAY, RETRY_AS_IT_IS or RETRY and
        its message. How many it dealt with, and how many of these are not in `errors` any more; None when the right,
        which lives on for `seconds`, is another one's."""
        k = self.keys
        words: list[bytes] = []
        for entry, fate in fates:
            words += (hashlib.sha1(to_bytes(entry), usedforsecurity=False).hexdigest().encode(), to_bytes(fate))
        keys = (k.errors, k.reader, k.messages, k.totals, k.attempts)
        answer = self._run(scripts.RESOLVE, keys, token, seconds, *words)
        return None if answer is None else (int(answer[0]), int(answer[1]))

    # -- messages by hand

    def put(self, messages: Sequence[bytes]) -> int:
        """Puts messages at the tail of the queue, all or none (put.lua). Returns how many wait then. It must not be
        repeated after Unanswered, for they may be there."""
        return int(self._run(scripts.PUT, (self.keys.messages, self.keys.totals), *messages))

    # -- where generation stands

    def rewind(self, position: bytes | None, *, purge: bool = False, none_of: str = "") -> Rewound:
        """Sets the position from which the next generator goes on, or forgets it; `purge`: and deletes what waits and
        what has failed (rewind.lua). `none_of`: the function of this name cannot go on from there."""
        k = self.keys
        what: tuple[str | bytes, ...] = ("purge",) if purge else ("forget",)
        if position is not None:
            what = ("to", position, none_of) if none_of else ("to", position)
        keys = (k.flag, k.generator, k.messages, k.apart, k.errors, k.totals, k.later, k.attempts, k.suspects)
        answer = self._run(scripts.REWIND, keys, *what)
        if not answer:
            return Rewound(None, misfit=True)
        return Rewound(busy=answer[0] / 1000) if len(answer) == 1 else Rewound(None, *answer)

    # -- looking

    def snapshot(self) -> Status:
        """What `gtask status` shows, all of one moment."""
        k = self.keys
        keys = (k.flag, k.owner, k.generator, k.tasks, k.members, k.reaped, k.totals, k.messages, k.apart, k.errors,
                k.later)  # fmt: skip
        ids: list[str] = []
        while True:
            of_each = (*map(k.inflight, ids), *map(k.long, ids), *map(k.longest, ids))
            answer = self._run(scripts.STATUS, (*keys, *of_each), *ids)
            if len(answer) > 1:
                break
            [ids] = answer
            with self.understanding():
                for task_id in ids:
                    forms.task_id(task_id)
        with self.understanding():
            return status_of(answer)
