"""Keys: which ones there are, and their reading."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from gevent.socket import wait_read


@dataclass(frozen=True)
class Key:
    """An action and how the key help names it; a key without help works unmentioned."""

    action: str
    help: str = ""


KEYS = {
    "q": Key("end", "end all and quit"),
    "k": Key("kill", "end generator"),
    "\x03": Key("end"),  # Ctrl-C, where the terminal does not make a signal of it
}
HELP = "  ".join(f"[{name}] {key.help}" for name, key in KEYS.items() if key.help)


def actions(typed: bytes) -> list[str]:
    """The actions of what was typed; arrow keys and other sequences are none."""
    if typed.startswith(b"\x1b"):
        return []
    return [KEYS[name].action for name in typed.decode("ascii", "ignore").lower() if name in KEYS]


def read(fd: int, act: Callable[[str], None]) -> None:
    """Calls `act` with each action, until the terminal is gone; only in the foreground may this run."""
    while True:
        wait_read(fd)
        try:
            typed = os.read(fd, 1024)
        except OSError:  # hung up: SIGHUP tells it, too
            return
        if not typed:
            return
        for action in actions(typed):
            act(action)
