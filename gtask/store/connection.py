"""The connections to Redis, and the calls over them.

redis-py is used against its defaults, for reasons measured in 8.1:
- it retries by itself, and a retried RPUSH, INCR or BLPOP runs twice or loses a message: no retry here;
- a pool polls its socket before each command (5 times slower): fixed single-connection clients instead;
- a BLPOP as long as the socket's timeout always fails: the blocking connection waits 2 s longer;
- its Script loads a script and then calls it, and another program's SCRIPT FLUSH may come between: EVAL does both;
- maintenance notifications cost a failing command at each connect: off.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import redis
from gevent.monkey import get_original
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.connection import Connection, UnixDomainSocketConnection, parse_url
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
from gtask.exceptions import Forbidden, Full, Rejected, Trouble, Unanswered, UsageError, WrongType
from gtask.store.causes import is_unknown_command, lacks, reason
from gtask.store.links import CLASSES, Patience, tcp_options
from gtask.store.scripts import Script
from gtask.text import NO_UTF8
from gtask.urls import masked

CONNECT_TIMEOUT = 2.0
COMMAND_TIMEOUT = 5.0
LONGEST_HEARTBEAT = 2.0  # seconds: a heartbeat never waits longer for its answer, so a slower link cannot be used
KEEP = 2.0  # seconds: a connection that nobody has needed for so long is used, so that no firewall forgets it
SPARE = 2.0  # seconds: the answer to a blocking command may be so much later than the end of its wait

# Errors that pass by themselves: a failover, a full or loading server, a script that runs too long. redis-py takes the
# first word out of the text of those for which it has a class, but not where a script's error quotes them.
_FULL = "OOM"
_PASSING = (_FULL, "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOAUTH",
            "NOPERM", "ACL failure", "can't run this command")  # fmt: skip
_PASSING_CLASSES = (OutOfMemoryError, ClusterDownError, TryAgainError)
_PROTOCOL_ERROR = "Protocol error"  # the call is larger than the server permits, which never passes by itself
_NOT_THE_PRIMARY = ("READONLY", "UNBLOCKED")
# Options that a URL's query must not set, because they would undo the choices above.
_NOT_FROM_URL = {"retry", "retry_on_timeout", "retry_on_error", "socket_timeout", "socket_connect_timeout", "protocol",
                 "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout",
                 "health_check_interval", "single_connection_client"}  # fmt: skip

# The options of a URL that name a file or folder.
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_CLIENTS = ("_heart", "_commands", "_blocking", "_listener")

_BACKOFF = EqualJitterBackoff(cap=1.0, base=0.05)


def backoff(failures: int) -> float:
    """Seconds until the next try. They vary by chance, because a fleet must not come back all at once."""
    return _BACKOFF.compute(failures)


class Connections:
    """One process's connections to Redis: heartbeat, commands, blocking pop, notices."""

    def __init__(self, url: str, *, heartbeat: float, wait: float) -> None:
        """Connects to nothing yet. `heartbeat` and `wait` in seconds. Raises UsageError for a bad URL."""
        self.address = masked(url)
        self._wait = wait
        # A heartbeat and its repeat have to fit into the life of the flag. On a slower link the wait gets longer.
        self._heart_patience = Patience(max(0.5, heartbeat / 2), LONGEST_HEARTBEAT)
        self._keep = max(KEEP, heartbeat)
        self._blocking_id: int | None = None
        self._by_digest = True  # False: this server has no EVALSHA for us
        self._brought: set[str] = set()  # digests of the scripts that we have sent, so Redis should know them
        try:
            self._options = {k: v for k, v in _parse_url(url).items() if k not in _NOT_FROM_URL}
            kind = self._options.get("connection_class", Connection)
            self._options["connection_class"] = CLASSES[kind]
            if kind is not UnixDomainSocketConnection:
                self._options["socket_keepalive_options"] = tcp_options(self._keep)
            self._pool(Patience(COMMAND_TIMEOUT)).make_connection()
        except (ValueError, TypeError, RedisError):  # their texts quote the URL, which may hold a password
            raise UsageError(
                f"--redis {self.address}: an option after the ? is unknown or has no possible value"
            ) from None

    def close(self) -> None:
        """Closes what is open. The next call opens it again."""
        for name in _CLIENTS:
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()
                client.connection_pool.disconnect()

    def look_at_files(self) -> None:
        """Raises UsageError when a file that the URL names cannot be read. The errors of TLS do not say which it is."""
        for option in _FILES:
            if name := self._options.get(option):
                try:
                    os.stat(name) if option == "ssl_ca_path" else open(name, "rb").close()
                except OSError as error:
                    raise UsageError(f"--redis {self.address}: {option}: {error.strerror}: {name}") from None

    def abandon(self) -> None:
        """Closes the copies of the sockets in a forked child. Redis hears nothing of it, and the loop is not used."""
        close = get_original("os", "close")  # gevent's own would leave it to that loop
        for name in _CLIENTS:
            client = self.__dict__.pop(name, None)
            if client is not None:
                pool = client.connection_pool
                for connection in [*pool._available_connections, *pool._in_use_connections]:
                    sock, connection._sock = connection._sock, None
                    if sock is not None:
                        close(sock._sock.detach())  # the socket below gevent's

    # -- clients

    def _pool(self, patience: Patience, **options: Any) -> redis.ConnectionPool:
        fixed = {
            "protocol": 2,
            "driver_info": _DRIVER,
            "retry": Retry(NoBackoff(), 0),
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "patience": patience,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "trusted": 2 * self._keep,
            "decode_responses": True,
            "encoding_errors": NO_UTF8,
        }
        return redis.ConnectionPool(**{**self._options, **fixed, **options})

    def _client(self, patience: Patience, **options: Any) -> Any:
        """A client with one connection. It is opened here, and again after each loss."""
        return redis.Redis(connection_pool=self._pool(patience, **options), single_connection_client=True)

    @cached_property
    def _heart(self) -> Any:
        return self._client(self._heart_patience)

    @cached_property
    def _commands(self) -> Any:
        return self._client(Patience(COMMAND_TIMEOUT))

    @cached_property
    def _blocking(self) -> Any:
        return self._client(Patience(self._wait + SPARE), redis_connect_func=self._greet)

    @cached_property
    def _listener(self) -> Any:
        return redis.Redis(connection_pool=self._pool(Patience(COMMAND_TIMEOUT)))

    def _greet(self, connection: Any) -> None:
        """Remembers the id of this connection, by which another one can end the command that waits in it."""
        connection.on_connect()
        self._blocking_id = None
        with suppress(ResponseError):  # it may be forbidden or renamed, and a wait then ends by itself
            connection.send_command("CLIENT", "ID")
            self._blocking_id = connection.read_response()

    @property
    def round_trip(self) -> float:
        """Seconds that the last heartbeat was under way, there and back; 0 before the first."""
        return self._heart_patience.round_trip

    def keep(self) -> float:
        """Uses the connection for commands if nobody did for a while. Returns the seconds until it is due again."""
        with self._asking("_commands") as commands:
            left: float = self._keep - commands.connection.idle
            if left > 0:
                return left
            commands.ping()
        return self._keep

    # -- calls

    @contextmanager
    def _asking(self, name: str) -> Iterator[Any]:
        """The client `name`. redis-py's errors come out of this context as ours.

        When the server is not the right one any more, the next call makes a new client: a demoted primary still
        answers, but its name may belong to another server by now; and a Redis Cluster says where the keys have gone.
        """
        try:
            yield getattr(self, name)  # this connects when it is the first time, so it stands within the try
        except MovedError as error:
            self._follow(error, name)
            raise Trouble(f"the keys are at {error.host}:{error.port}") from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            if _PROTOCOL_ERROR in str(error):  # the last word of a server that takes no call of this size
                raise Rejected(f"Redis: {reason(error)}") from error
            raise Trouble(reason(error)) from error
        except ResponseError as error:
            if isinstance(error, NoPermissionError) or is_unknown_command(error):
                raise Forbidden(reason(error)) from error
            if isinstance(error, ReadOnlyError) or any(word in str(error) for word in _NOT_THE_PRIMARY):
                self._drop(name)
            elif _PROTOCOL_ERROR in str(error):
                raise Rejected(f"Redis: {reason(error)}") from error
            elif not any(word in str(error) for word in _PASSING) and not isinstance(error, _PASSING_CLASSES):
                raise self.blame(f"Redis: {reason(error)}") from error
            if isinstance(error, OutOfMemoryError) or _FULL in str(error):
                raise Full(f"Redis at {self.address} is full (maxmemory)") from error
            raise Trouble(reason(error)) from error
        except RedisError as error:
            raise Trouble(reason(error)) from error

    def blame(self, what: str) -> WrongType:
        """The end of a program that cannot go on with what Redis holds. `what`: how that showed."""
        return WrongType(f"{what}; does another program use these keys? see --namespace")

    def _follow(self, error: MovedError, name: str) -> None:
        self._options |= {"host": error.host, "port": error.port}
        self._drop(name)

    def _drop(self, name: str) -> None:
        """Makes the next use open a new client. The old one stays open, for somebody may still wait for its reply."""
        self.__dict__.pop(name, None)

    def _run(self, script: Script, keys: Sequence[str], *args: Any, client: str = "_commands") -> Any:
        # Connecting comes apart, because only a call that fails after it may have happened. The lock is that which
        # redis-py takes for each call. Here it is held for both, because otherwise another greenlet could use the
        # connection in the middle of its handshake, or lose it before this call.
        with self._asking(client) as asked, asked.single_connection_lock:
            asked.connection.ready()
            try:
                return self._call(asked, script, keys, *args)
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                if _PROTOCOL_ERROR in str(error):
                    raise
                raise Unanswered(reason(error)) from error

    def _call(self, asked: Any, script: Script, keys: Sequence[str], *args: Any) -> Any:
        if self._by_digest and script.digest in self._brought:
            try:
                return asked.evalsha(script.digest, len(keys), *keys, *args)
            except NoScriptError:
                pass
            except ResponseError as error:
                if not lacks(error, "evalsha"):
                    raise
                self._by_digest = False  # the digest only saves bytes
        self._brought.add(script.digest)  # this call brings the script itself, so it is sent once and not loaded before
        return asked.eval(script.text, len(keys), *keys, *args)

    def _block(self, *command: str) -> Any:
        """The reply of a command that waits in Redis.

        A task that was stopped during the wait finds two things when it goes on: its time is over, and the reply is
        there. redis-py looks at the time first, and would throw the reply away together with its message.
        """
        with self._asking("_blocking") as blocking:
            connection = blocking.connection
            try:
                connection.send_command(*command)
                if self._comes(connection) or connection.can_read(0):
                    return connection.read_response()
                raise redis.TimeoutError(f"no answer to {command[0]}")
            except BaseException:
                connection.disconnect()  # a late reply must not be taken for the answer to the next command
                raise

    def _comes(self, connection: Any) -> bool:
        """Whether an answer comes in time. An error that users' code throws into the greenlet that waits does not end
        the wait, because the answer would be lost with its message."""
        while True:
            try:
                return bool(connection.can_read(self._wait + SPARE))
            except Exception:
                raise
            except BaseException as error:
                strays.say(error)


_parse_url: Any = parse_url  # redis-py leaves it untyped

# Made once, and told the version, which redis-py would read from its distribution's files for each connection: 3 ms.
_DRIVER = DriverInfo(lib_version=redis.__version__)
