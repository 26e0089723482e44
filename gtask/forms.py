"""What gtask writes under its keys, and which key holds something else. Pure, but for `misfit`.

Each form takes a text and gives what it means; it raises ValueError for what no gtask has written.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gtask.text import printable, shortened

EXACT = 2**53  # Lua counts in floating point, and beyond this it cannot
LONGEST = 60  # characters shown of a value
LAST_ID = 2**63 - 1  # Redis counts no further

_NUMBER = (int, float)
_OF_A_MEMBER = {"heartbeat": _NUMBER, "wait": _NUMBER, "host": (str, type(None)), "pid": (int, type(None))}

Form = Callable[[str], object]


def whole(text: str) -> int:
    """A number that only grows."""
    if re.fullmatch("0|[1-9][0-9]{0,15}", text) and int(text) < EXACT:
        return int(text)
    raise ValueError(text)


def task_id(text: str) -> int:
    """The id of a task."""
    if re.fullmatch("[1-9][0-9]{0,18}", text):
        return int(text)
    raise ValueError(text)


def member(text: str) -> dict[str, Any]:
    """What a task says of itself (membership.py)."""
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError(text) from None
    if isinstance(record, dict) and all(type(record.get(name)) in types for name, types in _OF_A_MEMBER.items()):
        return record
    raise ValueError(text)


def tried(text: str) -> tuple[int, int]:
    """How often a message was tried, and how many of these attempts failed. Another program's nonsense says nothing."""
    found = re.fullmatch("([0-9]{1,15}) ([0-9]{1,15})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def written_longest(message: str, seconds: float) -> str:
    """What a task says of the message at which it has been for longest, and for how long."""
    return json.dumps({"message": shortened(message, LONGEST), "seconds": round(seconds, 3)})


def longest(text: str) -> tuple[str, float]:
    """The same, read."""
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError(text) from None
    match record:
        case {"message": str(message), "seconds": float(seconds) | int(seconds)} if 0 <= seconds < EXACT:
            return message, float(seconds)
    raise ValueError(text)


def _last_id(text: str) -> None:
    if task_id(text) == LAST_ID:
        raise ValueError(text)


def _like(pattern: str) -> Form:
    def form(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)

    return form


_CALL = _like("[0-9]+( [0-9]+){5}|died [0-9]+")  # lua/call.lua
_SUSPECT = _like("[0-9]+ [0-9]+")  # lua/reap.lua
_NUMBERS = ("term", "step", "generated", "pushed_at", "life", "failures", "failed", "retry_at")

# For each key, by its name in the class Keys: its type, and the forms of what it holds: of a string the string's; of a
# sorted set the members'; of a hash the fields', and either the values' or each field's own. str: anything will do.
FORMS: dict[str, tuple[str, Form, Form | Mapping[str, Form]]] = {
    "task_id": ("string", _last_id, str),
    "flag": ("string", str, str),
    "owner": ("string", task_id, str),
    "generator": ("hash", str, dict.fromkeys(_NUMBERS, whole)),
    "messages": ("list", str, str),
    "errors": ("list", str, str),
    "members": ("hash", task_id, member),
    "tasks": ("zset", task_id, str),  # beat.lua copies ids from `members`, so those are looked at first
    "claims": ("hash", task_id, _CALL),
    "reaped": ("zset", task_id, str),
    "resumed": ("string", whole, str),
    "suspects": ("hash", str, _SUSPECT),
    "apart": ("list", str, str),
    "later": ("zset", str, str),
    "attempts": ("hash", str, str),
    "totals": ("hash", str, whole),
    "reader": ("string", str, str),
}


def misfit(redis: Any, keys: Any) -> str:
    """Which of the keys (store/keys.py) holds what no gtask writes there, and what; "" when none does. Only reads, but
    reads a lot: it is asked when something has gone wrong. Raises redis-py's errors."""
    for name, (kind, form, values) in FORMS.items():
        key = getattr(keys, name)
        if found := _other_type(redis, key, kind):
            return found
        for item, value in _contents(redis, key, kind):
            value_form = values.get(item, str) if isinstance(values, Mapping) else values
            if not _fits(form, item):
                return f"{key} holds {_shown(item)}, which gtask does not write there"
            if not _fits(value_form, value):
                return f"{key} holds {_shown(value)} as {_shown(item)}, which gtask does not write there"
    for holder in redis.hkeys(keys.members):
        kinds = {keys.inflight(holder): "list", keys.long(holder): "hash", keys.longest(holder): "string"}
        if found := next(filter(None, (_other_type(redis, key, kind) for key, kind in kinds.items())), ""):
            return found
        said = redis.get(keys.longest(holder))
        if said is not None and not _fits(longest, said):
            return f"{keys.longest(holder)} holds {_shown(said)}, which gtask does not write there"
    return ""


def _other_type(redis: Any, key: str, kind: str) -> str:
    found = redis.type(key)
    return "" if found in (kind, "none") else f"{key} holds a {found}, where gtask has a {kind}"


def _contents(redis: Any, key: str, kind: str) -> Iterable[tuple[str, str]]:
    """What has a form: pairs of an item and its value, which strings and sorted sets do not have."""
    match kind:
        case "string":
            return [(value, "") for value in [redis.get(key)] if value is not None]
        case "hash":
            return redis.hscan_iter(key)  # type: ignore[no-any-return]
        case "zset":
            return ((item, "") for item, _ in redis.zscan_iter(key))
    return ()


def _fits(form: Form, text: str) -> bool:
    try:
        form(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return printable(repr(shortened(text, LONGEST)))
