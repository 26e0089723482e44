"""The documents do not lie: their keys are those of the code, each script is where the scripts say it is, and
CONTRIBUTING.md knows every module."""

import re
from pathlib import Path

import pytest

from gtask.status import LONGEST_PAUSE
from gtask.store import Keys
from gtask.store.tasks import FORGOTTEN_AFTER

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


def every_key() -> dict[str, str]:
    """The keys of the code, by their names there."""
    keys = Keys("")
    names = {name: value for name, value in vars(keys).items() if not name.startswith("_") and name != "channel"}
    return names | {name: getattr(keys, name)("<taskId>") for name in ("inflight", "long", "longest")}


def test_every_key_of_the_code_stands_in_the_table_under_its_name() -> None:
    assert {row[1].strip("`"): row[0].strip("`") for row in rows("Every key")} == every_key()


def test_the_readme_names_every_key_for_who_permits_them_one_by_one() -> None:
    section = (ROOT / "README.md").read_text().split("\n## Keys\n", 1)[1].split("\n## ", 1)[0]
    named = re.findall(r"`([\w:<>]+)`", section)
    assert sorted(named) == sorted(every_key().values())


@pytest.mark.parametrize("package", ["gtask", "gmonitor"])
def test_contributing_says_where_every_module_is(package: str) -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Where things are\n", 1)[1].split("\n## ", 1)[0]
    of_gtask, of_gmonitor = section.split("\n`gmonitor/`: ", 1)
    said = set(re.findall(r"`(\w+\.py)`", of_gtask if package == "gtask" else of_gmonitor))
    folders = [ROOT / package, ROOT / package / "store"]
    modules = {path.name for folder in folders for path in folder.glob("*.py") if not path.name.startswith("__")}
    assert modules <= said, modules - said
    assert package == "gmonitor" or said == modules


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


def test_numbers_that_the_code_shares_with_the_scripts_are_the_same() -> None:
    [dead_after] = re.findall(r"^local DEAD_AFTER = (\d+) ", SCRIPTS["constants"], flags=re.MULTILINE)
    [longest_pause] = re.findall(r"1000 \* math\.min\((\d+), ", SCRIPTS["constants"])
    assert (int(dead_after), float(longest_pause)) == (FORGOTTEN_AFTER, LONGEST_PAUSE)


def test_every_script_stands_in_the_table_of_promises() -> None:
    assert {row[0].strip("`") for row in rows("What each script promises")} == set(SCRIPTS)
