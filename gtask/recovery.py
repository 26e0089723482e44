"""The actor for the dead: takes back what dead tasks held. Any living task does it; the reap script makes it once."""

import logging
from functools import partial

from gevent.event import Event

from gtask.outage import Line
from gtask.outcome import LARGE
from gtask.store import DEATHS_OF_POISON, Store
from gtask.text import failure_record

log = logging.getLogger(__name__)


def recover(store: Store, task_id: int) -> None:
    """Returns a dead task's messages to the queue. Raises Trouble; bears repeating.

    The script moves messages, and says when it needs the failure record of a message that has killed its holders. The
    record is made here, because Lua cannot write JSON of any bytes.
    """
    reaped = store.reap(task_id)
    while reaped.poison:
        record = ""  # this stores the message as it is, for of a large one Redis might not take the record
        if reaped.poison_bytes <= LARGE:
            reason = f"killed the {DEATHS_OF_POISON} tasks that handled it"
            record = failure_record(store.first_held(task_id), reason, task_id)
        reaped = store.reap(task_id, reaped.poison, record if len(record) <= LARGE else "")
    if reaped.moved or reaped.poisoned:
        log.warning("task %d is dead; of its messages %d went back to the queue, %d into errors",
                    task_id, reaped.moved, reaped.poisoned)  # fmt: skip


class Recovery:
    """Looks after the ids that it is told of, one after the other: those of tasks that look dead, and this task's own
    former ones, to whose lists a message may have come late."""

    def __init__(self, line: Line) -> None:
        """Looks after nobody yet."""
        self._line = line
        self._ids: set[int] = set()
        self._told = Event()

    def look_after(self, *task_ids: int) -> None:
        """Somebody may be dead. Does not wait; an id of which it knows already is nothing new."""
        self._ids.update(task_ids)
        if task_ids:
            self._told.set()

    def step(self) -> None:
        """Waits until there is somebody, and recovers all of them. Raises Trouble when Redis does not answer until the
        end."""
        self._told.wait()
        self._told.clear()
        while self._ids:
            task_id = min(self._ids)
            self._line.ask(partial(recover, task_id=task_id))
            self._ids.discard(task_id)

    def run(self) -> None:
        """Until Redis does not answer until the end."""
        while True:
            self.step()
