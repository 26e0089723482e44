"""The file of --log: the tasks' stderr."""

from collections.abc import Callable

from gtask.exceptions import UsageError


class TaskLog:
    """A file that grows; an error of writing is told once, and the tasks go on. Raises UsageError."""

    def __init__(self, name: str, complain: Callable[[str], None]) -> None:
        self._name = name
        self._complain = complain
        self._failed = False
        try:
            self._file = open(name, "ab", buffering=0)  # noqa: SIM115  # as long as we are there
        except OSError as error:
            raise UsageError(f"--log: cannot write {name}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Appends these lines."""
        try:
            self._file.write(data)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._complain(f"cannot write {self._name}: {error.strerror}")
