"""Each recipe is short, is led to by docs/recipes.md, and has a test."""

from pathlib import Path

import pytest

from tests.support.processes import ROOT

RECIPES = sorted(page.parent for page in (ROOT / "examples").glob("*/README.md"))


@pytest.mark.parametrize("folder", RECIPES, ids=lambda folder: folder.name)
def test_a_recipe_is_short_and_found(folder: Path) -> None:
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line]
    assert len(lines) <= 10
    assert f"(../examples/{folder.name}/)" in (ROOT / "docs" / "recipes.md").read_text()
    assert (ROOT / "tests" / "recipes" / f"test_{folder.name}.py").exists()
