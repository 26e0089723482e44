"""docs/architecture.md does not lie: its keys are those of the code, and each script is where the scripts say it is."""

import re
from pathlib import Path

import pytest

from gtask.store import Keys

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SCRIPTS = {path.stem: path.read_text() for path in sorted((ROOT / "gtask" / "store" / "lua").glob("*.lua"))}

PRELUDES = ("constants", "fence", "call", "due")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def declared(text: str) -> set[str]:
    """The keys that a script's comment declares, by their names in the code."""
    found = re.search(r"^-- KEYS ([^;\n]*)", text, flags=re.MULTILINE)
    return set(found[1].replace("...", "").split()) if found else set()


def needs(text: str) -> list[str]:
    """The preludes that a script's first line names."""
    found = re.match(r"-- needs: (.+)\n", text)
    return found[1].split() if found else []


def test_every_key_of_the_code_stands_in_the_table_under_its_name() -> None:
    keys = Keys("")
    names = {name: value for name, value in vars(keys).items() if not name.startswith("_") and name != "channel"}
    names |= {"inflight": keys.inflight("<taskId>"), "long": keys.long("<taskId>"), "longest": keys.longest("<taskId>")}
    assert {row[1].strip("`"): row[0].strip("`") for row in rows("Every key")} == names


@pytest.mark.parametrize("script", [name for name, text in SCRIPTS.items() if declared(text)])
def test_a_script_stands_at_the_keys_that_it_declares_and_at_no_others(script: str) -> None:
    said = {row[1].strip("`") for row in rows("Every key") if f"`{script}`" in row[3] + row[4]}
    assert said == declared(SCRIPTS[script])


@pytest.mark.parametrize("prelude", PRELUDES)
def test_a_prelude_is_said_to_stand_before_those_scripts_that_name_it(prelude: str) -> None:
    [promise] = [row[1] for row in rows("What each script promises") if row[0] == f"`{prelude}`"]
    said = set(re.findall(r"`(\w+)`", promise.partition(":")[0]))
    named = {name for name, text in SCRIPTS.items() if prelude in needs(text)}
    assert said == named


def test_a_script_needs_a_prelude_exactly_when_it_uses_one_of_its_names() -> None:
    for prelude in PRELUDES:
        names = re.findall(r"^local (?:function )?(\w+)", SCRIPTS[prelude], flags=re.MULTILINE)
        for script, text in SCRIPTS.items():
            before = "".join(SCRIPTS[other] for other in needs(text) if other != prelude)
            code = re.sub(r"--.*", "", before + text)
            uses = any(re.search(rf"\b{name}\b", code) for name in names)
            assert (prelude in needs(text)) == uses or script in PRELUDES, (script, prelude)


def test_every_script_stands_in_the_table_of_promises() -> None:
    assert {row[0].strip("`") for row in rows("What each script promises")} == set(SCRIPTS)
