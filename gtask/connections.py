"""The connections to Redis, and what its errors mean. Only this file and store.py import redis.

redis-py is used against its defaults, for reasons measured in 8.1:
- it retries by itself, and a retried RPUSH, INCR or BLPOP runs twice or loses a message: no retry here;
- a pool polls its socket before each command (5 times slower): fixed single-connection clients instead;
- a BLPOP as long as the socket's timeout always fails: the blocking connection waits 2 s longer;
- its Script loads a script and then calls it, and another program's SCRIPT FLUSH may come between: EVAL does both;
- maintenance notifications cost a failing command at each connect: off.
"""

import hashlib
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import redis
from redis.backoff import EqualJitterBackoff, NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
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
from gtask.exceptions import Forbidden, GtaskError, Refused, Rejected, Trouble, Unreachable, UsageError, WrongType
from gtask.urls import masked

CONNECT_TIMEOUT = 3.0
COMMAND_TIMEOUT = 5.0
HANDSHAKE = 1.2  # seconds after which a server that has not answered TLS is asked whether it speaks any
SPARE = 2.0  # seconds that the answer to a blocking command may be late

# Errors that pass by themselves: a failover, a full or loading server, a script that runs too long. redis-py takes the
# first word out of the text of those for which it has a class, but not where a script's error quotes them.
_PASSING = ("LOADING", "MASTERDOWN", "OOM", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOAUTH",
            "NOPERM", "ACL failure", "can't run this command")  # fmt: skip
_PASSING_CLASSES = (OutOfMemoryError, ClusterDownError, TryAgainError)
_UNKNOWN = ("unknown command", "unknown redis command")  # renamed or disabled, called by us or by a script of ours
_NOT_THE_PRIMARY = ("READONLY", "UNBLOCKED")
# Taken from a URL's query they would undo the choices above.
_NOT_FROM_URL = {"retry", "retry_on_timeout", "retry_on_error", "socket_timeout", "socket_connect_timeout", "protocol",
                 "decode_responses", "encoding", "encoding_errors", "max_connections", "timeout",
                 "health_check_interval", "single_connection_client"}  # fmt: skip

# The options of a URL that name a file or folder.
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

_BACKOFF = EqualJitterBackoff(cap=1.0, base=0.05)


def backoff(failures: int) -> float:
    """Seconds until the next try, with jitter: a fleet must not come back all at once."""
    return _BACKOFF.compute(failures)


class Script:
    """A Lua script and the digest under which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @property
    def calls(self) -> set[str]:
        """The commands that it cannot do without."""
        return set(re.findall(r"redis\.call\('([A-Z]+)'", self.text))


class Connections:
    """One process's connections to Redis: heartbeat, commands, blocking pop, notices."""

    def __init__(self, url: str, *, heartbeat: float, wait: float) -> None:
        """Connects to nothing yet. `heartbeat` and `wait` in seconds. Raises UsageError for a bad URL."""
        self.address = masked(url)
        self._wait = wait
        # A heartbeat must be over, and its repeat too, while the flag lives.
        self._heart_timeout = max(0.5, heartbeat / 2)
        self._blocking_id: int | None = None
        self._by_digest = True  # False: this server has no EVALSHA for us
        try:
            self._options = {k: v for k, v in _parse_url(url).items() if k not in _NOT_FROM_URL}
            self._options["connection_class"] = _CLASSES[self._options.get("connection_class", Connection)]
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

    def look_at_files(self) -> None:
        """Raises UsageError when a file that the URL names cannot be read; TLS would not say which."""
        for option in _FILES:
            if name := self._options.get(option):
                try:
                    os.stat(name) if option == "ssl_ca_path" else open(name, "rb").close()
                except OSError as error:
                    raise UsageError(f"--redis {self.address}: {option}: {error.strerror}: {name}") from None

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
        self._blocking_id = None
        with suppress(ResponseError):  # not permitted, renamed: then a wait ends by itself
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
            if isinstance(error, NoPermissionError) or is_unknown_command(error):
                raise Forbidden(reason(error)) from error
            if isinstance(error, ReadOnlyError) or any(word in str(error) for word in _NOT_THE_PRIMARY):
                self._drop(name)
            elif "Protocol error" in str(error):
                raise Rejected(f"Redis: {reason(error)}") from error
            elif not any(word in str(error) for word in _PASSING) and not isinstance(error, _PASSING_CLASSES):
                hint = "does another program use these keys? see --namespace"
                raise WrongType(f"Redis: {reason(error)}; {hint}") from error
            raise Trouble(reason(error)) from error
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
            if self._by_digest:
                try:
                    return asked.evalsha(script.digest, len(keys), *keys, *args)
                except NoScriptError:
                    pass
                except ResponseError as error:
                    if not _lacks(error, "evalsha"):
                        raise
                    self._by_digest = False  # only shorter
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


class _Link:
    """What redis-py's connections do otherwise: the base of those that follow, before redis-py's own."""

    _sock: Any
    _parser: Any

    def send_packed_command(self: Any, command: Sequence[bytes], check_health: bool = True) -> None:
        """Sends the pieces of a command, each as long as it makes progress."""
        if self._sock is None:
            self.connect_check_health(check_health=False)
        try:
            for piece in command:
                sent = self._sock.send(piece)
                while sent < len(piece):
                    sent += self._sock.send(memoryview(piece)[sent:])
        except TimeoutError:
            self.disconnect()
            raise redis.TimeoutError("no progress in sending") from None
        except OSError as error:
            said = self._last_word() if isinstance(error, BrokenPipeError | ConnectionResetError) else ""
            self.disconnect()
            raise redis.ConnectionError(said or f"while sending: {error.strerror}") from error
        except BaseException:
            self.disconnect()  # half a command is on its way
            raise

    def _last_word(self) -> str:
        """What the server said before it closed the connection, such as why."""
        try:
            said = self._parser.read_response()
        except (RedisError, OSError) as error:
            return str(error)
        return str(said) if isinstance(said, RedisError) else ""


class _TcpConnection(_Link, Connection):
    pass


class _UnixConnection(_Link, UnixDomainSocketConnection):
    pass


class _TlsConnection(_Link, SSLConnection):
    """A plain Redis waits for the end of what it takes for a command, and never answers a TLS handshake."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> Any:
        patience = sock.gettimeout()
        sock.settimeout(HANDSHAKE)
        try:
            wrapped = self._shaken(sock)
        except TimeoutError:
            if _speaks_plainly(self.host, self.port):
                raise ssl.SSLError(_NO_TLS) from None
            slow = Connection._connect(self)  # type: ignore[no-untyped-call]
            wrapped = self._shaken(slow)
        wrapped.settimeout(patience)
        return wrapped

    def _shaken(self, sock: socket.socket) -> Any:
        return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]


_CLASSES = {Connection: _TcpConnection, SSLConnection: _TlsConnection, UnixDomainSocketConnection: _UnixConnection}

_NO_TLS = "WRONG_VERSION_NUMBER"  # what OpenSSL says when the answer is none of TLS


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a Redis without TLS answers there."""
    try:
        with socket.create_connection((host, port), timeout=HANDSHAKE / 2) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
    except OSError:
        return False


# -- what errors mean


def reason(error: BaseException) -> str:
    """The error's text in one line. What Redis repeats of an unknown command may be a password."""
    text = " ".join(str(error).split()).partition(", with args beginning with")[0]
    return text.rstrip(".") or type(error).__name__


def is_unknown_command(error: BaseException) -> bool:
    """Whether the server does not know a command, because it was renamed or disabled."""
    return any(words in str(error).lower() for words in _UNKNOWN)


def _lacks(error: ResponseError, command: str) -> bool:
    """Whether it is this very command that is unknown or not permitted."""
    return (isinstance(error, NoPermissionError) or is_unknown_command(error)) and command in str(error).lower()


# What a server, or TLS, says to a first call: words of it, the end that they mean, and what to tell the user.
_CAUSES: tuple[tuple[tuple[str, ...], type[GtaskError], str], ...] = (
    (("without any password", "no password is set"), Refused,
     "Redis at {address} refuses: {text}; it wants no password, so take it out of the URL (redis://user:password@host)"),
    (("authentication required",), Refused,
     "Redis at {address} refuses: {text}; put user and password into GTASK_REDIS (redis://user:password@host)"),
    (("invalid username-password", "invalid password"), Refused,
     "Redis at {address} refuses: {text}; correct them in the URL (redis://user:password@host)"),
    (("no permissions", *_UNKNOWN), Refused, "Redis at {address} refuses: {text}; gtask needs this command"),
    (("db index", "select is not allowed"), UsageError,
     "Redis at {address} has no such database: {text}; the last / of the URL names it, and /0 is always there"),
    (("is loading",), Unreachable, "Redis at {address} is still loading its data; try again when it has finished"),
    (("max number of clients",), Unreachable,
     "Redis at {address} takes no more connections: {text}; end some clients or raise its maxclients"),
    (("certificate_verify_failed",), Unreachable,
     "the certificate of Redis at {address} is not accepted: {text}; ?ssl_ca_certs=FILE behind the URL names the CA "
     "that signed it, and the host must be one that it was made for"),
    (("wrong_version_number", "record layer failure"), Unreachable,
     "Redis at {address} speaks no TLS; write redis:// in the place of rediss://, or name its TLS port"),
    (("[ssl", "[x509"), Unreachable,
     "no TLS with Redis at {address}: {text}; are the files right that the URL names behind the ?"),
    (("closed by server", "connection reset"), Unreachable,
     "who listens at {address} ends the connection: {text}; if it speaks TLS, write rediss://"),
)  # fmt: skip


def explained(error: RedisError | OSError, address: str) -> GtaskError:
    """The end of a program that cannot begin with the Redis at `address`: its cause, and what to do about it."""
    text = reason(error)
    for words, end, line in _CAUSES:
        if any(word in text.lower() for word in words):
            return end(line.format(address=address, text=text))
    if isinstance(error, ResponseError):
        return Unreachable(f"Redis at {address} answers: {text}")
    return Unreachable(f"no Redis at {address}: {text}; start one, or name another with --redis or GTASK_REDIS")


_parse_url: Any = parse_url  # redis-py leaves it untyped

_DRIVER = DriverInfo()  # made once: redis-py looks its own version up for each connection, which takes 2 ms
