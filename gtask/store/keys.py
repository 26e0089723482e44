"""Every key."""


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
        # hash: term, step, generated, last, pushed_at, ended; after failed terms: failures, failed, retry_at, error
        self.generator = prefix + "generator"
        self.tasks = prefix + "tasks"
        self.reaped = prefix + "tasks:reaped"  # sorted set: dead taskId -> the next look at its list (reap.lua)
        self.resumed = prefix + "tasks:resumed"  # while it lives, nobody is called dead (beat.lua)
        self.members = prefix + "tasks:members"  # hash: taskId -> JSON of host, pid, heartbeat, nonce
        self.claims = prefix + "tasks:claims"  # hash: taskId -> its last numbered call (claim.lua)
        self.suspects = prefix + "messages:suspects"  # hash: SHA-1 of a message -> stage, own deaths (reap.lua)
        self.apart = prefix + "messages:apart"  # list: suspects that wait for a task with empty hands (claim.lua)
        self.later = prefix + "messages:later"  # sorted set: "ordinal message" -> when it comes again (due.lua)
        self.attempts = prefix + "messages:attempts"  # hash: SHA-1 of a message -> attempts, failures (claim.lua)
        self.totals = prefix + "totals"
        self.reader = prefix + "errors:reader"  # lock of getErrors and retryErrors
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
