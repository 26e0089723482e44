"""`gtask status`: one look at the fleet and the sum of its messages. Reads only."""

import json
from typing import Any

from gtask.store import Store
from gtask.text import printable


def look(store: Store) -> dict[str, Any]:
    """The status as `--json` prints it; durations in seconds."""
    seen = store.snapshot()
    members = {int(task_id): json.loads(record) for task_id, record in seen["members"].items()}
    tasks = [
        {
            "taskId": int(task_id),
            "host": members[int(task_id)].get("host"),
            "pid": members[int(task_id)].get("pid"),
            "age": round(max(0.0, seen["now"] - beaten), 3),
            "inflight": seen["held"][int(task_id)],
        }
        for task_id, beaten in seen["tasks"]
        if int(task_id) in members
    ]
    totals = {name: int(seen["totals"].get(name, 0)) for name in ("processed", "errors", "redelivered", "retried")}
    return {
        "generator": _generator(seen),
        "failure": _failure(seen),
        "tasks": tasks,
        "messages": seen["messages"],
        "inflight": sum(seen["held"].values()),
        "errors": seen["errors"],
        "generated": int(seen["generator"].get("generated", 0)),
        "processed": totals["processed"],
        "failed": totals["errors"],
        "redelivered": totals["redelivered"],
        "retried": totals["retried"],
    }


def _generator(seen: dict[str, Any]) -> dict[str, Any] | None:
    flag = seen["flag_ms"]
    if flag == -2:  # Redis's answer for a key that is not there
        return None
    owner = seen["owner"]
    return {"taskId": None if owner is None else int(owner), "ttl": None if flag < 0 else flag / 1000}


def _failure(seen: dict[str, Any]) -> dict[str, Any] | None:
    """Why generating has failed since the last message that was pushed: `failures` terms in a row, the last one with
    `error`, and generating is tried again in `retryIn` seconds (0: it may be any moment)."""
    kept = seen["generator"]
    if "error" not in kept:
        return None
    retry_in = float(kept.get("retry_at", 0)) / 1000 - seen["now"]
    return {"error": kept["error"], "failures": int(kept.get("failures", 1)), "retryIn": round(max(0.0, retry_in), 3)}


def unaccounted(status: dict[str, Any]) -> int:
    """waiting + in flight + processed - retried - generated: 0, or what other programs pushed, less what
    at-most-once tasks and other programs took (Redis learns of neither)."""
    return int(status["messages"] + status["inflight"] + status["processed"] - status["retried"] - status["generated"])


def generates(status: dict[str, Any]) -> bool:
    """Whether somebody holds the flag and can be replaced. A flag that never expires says neither."""
    return status["generator"] is not None and status["generator"]["ttl"] is not None


def describe(status: dict[str, Any], flag: str) -> str:
    """The status for a person. `flag`: the key's name."""
    generator = status["generator"]
    if generator is None:
        first = "generator  none: nobody holds the flag"
    else:
        who = "another program" if generator["taskId"] is None else f"task {generator['taskId']}"
        first = (
            f"generator  {who}, its flag lives {generator['ttl']:.1f} s more"
            if generates(status)
            else f"generator  {who}, perhaps: its flag never expires. If nobody generates: redis-cli DEL {flag}"
        )
    failure = status["failure"]
    problem = []
    if failure is not None:
        times = f"{failure['failures']} times in a row" if failure["failures"] > 1 else "once"
        again = f"tried again in {failure['retryIn']:.1f} s" if failure["retryIn"] else "tried again now"
        problem = [f"failed     {times}, {again}: {printable(failure['error'])}"]
    lines = [first, *problem, "", f"{'task':>8}  {'pid':>8}  {'last beat':>9}  {'in flight':>9}  host"]
    lines += [
        f"{t['taskId']:>8}  {t['pid'] or '':>8}  {t['age']:>7.1f} s  {t['inflight']:>9}  {t['host'] or ''}"
        for t in status["tasks"]
    ]
    lines += [""] + [
        f"{status[key]:>12,}  {what}"
        for key, what in (
            ("messages", "wait"), ("inflight", "in flight"), ("errors", "in errors (gtask getErrors)"),
            ("generated", "generated"), ("processed", "processed (at-least-once)"), ("failed", "of these failed"),
            ("redelivered", "redelivered after a task's death"), ("retried", "retried"),
        )
    ]  # fmt: skip
    rest = unaccounted(status)
    verdict = (
        "the sum holds: generated + retried = waiting + in flight + processed"
        if rest == 0
        else f"generated + retried {'+' if rest > 0 else '-'} {abs(rest):,} = waiting + in flight + processed: "
        + (
            "what other programs pushed, less what at-most-once tasks and other programs took"
            if rest > 0
            else "what at-most-once tasks and other programs took, less what other programs pushed"
        )
    )
    return "\n".join([*lines, "", verdict]) + "\n"
