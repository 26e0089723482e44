"""Takes back what dead tasks held. Any living task does it; the reap script makes it once."""

import logging

from gtask.delivery import LARGE
from gtask.store import DEATHS_OF_POISON, Store
from gtask.text import failure_record

log = logging.getLogger(__name__)


def recover(store: Store, task_id: int) -> None:
    """Returns a dead task's messages to the queue. Raises Trouble; bears repeating.

    The failure record of a message that has killed its holders is written here and not by the script, because JSON
    of any bytes is Python's business; the script says when it needs one, and of which message.
    """
    reaped = store.reap(task_id)
    while reaped.poison:
        record = ""  # of a message so large that Redis might not take its record: the message as it is
        if reaped.poison_bytes <= LARGE:
            reason = f"killed the {DEATHS_OF_POISON} tasks that handled it"
            record = failure_record(store.first_held(task_id), reason, task_id)
        reaped = store.reap(task_id, reaped.poison, record if len(record) <= LARGE else "")
    if reaped.moved or reaped.poisoned:
        log.warning("task %d is dead; %d of its messages are back in the queue, %d in errors",
                    task_id, reaped.moved, reaped.poisoned)  # fmt: skip
