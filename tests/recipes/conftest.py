"""Fixtures of the recipes' tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.recipes.recipe import Recipe


@pytest.fixture
def cook(server, redis, tmp_path: Path) -> Iterator[Callable[..., Recipe]]:
    """Starts a recipe by its name; nothing of it survives the test."""
    started: list[Recipe] = []

    def cook(name: str, env: dict[str, str] | None = None) -> Recipe:
        started.append(Recipe(name, redis, server, tmp_path, env))
        return started[-1]

    yield cook
    for recipe in started:
        recipe.close()
