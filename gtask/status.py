"""`gtask status`: one look at the fleet and the sum of its messages, as a text, as JSON, and as a verdict. Pure."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gtask import forms
from gtask.config import CRON
from gtask.cron import position
from gtask.cron.position import Counts
from gtask.text import printable

NO_KEY = -2  # instead of a time to live
LONGEST_PAUSE = 60.0  # seconds; a longer one is none of ours (lua/constants.lua)
# Totals, and what a person reads behind each of them.
SHOWN = (
    ("messages", "wait"), ("inflight", "in flight"), ("later", "come again later"),
    ("errors", "in errors (gtask getErrors)"), ("generated", "generated"), ("processed", "processed (at-least-once)"),
    ("failed", "of these failed"), ("redelivered", "redelivered after a task's death"),
    ("retried", "retried (gtask retryErrors)"), ("followups", "sent by handlers"),
    ("pushed", "pushed by hand (gtask push)"), ("postponed", "times that a message was put off, to come again later"),
    ("purged", "purged (gtask rewind --purge)"),
)  # fmt: skip
RARE = {"later", "followups", "pushed", "postponed", "purged"}  # a person reads of these only where there are some


@dataclass(frozen=True)
class Generator:
    """Who holds the flag: a task, or another program (None), and for how many seconds (None: for ever)."""

    task_id: int | None
    ttl: float | None


@dataclass(frozen=True)
class Failure:
    """Why generating has failed since the last message that was pushed: `failures` terms in a row, the last one with
    `error`, and generating is tried again in `retry_in` seconds (0: it may be any moment)."""

    error: str
    failures: int
    retry_in: float


@dataclass(frozen=True)
class Longest:
    """The message that a task has been handling for longest, its beginning, and for how many seconds."""

    message: str
    seconds: float


@dataclass(frozen=True)
class Member:
    """A task: seconds since its last heartbeat, how many messages it holds, and the one that takes longest, if one
    takes long."""

    task_id: int
    host: str | None
    pid: int | None
    age: float
    inflight: int
    longest: Longest | None


@dataclass(frozen=True)
class Status:
    """All of one moment.

    `last`: the position (None: there is none, or it is long). `ended`: generate has nothing more to generate. `failed`:
    of the processed ones; `errors`: what lies in the list of that name. `later`: messages that come again;
    `postponed`: how often a message was put off so. `followups`: messages that handlers have sent. `pushed`: by
    `gtask push`. `purged`: deleted by `gtask rewind --purge`. `schedule`: what became of the ticks of `--cron`
    (None: it is not that which generates).
    """

    generator: Generator | None
    last: str | None
    ended: bool
    failure: Failure | None
    tasks: list[Member]
    messages: int
    inflight: int
    later: int
    errors: int
    generated: int
    processed: int
    failed: int
    redelivered: int
    retried: int
    followups: int
    pushed: int
    postponed: int
    purged: int
    schedule: Counts | None = None

    @property
    def generates(self) -> bool:
        """Whether somebody holds the flag and can be replaced. A flag that never expires says neither."""
        return self.generator is not None and self.generator.ttl is not None

    @property
    def unaccounted(self) -> int:
        """waiting + in flight + later + processed + purged - generated - retried - followups - pushed: 0, or what other
        programs pushed, less what at-most-once tasks and other programs took (Redis learns of neither)."""
        found = self.messages + self.inflight + self.later + self.processed + self.purged
        return found - self.generated - self.retried - self.followups - self.pushed

    def as_json(self) -> str:
        """For programs: the fields under the names that they have here, but in camel case; durations in seconds."""
        return json.dumps(asdict(self, dict_factory=lambda pairs: {_camel_case(name): value for name, value in pairs}))

    def as_text(self, flag: str) -> str:
        """For a person. `flag`: the key's name."""
        lines = [self._about_generator(flag)]
        if self.ended:
            after = "" if self.last is None else f", after {printable(self.last)}"
            lines.append(f"ended      generate has nothing more to generate{after}")
        if self.schedule:
            ticks = self.schedule
            lines.append(f"schedule   {ticks.fired:,} ticks fired, {ticks.coalesced:,} merged into a later one, "
                         f"{ticks.skipped:,} skipped")  # fmt: skip
        if self.failure:
            times = f"{self.failure.failures} times in a row" if self.failure.failures > 1 else "once"
            again = f"tried again in {self.failure.retry_in:.1f} s" if self.failure.retry_in else "tried again now"
            lines.append(f"failed     {times}, {again}: {printable(self.failure.error)}")
        lines += ["", f"{'task':>8}  {'pid':>8}  {'last beat':>9}  {'in flight':>9}  host"]
        for t in self.tasks:
            host = printable(t.host or "")
            lines.append(f"{t.task_id:>8}  {t.pid or '':>8}  {t.age:>7.1f} s  {t.inflight:>9}  {host}")
            if t.longest:
                lines.append(f"{'':>10}has been at {t.longest.message!r} for {t.longest.seconds:.1f} s")
        shown = [row for row in SHOWN if row[0] not in RARE or getattr(self, row[0])]
        lines += ["", *(f"{getattr(self, name):>12,}  {what}" for name, what in shown), "", self._about_sum()]
        return "\n".join(lines) + "\n"

    def _about_generator(self, flag: str) -> str:
        if self.generator is None:
            return "generator  none: nobody holds the flag"
        who = "another program" if self.generator.task_id is None else f"task {self.generator.task_id}"
        if self.generator.ttl is not None:
            return f"generator  {who}, its flag lives {self.generator.ttl:.1f} s more"
        return f"generator  {who}, perhaps: its flag never expires. If nobody generates: redis-cli DEL {flag}"

    def _about_sum(self) -> str:
        rest = self.unaccounted
        came = "generated + retried" + (" + sent by handlers" if self.followups else "")
        came += " + pushed by hand" if self.pushed else ""
        later, purged = " + later" if self.later else "", " + purged" if self.purged else ""
        accounted = f"waiting + in flight{later} + processed{purged}"
        if rest == 0:
            return f"the sum holds: {came} = {accounted}"
        pushed, taken = "what other programs pushed", "what at-most-once tasks and other programs took"
        sign, more, less = ("+", pushed, taken) if rest > 0 else ("-", taken, pushed)
        return f"{came} {sign} {abs(rest):,} = {accounted}: {more}, less {less}"


def status_of(answer: Sequence[Any]) -> Status:
    """The answer of status.lua, which describes it. Raises ValueError for what no gtask has written."""
    ids, seconds, micros, owner, flag_ms, term, beats, members, totals, messages, errors, held, later, said = answer
    now = int(seconds) + int(micros) / 1e6
    kept, counts = _paired(term), _paired(totals)
    inflight, longest = dict(zip(ids, held, strict=True)), dict(zip(ids, said, strict=True))
    records = {task_id: forms.member(record) for task_id, record in _paired(members).items()}
    holder = Generator(None if owner is None else forms.task_id(owner), None if flag_ms < 0 else flag_ms / 1000)
    return Status(
        generator=None if flag_ms == NO_KEY else holder,
        last=kept.get("last"),
        ended="ended" in kept,
        failure=_failure(kept, now),
        tasks=[
            _member(task_id, records[task_id], now - max(0.0, float(beat)), inflight[task_id], longest[task_id])
            for task_id, beat in _paired(beats).items()
            if task_id in records
        ],
        messages=messages,
        inflight=sum(held),
        later=later,
        errors=errors,
        generated=_total(kept, "generated"),
        processed=_total(counts, "processed"),
        failed=_total(counts, "errors"),
        redelivered=_total(counts, "redelivered"),
        retried=_total(counts, "retried"),
        followups=_total(counts, "followups"),
        pushed=_total(counts, "pushed"),
        postponed=_total(counts, "postponed"),
        purged=_total(counts, "purged"),
        schedule=_schedule(kept),
    )


def _member(task_id: str, record: dict[str, Any], age: float, inflight: int, said: str) -> Member:
    age = max(0.0, age)
    longest = None
    if said:
        message, seconds = forms.longest(said)
        longest = Longest(message, round(seconds + age, 3))  # it was said with the last heartbeat
    host, pid = record.get("host"), record.get("pid")
    return Member(forms.task_id(task_id), host, pid, round(age, 3), inflight, longest)


def _schedule(kept: dict[str, str]) -> Counts | None:
    if kept.get("generate") != CRON or "last" not in kept:
        return None
    try:
        return position.read(kept["last"]).counts
    except ValueError:  # another function's position, which the next generator will replace
        return None


def _failure(kept: dict[str, str], now: float) -> Failure | None:
    if "error" not in kept:
        return None
    retry_in = _total(kept, "retry_at") / 1000 - now
    if not 0 < retry_in <= LONGEST_PAUSE:
        retry_in = 0.0
    return Failure(kept["error"], _total(kept, "failures"), round(retry_in, 3))


def _total(fields: dict[str, str], name: str) -> int:
    return forms.whole(fields.get(name, "0"))


def _paired(flat: Sequence[str]) -> dict[str, str]:
    """The answer to HGETALL within a script."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda found: found[1].upper(), name)
