"""Walks through all states that a model can reach, the nearest first."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

S = TypeVar("S")


class Model(Protocol[S]):
    """What `search` needs to know. States are hashable."""

    def steps(self, state: S) -> Iterator[tuple[str, S]]:
        """All that can happen next, each with its name."""

    def rule(self, state: S) -> str:
        """What is wrong with this state; "" when nothing is."""

    def same(self, state: S) -> S:
        """The one that stands for all states that differ in nothing that matters."""


@dataclass(frozen=True)
class Result:
    """What a search came to: how many states there are and, if a rule was broken, the shortest way there."""

    states: int
    broken: str
    way: list[str]


def search(model: Model[S], start: S) -> Result:
    """Goes on until a rule is broken or nothing new can happen any more."""
    came_from: dict[S, tuple[S, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if broken := model.rule(state):
            return Result(len(came_from), broken, way_to(state, came_from))
        for name, reached in model.steps(state):
            following = model.same(reached)
            if following not in came_from:
                came_from[following] = (state, name)
                waiting.append(following)
    return Result(len(came_from), "", [])


def way_to(state: S, came_from: dict[S, tuple[S, str] | None]) -> list[str]:
    """The names of the steps that led there. (Which of the two tasks is called 0 may change on the way.)"""
    way: list[str] = []
    while step := came_from[state]:
        state, name = step
        way.insert(0, name)
    return way
