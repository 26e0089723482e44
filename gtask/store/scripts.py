"""The scripts in lua/, each behind the preludes that its first line names."""

import hashlib
import re
from importlib import resources


class Script:
    """A Lua script and the digest under which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @property
    def calls(self) -> set[str]:
        """The commands that it cannot do without."""
        return set(re.findall(r"redis\.call\('([A-Z]+)'", self.text))


def _load(name: str) -> Script:
    """The script, behind the preludes that its first line names."""
    folder = resources.files(__package__) / "lua"
    text = (folder / f"{name}.lua").read_text()
    needs = re.match(r"-- needs: (.+)\n", text)
    preludes = needs[1].split() if needs else []
    return Script("".join((folder / f"{prelude}.lua").read_text() for prelude in preludes) + text)


NUMBER, BEAT, PUSH, RELEASE = _load("number"), _load("beat"), _load("push"), _load("release")
POP, CLAIM, SETTLE, GIVEBACK = _load("pop"), _load("claim"), _load("settle"), _load("giveback")
REAP, READ, LOCK, RESOLVE = _load("reap"), _load("read"), _load("lock"), _load("resolve")
POSITION, STATUS, REWIND, PUT = _load("position"), _load("status"), _load("rewind"), _load("put")

# What a task cannot do without: what it calls itself, and what its scripts call (by `pcall` what only accelerates).
NEEDED = sorted({"EVAL", "LLEN", "BLPOP"}.union(
    *(script.calls for script in (NUMBER, BEAT, POSITION, PUSH, RELEASE, POP, CLAIM, SETTLE, GIVEBACK, REAP))
))  # fmt: skip
