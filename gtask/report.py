"""What a task tells its monitor, and when: absolute totals, at most each 500 ms.

Only the writer touches the output. It writes in a native thread, so that a reader that stands still holds up neither
the heartbeat nor the handlers. The totals grow meanwhile, and are sent when it reads again.
"""

import select
from collections import deque
from collections.abc import Callable
from time import monotonic

from gevent.event import Event
from gevent.monkey import get_original

from gtask.protocol import CreatedTaskId, Generated, Processed, Report, SwitchedToGenerator, Totals, encode
from gtask.stdio import write_all

INTERVAL = 0.5  # seconds between two reports of totals


class Reporter:
    """Turns totals and changes of role into reports. Writer says when and where they go."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._queue: deque[Report] = deque()  # changes of role, in order
        self._generating = False
        self._sent_generated = 0
        self._sent_processed = (0, 0)
        self.changed = Event()

    def created(self, task_id: int) -> None:
        """The task has its id."""
        self._say(CreatedTaskId(task_id))

    def generating(self) -> None:
        """The task has become the generator: its last totals as a handler go first."""
        if not self._generating:
            self._generating = True
            self._queue.extend(self._processed())
            self._say(SwitchedToGenerator())

    def handling(self) -> None:
        """The task is a handler again. The protocol has no message for it, so a `processed` is sent in any case."""
        if self._generating:
            self._generating = False
            self._queue.extend(self._generated())
            self._sent_processed = (-1, -1)
            self._queue.extend(self._processed())
            self.changed.set()

    def due(self, *, totals: bool, final: bool = False) -> list[Report]:
        """The reports to send now. Changes of role are always among them.

        `totals`: it is time for the totals of the present role. `final`: those of the other role are sent too.
        """
        reports = list(self._queue)
        self._queue.clear()
        if totals and (self._generating or final):
            reports += self._generated()
        if totals and (not self._generating or final):
            reports += self._processed()
        return reports

    def _say(self, report: Report) -> None:
        self._queue.append(report)
        self.changed.set()

    def _generated(self) -> list[Report]:
        total = self._totals.generated
        if total == self._sent_generated:
            return []
        self._sent_generated = total
        return [Generated(total)]

    def _processed(self) -> list[Report]:
        totals = (self._totals.processed, self._totals.errors)
        if totals == self._sent_processed:
            return []
        self._sent_processed = totals
        return [Processed(*totals)]


class Writer:
    """Sends a reporter's reports to a file descriptor until it is told to stop."""

    def __init__(self, reporter: Reporter, fd: int, on_failure: Callable[[OSError], None]) -> None:
        """`on_failure` is called once, when the output cannot be written any more."""
        self._reporter = reporter
        self._fd = fd
        self._on_failure = on_failure
        self._stopping = Event()

    def run(self) -> None:
        """Writes until `stop` is called, and then what is left."""
        changed = self._reporter.changed
        totals_at = monotonic()
        try:
            while not self._stopping.is_set():
                totals = monotonic() >= totals_at
                if totals:
                    totals_at = monotonic() + INTERVAL
                self._send(self._reporter.due(totals=totals))
                changed.wait(max(0.0, totals_at - monotonic()))
                changed.clear()
                if _nobody_reads(self._fd):
                    raise BrokenPipeError
            self._send(self._reporter.due(totals=True, final=True))
        except OSError as error:
            self._on_failure(error)

    def stop(self) -> None:
        """Makes `run` send the last totals and return."""
        self._stopping.set()
        self._reporter.changed.set()

    def _send(self, reports: list[Report]) -> None:
        write_all(self._fd, b"".join(map(encode, reports)))


def _nobody_reads(fd: int) -> bool:
    """Whether the reader has closed its end. Writing would tell too, but a task may have nothing to write for long."""
    poll = get_original("select", "poll")()
    poll.register(fd, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
