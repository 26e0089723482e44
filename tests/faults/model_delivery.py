"""A model of at-least-once delivery: two of our tasks, and another program that takes and pushes messages.

A call to Redis never comes, or comes long after its sender has given it up and asked again; a reply is lost, or comes
when the task was taken for dead meanwhile; a task may be taken for dead at any moment, rightly or not. As in the model
of the election, a task that stands still stands for all other delays.

The scripts are claim.lua and reap.lua in as few words as possible, without suspects. A claim acknowledges what its task
has handled and takes the next message; BLMOVE brings one to the task's list that no claim has handed out yet. `checks`
says which of the scripts' checks are made.
"""

from collections.abc import Iterator
from typing import NamedTuple

MEMBER, NUMBERS, WATCH = "member", "numbers", "watch"
ALL_CHECKS = frozenset({MEMBER, NUMBERS, WATCH})

MESSAGES, IDS, LATE, CALLS = "ab", 3, 1, (2, 1)  # bounds: ids given out, late calls at once, claims of each task

FAULTY = 0  # the task whose calls and replies are lost or late; the other one is any task that they may meet


class Call(NamedTuple):
    """A claim (number > 0) or a BLMOVE (0) of the member `id`. `finished`: what the claim acknowledges."""

    id: int
    number: int
    finished: str = ""
    whole: bool = False  # `finished` is all that was handed out: the script counts, and does not look for each


class Task(NamedTuple):
    """What a task believes."""

    id: int
    hand: str = ""  # handed out to it, not acknowledged
    number: int = 0  # of its last claim
    open: Call | None = None  # a claim of which no reply came: made again before any other


class Record(NamedTuple):
    """What Redis keeps for one id."""

    member: bool = True
    watched: bool = False  # dead, and somebody will look at its list again
    held: str = ""
    brought: str = ""  # by BLMOVE, not handed out
    number: int = 0  # of the last claim that was served
    answer: str = ""  # and what it gave


class State(NamedTuple):
    """Redis, the tasks, the calls that may still come, and what the checker remembers."""

    queue: str = MESSAGES
    records: tuple[Record, ...] = (Record(), Record())
    tasks: tuple[Task, Task] = (Task(0), Task(1))
    late: tuple[Call, ...] = ()
    handled: str = ""
    gone: str = ""  # acknowledged
    taken: str = ""  # by the other program


class Delivery:
    """The steps from state to state; some `checks` may be missing."""

    def __init__(self, checks: frozenset[str] = ALL_CHECKS, *, calls: tuple[int, int] = CALLS) -> None:
        """`calls`: how many claims each task makes."""
        self._checks = checks
        self._limits = calls

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """All that can happen next."""
        for i in (0, 1):
            yield from self._handles(state, i)
            yield from self._asks(state, i)
        for call in state.late:
            left = list(state.late)
            left.remove(call)
            what = "claim" if call.number else "BLMOVE"
            yield f"a late {what} of {call.id} comes", self._serve(state._replace(late=tuple(left)), call)[0]
        for number, record in enumerate(state.records):
            if record.member or (record.watched and record.brought):
                yield f"{number} is reaped", self._reap(state, number)
        if state.queue and not state.taken:
            yield "the other program takes one", state._replace(queue=state.queue[1:], taken=state.queue[0])

    @staticmethod
    def rule(state: State) -> str:
        """Each message is in one place, what is gone was handled, and what a dead task has will be found."""
        places = state.queue + state.gone + state.taken + "".join(r.held + r.brought for r in state.records)
        if sorted(places) != sorted(MESSAGES):
            return f"of {MESSAGES} there is {''.join(sorted(places))}"
        if lost := set(state.gone) - set(state.handled):
            return f"{''.join(sorted(lost))} is gone, and nobody has handled it"
        if any((r.held or r.brought) and not r.member and not r.watched for r in state.records):
            return "what a dead task has will never be found"
        return ""

    @staticmethod
    def same(state: State) -> State:
        """No two states are alike enough."""
        return state

    # -- the tasks

    def _handles(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        for message in state.tasks[i].hand:
            if message not in state.handled:
                yield f"{message} is handled", state._replace(handled="".join(sorted(state.handled + message)))

    def _asks(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        task = state.tasks[i]
        for call in self._calls(state, task, self._limits[i]):
            what = "claim" if call.number else "BLMOVE"
            asking = task if call.number == 0 else task._replace(number=call.number, open=call)
            after, answer = self._serve(state, call)
            yield f"{what} of {call.id}", with_task(after, i, self._heard(after, asking, call, answer))
            if i != FAULTY:
                continue
            yield f"{what} of {call.id}, its reply is lost", with_task(after, i, asking)
            if len(state.late) < LATE:
                waiting = state._replace(late=(*state.late, call))
                yield f"{what} of {call.id}, which may come later", with_task(waiting, i, asking)
        if not state.records[task.id].member and len(state.records) < IDS:
            joined = state._replace(records=(*state.records, Record()))
            yield f"{task.id} joins as {len(state.records)}", with_task(joined, i, Task(len(state.records)))

    @staticmethod
    def _calls(state: State, task: Task, limit: int) -> list[Call]:
        if task.open:
            return [task.open]
        finished = "".join(message for message in task.hand if message in state.handled)
        calls = [Call(task.id, task.number + 1, finished, finished == task.hand)] if task.number < limit else []
        return calls if task.hand else [*calls, Call(task.id, 0)]

    @staticmethod
    def _heard(state: State, task: Task, call: Call, answer: str | None) -> Task:
        if call.number == 0 or answer is None:
            return task  # the list is the truth; or it was refused, and the task will join anew
        kept = "".join(message for message in task.hand if message not in call.finished)
        return task._replace(hand=kept + answer, open=None)

    # -- the scripts: Redis afterwards, and the reply (None: refused)

    def _serve(self, state: State, call: Call) -> tuple[State, str | None]:
        return self._claim(state, call) if call.number else self._blmove(state, call)

    @staticmethod
    def _blmove(state: State, call: Call) -> tuple[State, str]:
        record, message = state.records[call.id], state.queue[:1]
        record = record._replace(brought=record.brought + message)
        return with_record(state._replace(queue=state.queue[1:]), call.id, record), ""

    def _claim(self, state: State, call: Call) -> tuple[State, str | None]:
        record = state.records[call.id]
        if MEMBER in self._checks and not record.member:
            return state, None
        if NUMBERS in self._checks and record.number >= call.number:
            return state, record.answer if record.number == call.number else ""
        gone = record.held if call.whole else "".join(m for m in record.held if m in call.finished)
        held = "".join(m for m in record.held if m not in gone)
        answer, queue = (record.brought, state.queue) if record.brought else (state.queue[:1], state.queue[1:])
        record = record._replace(held=held + answer, brought="", number=call.number, answer=answer)
        state = state._replace(queue=queue, gone="".join(sorted(state.gone + gone)))
        return with_record(state, call.id, record), answer

    def _reap(self, state: State, number: int) -> State:
        record = state.records[number]
        state = state._replace(queue=record.held + record.brought + state.queue)
        return with_record(state, number, Record(member=False, watched=WATCH in self._checks))


def with_record(state: State, number: int, record: Record) -> State:
    """The state in which Redis has this of the id `number`."""
    return state._replace(records=(*state.records[:number], record, *state.records[number + 1 :]))


def with_task(state: State, i: int, task: Task) -> State:
    """The state in which task `i` believes this."""
    return state._replace(tasks=(task, state.tasks[1]) if i == 0 else (state.tasks[0], task))
