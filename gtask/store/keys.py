"""Every key. What each of them holds, and who writes and reads it, stands in docs/architecture.md, which a test
compares with this."""


class Keys:
    """Every key, with the namespace before it."""

    def __init__(self, namespace: str) -> None:
        prefix = f"{namespace}:" if namespace else ""
        # the source's
        self.task_id = prefix + "taskId"
        self.flag = prefix + "generatorIsActive"
        self.messages = prefix + "messages"
        self.errors = prefix + "errors"
        # ours
        self.owner = prefix + "generatorId"
        self.generator = prefix + "generator"
        self.tasks = prefix + "tasks"
        self.reaped = prefix + "tasks:reaped"
        self.resumed = prefix + "tasks:resumed"
        self.members = prefix + "tasks:members"
        self.claims = prefix + "tasks:claims"
        self.suspects = prefix + "messages:suspects"
        self.apart = prefix + "messages:apart"
        self.later = prefix + "messages:later"
        self.attempts = prefix + "messages:attempts"
        self.totals = prefix + "totals"
        self.reader = prefix + "errors:reader"
        self._inflight = prefix + "inflight:"
        self._long = prefix + "tasks:long:"
        self._longest = prefix + "tasks:longest:"
        self.channel = self.flag  # pub/sub: the flag was given up

    def inflight(self, task_id: int | str) -> str:
        """The list of messages in the hands of a task."""
        return f"{self._inflight}{task_id}"

    def long(self, task_id: int | str) -> str:
        """A hash: those of them that take so long that the list is better off without them (call.lua)."""
        return f"{self._long}{task_id}"

    def longest(self, task_id: int | str) -> str:
        """A string, JSON of a message and seconds: the one at which a task has been for longest, while that is long."""
        return f"{self._longest}{task_id}"
