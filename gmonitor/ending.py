"""How a run of the monitor ends, and with which exit code. Pure: whoever applies events acts on what is said here."""

import errno
import signal
from dataclasses import dataclass
from typing import Any

from gmonitor.events import Ended, Failed, Finished, Pressed, Signalled
from gtask.exceptions import EXIT_OK, EXIT_OUTPUT, EXIT_READER_GONE, EXIT_SIGNAL_BASE, GtaskError
from gtask.protocol import SAME_WISH


class OutputLost(GtaskError):
    """Raised when stdout cannot be written, for another reason than a reader that is gone."""

    code = EXIT_OUTPUT


@dataclass
class Ending:
    """The one owner of the exit code.

    `tasks`: how many there are to be. `stays`: when all of them have ended by themselves, a person may still want to
    read why, so the end waits to be asked for.
    """

    tasks: int
    stays: bool
    begun: bool = False  # the tasks are to end
    hurried: bool = False  # and at once
    over: bool = False  # none is left, but for those in `left`
    left: tuple[int, ...] = ()  # pids that not even SIGKILL has ended
    code: int = EXIT_OK
    failure: GtaskError | None = None  # what has ended the run, with a code of its own
    _asked_at: float | None = None  # when a person first asked for the end
    _ended: int = 0  # tasks that have ended by themselves
    _first_bad_code: int = EXIT_OK  # of those, in the order of their ends

    @property
    def all_ended(self) -> bool:
        """Whether all tasks have ended by themselves."""
        return self._ended == self.tasks

    def apply(self, event: Any, at: float) -> None:
        """What this event means for the end; `at` is monotonic. Raises what a bug has raised."""
        match event:
            case Pressed("end"):
                self._asked(signal.SIGINT, at)
            case Signalled(signal.SIGINT | signal.SIGTERM | signal.SIGHUP as number):
                self._asked(number, at)
            case Failed(error):
                self._failed(error)
            case Ended(_, code) if not self.begun:
                self._ended += 1
                self._first_bad_code = self._first_bad_code or (EXIT_SIGNAL_BASE - code if code < 0 else code)
                if self.all_ended:
                    self.code = self._first_bad_code
                    self.begun = not self.stays
            case Finished(left):
                self.over, self.left = True, left

    def _asked(self, number: int, at: float) -> None:
        """A graceful end is wanted; when a person asks for it again, one without grace."""
        if number == signal.SIGHUP:
            self.code = EXIT_OK  # what could not be written to a terminal that hangs up is no error
        elif self._asked_at is not None and at - self._asked_at >= SAME_WISH:
            self.code = EXIT_SIGNAL_BASE + number
            self.hurried = True
        if self._asked_at is None:
            self._asked_at = at
        self.begun = True

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, GtaskError):
            self.failure = self.failure or error
        elif not isinstance(error, OSError):
            raise error
        elif not self.begun:
            if error.errno in (errno.EPIPE, errno.EIO):  # EIO: the terminal has hung up
                self.code = EXIT_READER_GONE
            else:
                self.failure = OutputLost(f"cannot write: {error.strerror}")
        self.begun = True
