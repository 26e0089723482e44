"""One Redis, and whether a task can work with it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from gtask import forms
from gtask.exceptions import Forbidden, Refused, Trouble, Unreachable, WrongType
from gtask.store import scripts
from gtask.store.causes import explained
from gtask.store.connection import Connections
from gtask.store.keys import Keys
from gtask.text import printable

OLDEST_SERVER = (6, 2)  # LMOVE, BLMOVE and LPOP with a count came with it
REPLY_BYTES = 1 << 20  # a batch ends after about this much


class Server(Connections):
    """The connections to one Redis, and the names of its keys."""

    def __init__(self, url: str, namespace: str, *, heartbeat: float = 1, wait: float = 5) -> None:
        """Connects to nothing yet. `heartbeat` and `wait` in seconds. Raises UsageError for a bad URL."""
        super().__init__(url, heartbeat=heartbeat, wait=wait)
        self.keys = Keys(namespace)
        self._heartbeat = heartbeat

    def connect(self) -> None:
        """Opens the command connection and looks at the server.

        Raises Unreachable (no server, or one older than 6.2), Refused (credentials, permissions) and UsageError (a
        database or a file that does not exist).
        """
        self.look_at_files()
        try:
            try:
                self._commands.exists(self.keys.task_id)
            except MovedError as error:
                self._follow(error, "_commands")
                self._commands.exists(self.keys.task_id)
        except NoPermissionError:
            return  # the first command shows what works
        except (RedisError, OSError) as error:
            raise explained(error, self.address) from None
        with suppress(Trouble):  # INFO is not permitted, or Redis is lost again
            self._check_version(str(self._info("server")["redis_version"]))

    def _check_version(self, version: str) -> None:
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
            raise Unreachable(f"Redis at {self.address} is {version}; gtask needs 6.2 or newer")

    def _info(self, section: str) -> dict[str, Any]:
        with self._asking("_commands") as commands:
            return dict(commands.info(section))

    def check_commands(self) -> None:
        """Raises Refused when this server lacks a command, or this user may not run scripts or read the queue."""
        what = "a task needs scripts, lists, hashes and sorted sets"
        try:
            if missing := self._missing_commands():
                raise Refused(f"Redis at {self.address} lacks {', '.join(missing)} (renamed or disabled); {what}")
            with self._asking("_commands") as commands:  # not by its digest: Redis may forget it at any time
                commands.eval(scripts.POP.text, 2, self.keys.messages, self.keys.apart, 0, REPLY_BYTES)
        except Forbidden as error:
            raise Refused(f"Redis at {self.address} refuses: {error}; {what}") from None
        except Trouble:
            return  # lost again, or full: the task meets it too, and waits

    def _missing_commands(self) -> list[str]:
        with self._asking("_commands") as commands, suppress(ResponseError):  # COMMAND itself may be missing
            commands.connection.send_command("COMMAND", "INFO", *scripts.NEEDED)
            answer = commands.connection.read_response()
            return [name for name, known in zip(scripts.NEEDED, answer, strict=True) if not known]
        return []

    def eviction_policy(self) -> str:
        """The server's maxmemory-policy; what is not `noeviction` may evict messages. "" when unknown."""
        try:
            return str(self._info("memory").get("maxmemory_policy", ""))
        except Forbidden:
            return ""

    def blame(self, what: str) -> WrongType:
        """The same, and it names the key."""
        with suppress(RedisError, OSError):
            if culprit := forms.misfit(self._commands, self.keys):
                return WrongType(
                    f"{culprit}. Does another program use this key? Then choose others with --namespace NAME; if none "
                    "does, set it right or delete it"
                )
        return super().blame(what)

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Around what takes an answer apart. Raises WrongType where something has not the form that gtask gives it."""
        try:
            yield
        except ValueError as error:
            raise self.blame(f"Redis holds what no gtask has written: {printable(str(error)[:60])!r}") from error
