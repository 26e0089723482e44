"""One connection to Redis, over TCP, TLS or a unix socket, and how long it waits for an answer."""

import select
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any

import gevent
import redis
from gevent.monkey import get_original
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError, ResponseError

from gtask import strays
from gtask.threads import looking_up_apart

HANDSHAKE = 1.2  # seconds without an answer to TLS after which we ask whether the server speaks plain Redis
UNSENT = 128 * 1024  # bytes that may wait in the system's buffers; taking in more would look like progress in sending

_poll = get_original("select", "poll")  # which looks without letting other greenlets run


class Patience:
    """How long to wait for an answer.

    The time doubles with each time-out, up to `longest`. An answer sets it to twice what that answer took. So a slow
    Redis is reached in the end, and where Redis is quick a dead connection is still noticed soon.
    """

    def __init__(self, shortest: float, longest: float = 0) -> None:
        self._shortest, self._longest = shortest, max(shortest, longest)
        self.seconds = shortest
        self.round_trip = 0.0  # seconds that the last answer took

    def failed(self) -> None:
        """No answer came in time."""
        self.seconds = min(2 * self.seconds, self._longest)

    def answered(self, round_trip: float) -> bool:
        """An answer took `round_trip` seconds. Returns whether this changes how long to wait."""
        self.round_trip = round_trip
        before, self.seconds = self.seconds, min(max(self._shortest, 2 * round_trip), self._longest)
        return self.seconds != before


class _Link:
    """What is different from redis-py's own connections, which stand behind this class among the bases of those below.

    - Sending goes on for as long as it makes progress, and the reply may come later by as much time as that took.
      redis-py gives up when a message has not gone through as a whole in time. On a thin link it would start a large
      message over for ever.
    - How long to wait without progress is said by a Patience, which outlives the connection.
    - A connection that was not used for `trusted` seconds is opened anew, because a firewall may have forgotten it.
    - An answer that is here is taken, though its time is over or users' code wants something else: its messages may be
      nowhere else.
    """

    _sock: Any
    _parser: Any
    socket_timeout: float | None

    def __init__(self, *, trusted: float, patience: Patience, **options: Any) -> None:
        super().__init__(socket_timeout=patience.seconds, **options)  # type: ignore[call-arg]
        self._trusted = trusted
        self._patience = patience
        self._used = monotonic()
        self._stretched = False

    @property
    def idle(self) -> float:
        """Seconds since the connection was used."""
        return monotonic() - self._used

    def _connect(self) -> Any:
        self._used = monotonic()
        self.socket_timeout = self._patience.seconds
        with looking_up_apart():
            return super()._connect()  # type: ignore[misc]

    def ready(self: Any) -> None:
        """Connects, unless there is a connection that is trusted."""
        if self._sock is not None and self.idle > self._trusted:
            self.disconnect()
        if self._sock is None:
            self.connect_check_health(check_health=False)

    def send_packed_command(self: Any, command: Sequence[bytes], check_health: bool = True) -> None:
        self.ready()
        began = monotonic()
        try:
            for piece in command:
                sent = self._sock.send(piece)
                while sent < len(piece):
                    sent += self._sock.send(memoryview(piece)[sent:])
                    self._used = monotonic()
        except TimeoutError:
            self.disconnect()
            raise redis.TimeoutError("no progress in sending") from None
        except OSError as error:
            said = self._last_word() if isinstance(error, BrokenPipeError | ConnectionResetError) else None
            self.disconnect()
            raise said or redis.ConnectionError(f"while sending: {error.strerror}") from error
        except BaseException:
            self.disconnect()  # half a command was sent, and another one must not follow it
            raise
        self._used = monotonic()
        if (took := self._used - began) > 0.1:
            self._stretched = True  # the rest is still in buffers, and may take as long as what has gone
            self._sock.settimeout(self.socket_timeout + took)

    def read_response(self: Any, *args: Any, disconnect_on_error: bool = True, **options: Any) -> Any:
        try:
            answer, in_time = self._awaited(*args, **options)
        except ResponseError:  # an answer, too
            raise
        except BaseException as error:
            if isinstance(error, redis.TimeoutError):
                self._patience.failed()
            if disconnect_on_error:
                self.disconnect()
            raise
        sent, self._used = self._used, monotonic()
        if (in_time and self._patience.answered(self._used - sent)) or self._stretched:
            self._stretched = False
            self.socket_timeout = self._patience.seconds
            if self._sock is not None:
                self._sock.settimeout(self.socket_timeout)
        return answer

    def _awaited(self, *args: Any, **options: Any) -> tuple[Any, bool]:
        """The answer, and whether it came in time: a process that was stopped for long finds, when it goes on, that its
        time is over, and that the answer is here. The event loop looks at the time first."""
        in_time = True
        while True:
            try:
                answer = super().read_response(*args, disconnect_on_error=False, **options)  # type: ignore[misc]
                return answer, in_time
            except redis.TimeoutError:
                if self._sock is None or not _readable(self._sock):
                    raise
                in_time = False
            except gevent.Timeout as error:  # a time limit that users' code has left behind
                strays.say(error)

    def _last_word(self) -> RedisError | None:
        """What the server has said before it closed the connection, often the reason."""
        try:
            said = self._parser.read_response()
        except (RedisError, OSError) as error:
            return error if isinstance(error, RedisError) else None
        return said if isinstance(said, RedisError) else None


class _TcpConnection(_Link, Connection):
    pass


class _UnixConnection(_Link, UnixDomainSocketConnection):
    pass


class _TlsConnection(_Link, SSLConnection):
    """A server without TLS is told from a slow one. It takes the handshake for the beginning of a command and waits for
    the rest, so it never answers."""

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


def _readable(sock: Any) -> bool:
    """Whether something has come that was not read yet."""
    poll = _poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def tcp_options(keep: float) -> dict[int, int]:
    """Socket options that make TCP itself use an idle connection each `keep` seconds. That keeps those alive in which a
    command waits."""
    values = {"TCP_KEEPIDLE": int(keep), "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_NOTSENT_LOWAT": UNSENT}
    return {getattr(socket, name): value for name, value in values.items() if hasattr(socket, name)}


CLASSES = {Connection: _TcpConnection, SSLConnection: _TlsConnection, UnixDomainSocketConnection: _UnixConnection}

_NO_TLS = "WRONG_VERSION_NUMBER"  # OpenSSL's own word for an answer that is no TLS


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a Redis without TLS answers there."""
    try:
        with socket.create_connection((host, port), timeout=HANDSHAKE / 2) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
    except OSError:
        return False
