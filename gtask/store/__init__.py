"""All that is asked of Redis. This package alone knows its keys and commands, and imports redis.

Each method of a Store is one attempt. It raises Trouble when Redis does not answer or cannot just now (ask again, see
outage.py), NotMember when Redis does not know the task, WrongType when a key holds something else.
"""

from gtask.store.answers import NOTHING_CAME, Beat, Came, Claimed, Member, Postponed, Reaped, Settled, Suspects
from gtask.store.connection import backoff
from gtask.store.keys import Keys
from gtask.store.operator import REMOVE, RETRY, RETRY_AS_IT_IS, STAY, OperatorCalls
from gtask.store.server import REPLY_BYTES
from gtask.store.tasks import ALWAYS_ACCEPTED, DEATHS_OF_POISON, LATEST_BLMOVE, TaskCalls

__all__ = [
    "ALWAYS_ACCEPTED", "DEATHS_OF_POISON", "LATEST_BLMOVE", "NOTHING_CAME", "REMOVE", "REPLY_BYTES", "RETRY",
    "RETRY_AS_IT_IS", "STAY", "Beat", "Came", "Claimed", "Keys", "Member", "Postponed", "Reaped", "Settled", "Store",
    "Suspects", "backoff",
]  # fmt: skip


class Store(TaskCalls, OperatorCalls):
    """What tasks and commands ask of Redis."""
