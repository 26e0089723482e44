"""The connections to Redis, and what its errors mean. Only this file and store.py import redis.

redis-py is used against its defaults, for reasons measured in 8.1:
- it retries by itself, and a retried RPUSH, INCR or BLPOP runs twice or loses a message: no retry here;
- a pool polls its socket before each command (5 times slower): fixed single-connection clients instead;
- a BLPOP as long as the socket's timeout always fails: the blocking connection waits 2 s longer;
- its Script loads a script and then calls it, and another program's SCRIPT FLUSH may come between: EVAL does both;
- maintenance notifications cost a failing command at each connect: off.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import redis
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.connection import parse_url
from redis.driver_info import DriverInfo
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from gtask import strays
from gtask.exceptions import Forbidden, Trouble, UsageError, WrongType
from gtask.urls import masked

CONNECT_TIMEOUT = 3.0
COMMAND_TIMEOUT = 5.0
SPARE = 2.0  # seconds that the answer to a blocking command may be late

# Errors that pass by themselves: a failover, a full or loading server, a script that runs too long. redis-py takes the
# first word out of the text of those for which it has a class, but not where a script's error quotes them.
_PASSING = ("LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOPERM",
            "NOAUTH", "ACL failure", "can't run this command")  # fmt: skip
_PASSING_CLASSES = (OutOfMemoryError, ClusterDownError, TryAgainError, NoPermissionError)
_NOT_THE_PRIMARY = ("READONLY", "UNBLOCKED")
# Taken from a URL's query they would undo the choices above.
_NOT_FROM_URL = {"retry", "retry_on_timeout", "retry_on_error", "socket_timeout", "socket_connect_timeout", "protocol",
                 "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout",
                 "health_check_interval", "single_connection_client"}  # fmt: skip

_BACKOFF = EqualJitterBackoff(cap=1.0, base=0.05)


def backoff(failures: int) -> float:
    """Seconds until the next try, with jitter: a fleet must not come back all at once."""
    return _BACKOFF.compute(failures)


class Script:
    """A Lua script and the digest under which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Connections:
    """One process's connections to Redis: heartbeat, commands, blocking pop, notices."""

    def __init__(self, url: str, *, heartbeat: float, wait: float) -> None:
        """Connects to nothing yet. `heartbeat` and `wait` in seconds. Raises UsageError for a bad URL."""
        self.address = masked(url)
        self._wait = wait
        # A heartbeat must be over, and its repeat too, while the flag lives.
        self._heart_timeout = max(0.5, heartbeat / 2)
        self._blocking_id: int | None = None
        try:
            self._options = {k: v for k, v in _parse_url(url).items() if k not in _NOT_FROM_URL}
            self._pool(COMMAND_TIMEOUT).make_connection()
        except (ValueError, TypeError, RedisError):  # their texts repeat what stands there
            raise UsageError(
                f"--redis {self.address}: an option after the ? is unknown or has no possible value"
            ) from None

    def close(self) -> None:
        """Closes what is open. It can be used again."""
        for name in ("_heart", "_commands", "_blocking", "_listener"):
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()
                client.connection_pool.disconnect()

    # -- clients

    def _pool(self, timeout: float | None, **options: Any) -> redis.ConnectionPool:
        fixed = {
            "protocol": 2,
            "driver_info": _DRIVER,
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout or CONNECT_TIMEOUT,
            "decode_responses": True,
            "encoding_errors": "surrogateescape",
        }
        return redis.ConnectionPool(**{**self._options, **fixed, **options})

    def _client(self, timeout: float | None, **options: Any) -> Any:
        """A client with one connection, which is opened here and again after each loss."""
        return redis.Redis(connection_pool=self._pool(timeout, **options), single_connection_client=True)

    @cached_property
    def _heart(self) -> Any:
        return self._client(self._heart_timeout)

    @cached_property
    def _commands(self) -> Any:
        return self._client(COMMAND_TIMEOUT)

    @cached_property
    def _blocking(self) -> Any:
        return self._client(self._wait + SPARE, socket_connect_timeout=CONNECT_TIMEOUT, redis_connect_func=self._greet)

    @cached_property
    def _listener(self) -> Any:
        return redis.Redis(connection_pool=self._pool(None))

    def _greet(self, connection: Any) -> None:
        """Remembers the id under which this connection's blocking command can be ended."""
        connection.on_connect()
        connection.send_command("CLIENT", "ID")
        self._blocking_id = connection.read_response()

    # -- calls

    @contextmanager
    def _asking(self, name: str) -> Iterator[Any]:
        """The client `name`, with redis-py's errors as ours.

        It starts anew where the server is not the right one any more: a demoted primary still answers, but its
        name may belong to another by now; a Redis Cluster says where the namespace's slot is.
        """
        try:
            yield getattr(self, name)  # which connects when it is the first time
        except MovedError as error:
            self._follow(error, name)
            raise Trouble(f"the keys are at {error.host}:{error.port}") from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise Trouble(reason(error)) from error
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or any(word in str(error) for word in _NOT_THE_PRIMARY):
                self._drop(name)
            elif not any(word in str(error) for word in _PASSING) and not isinstance(error, _PASSING_CLASSES):
                hint = "does another program use these keys? see --namespace"
                raise WrongType(f"Redis: {reason(error)}; {hint}") from error
            trouble = Forbidden if isinstance(error, NoPermissionError) else Trouble
            raise trouble(reason(error)) from error
        except RedisError as error:
            raise Trouble(reason(error)) from error

    def _follow(self, error: MovedError, name: str) -> None:
        self._options |= {"host": error.host, "port": error.port}
        self._drop(name)

    def _drop(self, name: str) -> None:
        """The next use makes a new client. The old one is not closed under whoever still waits for its reply."""
        self.__dict__.pop(name, None)

    def _run(self, script: Script, keys: Sequence[str], *args: Any, client: str = "_commands") -> Any:
        with self._asking(client) as asked:
            try:
                return asked.evalsha(script.digest, len(keys), *keys, *args)
            except NoScriptError:
                return asked.eval(script.text, len(keys), *keys, *args)

    def _block(self, *command: str) -> Any:
        """The reply of a command that waits in Redis.

        A task that was stopped for so long finds two things when it goes on: its time is over, and the reply is
        here. redis-py looks at the time first, and would throw the reply away with its message.
        """
        with self._asking("_blocking") as blocking:
            connection = blocking.connection
            try:
                connection.send_command(*command)
                if self._comes(connection) or connection.can_read(0):
                    return connection.read_response()
                raise redis.TimeoutError(f"no answer to {command[0]}")
            except BaseException:
                connection.disconnect()  # what it still brings is no answer to the next command
                raise

    def _comes(self, connection: Any) -> bool:
        """Whether an answer comes in time. What users' code throws into the greenlet that waits does not end the wait:
        it would throw the answer away, with its message."""
        while True:
            try:
                return bool(connection.can_read(self._wait + SPARE))
            except Exception:
                raise
            except BaseException as error:
                strays.say(error)


def reason(error: BaseException) -> str:
    """The error's text in one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_parse_url: Any = parse_url  # redis-py leaves it untyped

_DRIVER = DriverInfo()  # made once: redis-py looks its own version up for each connection, which takes 2 ms
