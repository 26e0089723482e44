"""A model of the election: two of our tasks and a program that knows nothing of owners share one Redis.

What can go wrong is all in `steps`: a request never comes, or comes long after its sender has given it up and asked
again; a reply is lost; the flag and its owner expire at any moment; the other program sets the flag at any moment.
Three things need no steps of their own, because for everybody else they are the same as a task that stands still for a
while, and any task that is not chosen stands still: a task that is paused, a request that takes its time while its task
waits for it, and a reply that takes its time.

The scripts are those of gtask/store/lua/, in as few words as possible. `checks` says which of their checks are made, so
that a test can take one out and see that the search finds out.
"""

from collections.abc import Iterator
from typing import NamedTuple

OWNER, FOREIGN_WRITE, NUMBERS = "owner", "foreign write", "numbers"
ALL_CHECKS = frozenset({OWNER, FOREIGN_WRITE, NUMBERS})

FIRST, SECOND, FOREIGN, NOBODY = 0, 1, 2, 3  # who has set a key: one of our tasks, the other program, or nobody
TERMS, MESSAGES, FOREIGN_SETS, LATE = 3, 3, 1, 1  # bounds, without which there were no end


class Call(NamedTuple):
    """A request. `term` and `pushed` are what its task believed when it sent it."""

    task: int
    kind: str  # beat, push, release
    term: int
    pushed: int


class Task(NamedTuple):
    """What a task believes."""

    term: int = 0  # 0: it is a handler
    pushed: int = 0  # messages before the one that it pushes next


class State(NamedTuple):
    """Redis, the tasks, the requests that may still come, and what the checker remembers."""

    flag: int = NOBODY
    owner: int = NOBODY
    term: int = 0
    pushed: int = 0
    tasks: tuple[Task, Task] = (Task(), Task())
    late: tuple[Call, ...] = ()
    foreign_sets: int = 0
    foreign_after: int = 0  # the last term before the other program set the flag
    over: int = 0  # after this term and those before it somebody else has pushed
    broken: str = ""


class Election:
    """The steps from state to state; some `checks` may be missing."""

    def __init__(self, checks: frozenset[str] = ALL_CHECKS, *, releases: bool = True) -> None:
        """`releases`: whether tasks end, too."""
        self._checks = checks
        self._calls = ("beat", "push", "release") if releases else ("beat", "push")

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """All that can happen next."""
        for i in (FIRST, SECOND):
            yield from self._task_asks(state, i)
        for call in state.late:
            left = list(state.late)
            left.remove(call)
            yield f"a late {call.kind} of {call.task} comes", self._serve(state._replace(late=tuple(left)), call)[0]
        yield from self._time_passes(state)
        yield from self._foreign_program(state)

    @staticmethod
    def rule(state: State) -> str:
        """What is wrong; "" when nothing is."""
        return state.broken

    @staticmethod
    def same(state: State) -> State:
        """Of two states that differ in the tasks' names alone, the one that stands for both."""
        names = {FIRST: SECOND, SECOND: FIRST, FOREIGN: FOREIGN, NOBODY: NOBODY}
        other = state._replace(
            flag=names[state.flag],
            owner=names[state.owner],
            tasks=(state.tasks[1], state.tasks[0]),
            late=tuple(sorted(call._replace(task=names[call.task]) for call in state.late)),
        )
        return min(state, other)

    # -- the tasks

    def _task_asks(self, state: State, i: int) -> Iterator[tuple[str, State]]:
        """A beat, a push of the next message, or a release. After a push of which no reply came the next one is the
        same again, since `pushed` has not changed."""
        term, pushed = state.tasks[i]
        for kind in self._calls if term else ("beat",):
            if kind == "push" and pushed == MESSAGES:
                continue
            call = Call(i, kind, term, pushed if kind == "push" else 0)
            after, task = self._serve(state, call)
            tasks = (task, state.tasks[1]) if i == FIRST else (state.tasks[0], task)
            yield f"{kind} of {i}", after._replace(tasks=tasks)
            yield f"{kind} of {i}, its reply is lost", after
            if len(state.late) < LATE:
                yield f"{kind} of {i}, which may come later", state._replace(late=tuple(sorted([*state.late, call])))

    # -- the scripts: Redis afterwards, and the task when it has the reply

    def _serve(self, state: State, call: Call) -> tuple[State, Task]:
        return {"beat": self._beat, "push": self._push, "release": self._release}[call.kind](state, call)

    def _beat(self, state: State, call: Call) -> tuple[State, Task]:
        # What may be missing is a check before the tasks act; who owns the flag a beat always knows.
        fence = fence_of(state, call, ALL_CHECKS)
        if fence == "held":
            return state._replace(flag=call.task, owner=call.task), state.tasks[call.task]
        if fence == "overwritten":
            state = state._replace(owner=NOBODY)
        if (fence == "other term" or state.flag == NOBODY) and state.term < TERMS:
            state = state._replace(flag=call.task, owner=call.task, term=state.term + 1)
            return state, Task(state.term, state.pushed)
        return state, Task()

    def _push(self, state: State, call: Call) -> tuple[State, Task]:
        if fence_of(state, call, self._checks) != "held":
            return state, Task()
        done = Task(call.term, call.pushed + 1)
        if NUMBERS in self._checks:
            if state.pushed == call.pushed + 1:
                return state, done  # a repeat
            if state.pushed != call.pushed:
                return state, Task()
        broken = state.broken
        if call.term <= state.over:
            broken = "a deposed generator pushed after its successor's first message"
        elif state.pushed != call.pushed:
            broken = f"message {call.pushed + 1} came after message {state.pushed}"
        over = max(state.over, call.term - 1)
        return state._replace(pushed=call.pushed + 1, over=over, broken=broken), done

    def _release(self, state: State, call: Call) -> tuple[State, Task]:
        if fence_of(state, call, self._checks) == "held":
            broken = state.broken
            if state.term != call.term or state.flag == FOREIGN:
                broken = "the flag of another one was released"
            state = state._replace(flag=NOBODY, owner=NOBODY, broken=broken)
        return state, Task()

    # -- the rest of the world

    def _time_passes(self, state: State) -> Iterator[tuple[str, State]]:
        if state.owner != NOBODY:
            yield "the owner expires", state._replace(owner=NOBODY)
        # A flag that was set together with its owner outlives it. One that was set by somebody else may not.
        if state.flag not in (NOBODY, state.owner):
            yield "the flag expires", state._replace(flag=NOBODY)

    def _foreign_program(self, state: State) -> Iterator[tuple[str, State]]:
        if state.foreign_sets < FOREIGN_SETS:
            yield (
                "the other program sets the flag",
                state._replace(flag=FOREIGN, foreign_sets=state.foreign_sets + 1, foreign_after=state.term),
            )
        if state.flag == FOREIGN and state.over < state.foreign_after:
            yield "the other program pushes", state._replace(over=state.foreign_after)


def fence_of(state: State, call: Call, checks: frozenset[str]) -> str:
    """fence.lua. Flag and owner were set together while nobody else has set the flag since."""
    if OWNER in checks and state.owner != call.task:
        return "gone"
    if FOREIGN_WRITE in checks and state.flag != state.owner:
        return "overwritten"
    if OWNER in checks and state.term != call.term:
        return "other term"
    return "held"
