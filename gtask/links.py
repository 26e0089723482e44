"""One connection to Redis: how long it waits, and for what; TCP, TLS and unix sockets."""

import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any

import redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError

from gtask.threads import looking_up_apart

HANDSHAKE = 1.2  # seconds after which a server that has not answered TLS is asked whether it speaks any
UNSENT = 128 * 1024  # bytes in the system's buffers that are not on their way; more would look like progress


class Patience:
    """How long an answer is waited for: twice as long after each time-out, up to `longest`, and once there was one,
    twice what it took. So a slow Redis is reached, and a dead connection is still seen soon where Redis is quick."""

    def __init__(self, shortest: float, longest: float = 0) -> None:
        self._shortest, self._longest = shortest, max(shortest, longest)
        self.seconds = shortest
        self.round_trip = 0.0  # seconds that the last answer took

    def failed(self) -> None:
        """No answer came in time."""
        self.seconds = min(2 * self.seconds, self._longest)

    def answered(self, round_trip: float) -> bool:
        """An answer took `round_trip` seconds. Whether this changes how long to wait."""
        self.round_trip = round_trip
        before, self.seconds = self.seconds, min(max(self._shortest, 2 * round_trip), self._longest)
        return self.seconds != before


class _Link:
    """What redis-py's connections do otherwise: the base of those that follow, before redis-py's own.

    - A command is sent for as long as it makes progress, and its reply may take as much longer as that took: redis-py
      starts a large message over when it has not gone through as a whole in time, for ever on a thin link.
    - How long it waits without progress is a matter of its Patience, which outlives it.
    - What was not used for longer than `trusted` seconds is opened anew: a middle box may have forgotten it.
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
        """Seconds since it was used."""
        return monotonic() - self._used

    def _connect(self) -> Any:
        self._used = monotonic()
        self.socket_timeout = self._patience.seconds
        with looking_up_apart():
            return super()._connect()  # type: ignore[misc]

    def send_packed_command(self: Any, command: Sequence[bytes], check_health: bool = True) -> None:
        began = monotonic()
        if self._sock is not None and began - self._used > self._trusted:
            self.disconnect()
        if self._sock is None:
            self.connect_check_health(check_health=False)
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
            self.disconnect()  # half a command is on its way
            raise
        self._used = monotonic()
        if (took := self._used - began) > 0.1:
            self._stretched = True  # what is still on its way may take as long as what has gone
            self._sock.settimeout(self.socket_timeout + took)

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        try:
            answer = super().read_response(*args, **options)  # type: ignore[misc]
        except redis.TimeoutError:
            self._patience.failed()
            raise
        sent, self._used = self._used, monotonic()
        if self._patience.answered(self._used - sent) or self._stretched:
            self._stretched = False
            self.socket_timeout = self._patience.seconds
            if self._sock is not None:
                self._sock.settimeout(self.socket_timeout)
        return answer

    def _last_word(self) -> RedisError | None:
        """What the server said before it closed the connection, such as why."""
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


def tcp_options(keep: float) -> dict[int, int]:
    """Socket options: TCP itself uses an idle connection each `keep` seconds, for those in which a command waits."""
    values = {"TCP_KEEPIDLE": int(keep), "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_NOTSENT_LOWAT": UNSENT}
    return {getattr(socket, name): value for name, value in values.items() if hasattr(socket, name)}


CLASSES = {Connection: _TcpConnection, SSLConnection: _TlsConnection, UnixDomainSocketConnection: _UnixConnection}

_NO_TLS = "WRONG_VERSION_NUMBER"  # what OpenSSL says when the answer is none of TLS


def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a Redis without TLS answers there."""
    try:
        with socket.create_connection((host, port), timeout=HANDSHAKE / 2) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(1) in (b"+", b"-")
    except OSError:
        return False
