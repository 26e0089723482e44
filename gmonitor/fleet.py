"""The state of all tasks: events go in, figures and log lines come out. Pure: no clock, no screen."""

from collections import deque
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import Literal

from gmonitor.events import Ended, Event, GroupAsked, KillAsked, Noted, Reported, Said, Started, Tick
from gmonitor.lines import readable
from gtask.protocol import CreatedTaskId, Generated, Output, Processed, Report, SwitchedToGenerator, Totals
from gtask.text import printable

MOST = 10**15  # No honest count gets there, and what a broken task reports must not break the sums.
WINDOW = 5.0  # seconds over which rates are taken
STOP_WITHIN = 1.0  # seconds in which a generator that was interrupted must stop generating
UNSURE = 2.0  # seconds; the death of a generator that was replaced is known by then, or it has not died


@dataclass
class Task:
    """One process: what it reported, and how it ended."""

    pid: int
    task_id: int | None = None
    generates: bool = False  # by its own reports
    outdated: bool = False  # its next report may have been written before it was interrupted or replaced
    was_generator: bool = False
    generated: int = 0
    processed: int = 0
    errors: int = 0
    code: int | None = None  # None: alive
    asked_at: float | None = None  # when the user interrupted it
    must_stop_by: float | None = None  # until when it may go on generating after it was interrupted
    ignored_interrupt: bool = False  # it has generated after that
    ended_at: float | None = None
    last_words: str = ""
    last_said: "Entry | None" = None  # the same in the log

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.code is None

    @property
    def name(self) -> str:
        """What log lines call it."""
        return f"pid {self.pid}" if self.task_id is None else f"task {self.task_id}"

    @property
    def ending(self) -> str:
        """How it ended: "exit 0", "signal 9"; empty while it lives."""
        if self.code is None:
            return ""
        return f"exit {self.code}" if self.code >= 0 else f"signal {-self.code}"


@dataclass(frozen=True)
class Rates:
    """What grows by how much in a second."""

    generated: float = 0.0
    processed: float = 0.0
    errors: float = 0.0


@dataclass(frozen=True, order=True)
class Entry:
    """One line of the log."""

    number: int
    stamp: str
    text: str
    source: Literal["event", "output"] = "event"
    screen: bool = True  # False: only where lines are printed one after the other


@dataclass(frozen=True)
class Succession:
    """A generator that came while the one before seemed to live. Its report may have overtaken the news of a death."""

    heir: Task
    before: Task
    at: float
    replaced: bool  # the one before generated, as far as was known

    @property
    def undecided(self) -> bool:
        """Whether the one before may have died, and that is not known yet."""
        return self.replaced and self.before.alive and self.before.asked_at is None

    @property
    def reason(self) -> str:
        """Why there is a new one, by all that is known now."""
        name, ended_at = self.before.name, self.before.ended_at
        if self.before.asked_at is not None:
            return f"{self.at - self.before.asked_at:.1f} s after {name} was killed"
        # A task that ends well gives the flag up first. If it had the flag when it was replaced, its end is not why.
        if ended_at is not None and not (self.replaced and self.before.code == 0):
            how = "was killed" if self.before.ending.startswith("signal") else "ended"
            return f"{max(0.0, self.at - ended_at):.1f} s after {name} {how}"
        return f"in place of {name}" if self.replaced else f"after {name} gave it up"


@dataclass
class Fleet:
    """All tasks by pid, in the order of their start, and the log."""

    tasks: dict[int, Task] = field(default_factory=dict)
    predecessor: Task | None = None  # the last one that was the generator
    unexplained: Succession | None = None  # one whose reason is not known yet
    events: deque[Entry] = field(default_factory=lambda: deque(maxlen=100))
    outputs: deque[Entry] = field(default_factory=lambda: deque(maxlen=100))
    first_reason: str = ""  # how the first task that had something to say about it ended badly
    begun: dict[tuple[int, str], Entry] = field(default_factory=dict)  # lines without an end yet, by pid and stream
    _numbers: int = 0
    _samples: deque[tuple[float, Totals]] = field(default_factory=deque)

    @property
    def alive(self) -> int:
        """How many tasks run."""
        return sum(task.alive for task in self.tasks.values())

    @property
    def generators(self) -> list[Task]:
        """Whoever generates: one, but for a moment, or where other programs do not obey."""
        return [task for task in self.tasks.values() if task.generates]

    @property
    def totals(self) -> Totals:
        """Sums over all tasks."""
        return Totals(
            generated=sum(task.generated for task in self.tasks.values()),
            processed=sum(task.processed for task in self.tasks.values()),
            errors=sum(task.errors for task in self.tasks.values()),
        )

    @property
    def rates(self) -> Rates:
        """Over the last few seconds."""
        if len(self._samples) < 2:
            return Rates()
        (start, old), (end, new) = self._samples[0], self._samples[-1]
        span = max(end - start, 0.001)
        growth = (new.generated - old.generated, new.processed - old.processed, new.errors - old.errors)
        return Rates(*(number / span for number in growth))

    def apply(self, event: Event, at: float, stamp: str = "") -> list[Entry]:
        """Changes the state; gives the new log lines. `at` is monotonic, `stamp` what the log shows."""
        entries: list[Entry] = []
        match event:
            case Started(pid):
                self.tasks[pid] = Task(pid)
            case Reported(pid, reports, unfinished):
                for report in reports:
                    entries += self._report(self.tasks[pid], report, at, stamp)
                entries += self._begun(self.tasks[pid], "stdout", unfinished, stamp)
            case Said(pid, lines, left_out, unfinished):
                entries += self._said(self.tasks[pid], lines, left_out, stamp)
                entries += self._begun(self.tasks[pid], "stderr", unfinished, stamp)
            case KillAsked(pid):
                task = self.tasks[pid]
                task.asked_at, task.must_stop_by, task.outdated = at, at + STOP_WITHIN, True
                entries.append(self._log(f"k: interrupted the generator, {task.name} (pid {pid})", stamp))
            case GroupAsked(pid):
                task = self.tasks[pid]
                task.must_stop_by, task.ignored_interrupt = None, False
                text = f"k: {task.name} (pid {pid}) still generates: interrupted its whole group"
                entries.append(self._log(text, stamp))
            case Ended(pid, code):
                entries.append(self._ended(self.tasks[pid], code, at, stamp))
                if self.unexplained and not self.unexplained.undecided:
                    entries += self._explain(stamp)
            case Noted(text):
                entries.append(self._log(text, stamp))
            case Tick():
                if self.unexplained and at - self.unexplained.at >= UNSURE:
                    entries += self._explain(stamp)
                self._samples.append((at, self.totals))
                while len(self._samples) > 2 and at - self._samples[0][0] > WINDOW:
                    self._samples.popleft()
        return entries

    def latest(self, count: int) -> list[Entry]:
        """The last `count` log lines in order; what tasks print leaves at least half of them to events."""
        if count <= 0:
            return []
        events = list(self.events)[-count:]
        room = max(count // 2, count - len(events)) if events else count
        outputs = sorted([*self.outputs, *self.begun.values()])
        outputs = outputs[len(outputs) - min(room, len(outputs)) :]
        return list(merge(events, outputs))[-count:]

    def _report(self, task: Task, report: Report | Output, at: float, stamp: str) -> list[Entry]:
        match report:
            case CreatedTaskId(task_id):
                before, known = task.name, task.task_id is not None
                task.task_id = task_id
                text = f"{before} goes on as {task.name}" if known else f"{task.name} (pid {task.pid}) started"
                return [self._log(text, stamp)]
            case SwitchedToGenerator():
                return self._switched(task, at, stamp)
            case Generated(total):
                grown, task.generated = total > task.generated, min(total, MOST)
                return self._grown(task, at, stamp) if grown else []
            case Processed(total, errors):
                task.processed, task.errors = min(total, MOST), min(errors, MOST)
                task.generates = False  # it handles again, or has just ended
            case Output(text):
                return [self._output(task, line, stamp) for line in [readable(text)] if line]
        return []

    def _grown(self, task: Task, at: float, stamp: str) -> list[Entry]:
        """Whoever generates more is a generator, whatever it was told: other programs do not ask for permission."""
        if task.outdated:
            task.outdated = False
            return []
        task.ignored_interrupt = task.must_stop_by is not None and at >= task.must_stop_by
        if task.generates:
            return []
        text = f"{task.name} generates again" if task.was_generator else f"{task.name} is the generator"
        task.generates = task.was_generator = True
        alive = self.unexplained is not None and self.unexplained.before is task
        return [*(self._explain(stamp) if alive else []), self._log(text, stamp)]

    def _switched(self, task: Task, at: float, stamp: str) -> list[Entry]:
        entries = self._explain(stamp)  # before the next one
        before, self.predecessor = self.predecessor, task
        if before is task:
            before = None
        if before is not None:
            self.unexplained = Succession(task, before, at, replaced=before.generates)
            before.generates, before.outdated = False, True  # there is exactly one
        task.generates = task.was_generator = True
        task.outdated, task.must_stop_by = False, None
        entries.append(self._log(f"{task.name} is the generator", stamp, screen=before is None))
        if self.unexplained and not self.unexplained.undecided:
            entries += self._explain(stamp)
        return entries

    def _explain(self, stamp: str) -> list[Entry]:
        """The line about a new generator, as soon as it is known what became of the one before."""
        if self.unexplained is None:
            return []
        new, self.unexplained = self.unexplained, None
        return [self._log(f"{new.heir.name} became the generator {new.reason}", stamp)]

    def _said(self, task: Task, lines: tuple[str, ...], left_out: int, stamp: str) -> list[Entry]:
        entries = [self._output(task, f"… {left_out} lines left out", stamp)] if left_out else []
        for line in filter(None, map(readable, lines)):
            task.last_words, task.last_said = line, self._output(task, line, stamp)
            entries.append(task.last_said)
        return entries

    def _ended(self, task: Task, code: int, at: float, stamp: str) -> Entry:
        task.code, task.ended_at, task.generates, task.ignored_interrupt = code, at, False, False
        for stream in ("stdout", "stderr"):  # held open by others, so its end was not waited for
            if begun := self.begun.pop((task.pid, stream), None):
                self.outputs.append(begun)
        name = task.name if task.task_id is None else f"{task.name} (pid {task.pid})"
        text = f"{name} ended: {task.ending}"
        if code <= 0 or not task.last_words:
            return self._log(text, stamp)
        # Its last words are the reason. The screen shows them only here; where lines are printed they stand above.
        self.outputs = deque((entry for entry in self.outputs if entry is not task.last_said), self.outputs.maxlen)
        reason = self._log(f"{text}: {task.last_words}", stamp)
        self.first_reason = self.first_reason or reason.text
        return self._log(text, stamp, screen=False)

    def _log(self, text: str, stamp: str, screen: bool = True) -> Entry:
        entry = self._entry(printable(text), stamp, "event", screen)
        if screen:
            self.events.append(entry)
        return entry

    def _output(self, task: Task, text: str, stamp: str) -> Entry:
        entry = self._entry(f"{task.name}: {text}", stamp, "output", True)
        self.outputs.append(entry)
        return entry

    def _begun(self, task: Task, stream: str, text: str, stamp: str) -> list[Entry]:
        """The line that a task has not ended yet; on the screen it is kept up to date, lines are printed once."""
        before = self.begun.pop((task.pid, stream), None)
        text = readable(text)
        if not text:
            return []
        entry = self._entry(f"{task.name}: {text}", stamp, "output", True)
        self.begun[task.pid, stream] = replace(entry, number=before.number) if before else entry
        return [] if before else [entry]

    def _entry(self, text: str, stamp: str, source: Literal["event", "output"], screen: bool) -> Entry:
        self._numbers += 1
        return Entry(self._numbers, stamp, text, source, screen)
