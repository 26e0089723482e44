"""Keys: which ones there are, and how they are told from everything else that a terminal sends. Pure."""

import re
from dataclasses import dataclass

PATIENCE = 0.5  # seconds between two pieces of one sequence; a person who has pressed ESC takes longer
PASTE, PASTED = b"\x1b[200~", b"\x1b[201~"  # what a terminal puts around a paste, once it was asked to

# What comes as one, the longest forms first. Only a single character is a key of ours.
TOKEN = re.compile(
    rb"""
      \x1b\[200~.*?\x1b\[201~                   # a paste
    | \x1b\[M...                                # a mouse, which another program may have left on
    | \x1b\[\[.                                 # a function key of the Linux console
    | \x1b(?:\[(?!200~|M|\[)|O)                 # arrows and function keys: they end with a letter or ~ ,
        [\x20-\x3f]*(?:[\x40-\x7e]|(?=[^\x20-\x7e]))      # or break off where nothing fits
    | \x1b[P\]X^_].*?(?:\x07|\x1b\\)            # answers to questions that another program has asked
    | \x1b[^[OP\]X^_\x1b]                       # Alt with a key
    | \x1b(?=\x1b)                              # ESC, and then something else
    | [^\x1b]                                   # a key
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Key:
    """An action and how the key help names it; a key without help works unmentioned."""

    action: str
    help: str = ""


KEYS = {
    b"q": Key("end", "end all and quit"),
    b"k": Key("kill", "end generator"),
    b"\x03": Key("end"),  # Ctrl-C, where the terminal does not make a signal of it
    b"\x0c": Key("redraw"),  # Ctrl-L
}
HELP = "  ".join(f"[{name.decode()}] {key.help}" for name, key in KEYS.items() if key.help)


class Keyboard:
    """Makes actions of what was typed. Function keys, answers of the terminal and pastes are none.

    A sequence may arrive in pieces, so its beginning is kept until the rest has come. A beginning whose rest does not
    come, such as the ESC key by itself, is forgotten after `PATIENCE`; only a paste takes as long as it takes.
    """

    def __init__(self) -> None:
        self._begun = b""
        self._fed_at = 0.0

    def feed(self, typed: bytes, at: float) -> list[str]:
        """The actions of these bytes, which were read at the time `at` (seconds of any clock that only goes on)."""
        if at - self._fed_at > PATIENCE and not self._begun.startswith(PASTE):
            self._begun = b""
        self._fed_at = at
        data = self._begun + typed
        actions, end = [], 0
        while token := TOKEN.match(data, end):
            end = token.end()
            if key := KEYS.get(token[0].lower()):
                actions.append(key.action)
        self._begun = data[end:]
        if self._begun.startswith(PASTE):  # of a long paste only as much as may be a part of its end
            self._begun = PASTE + self._begun[len(PASTE) :][-len(PASTED) + 1 :]
        return actions
