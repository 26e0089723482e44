"""What gmonitor takes from gtask. That imports run one way, import-linter checks (pyproject.toml, tox -e lint)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.support.processes import environment

ROOT = Path(__file__).parents[2]
SHARED = {"config", "exceptions", "lines", "patch", "processes", "protocol", "stdio", "text", "urls"}


def taken(source: str) -> set[str]:
    """The modules of gtask that a source text imports, inside functions too ("" is the package: its version)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "gtask" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("gtask").split(".")[1] if "." in name else "" for name in names
                  if name.split(".")[0] == "gtask"}  # fmt: skip
    return found


def test_gmonitor_takes_from_gtask_only_what_contributing_says() -> None:
    sources = sorted((ROOT / "gmonitor").rglob("*.py"))
    assert set().union(*(taken(path.read_text()) for path in sources)) - {""} == SHARED
    said = (ROOT / "CONTRIBUTING.md").read_text().split("gmonitor takes from gtask only", 1)[1].split(".\n", 1)[0]
    assert all(f"`{name}.py`" in said for name in SHARED), said


def test_only_the_store_imports_redis_and_the_fixture_for_users_tests() -> None:
    importing = re.compile(r"^\s*(import|from) redis\b", re.MULTILINE)
    sources = [*(ROOT / "gtask").rglob("*.py"), *(ROOT / "gmonitor").rglob("*.py")]
    names = {path.relative_to(ROOT) for path in sources if importing.search(path.read_text())}
    assert {name for name in names if name.parent != Path("gtask/store")} == {Path("gtask/pytest_plugin.py")}


def test_patching_does_not_search_the_installed_distributions_which_would_take_a_quarter_of_the_start() -> None:
    program = "import sys; from gtask.patch import patch; patch(); print('importlib.metadata' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_garbage_is_collected_again_when_users_code_is_imported(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import gc\nassert gc.isenabled()\ndef generate(last): return ['1']\n")
    command = [sys.executable, "-m", "gtask", "check", "--generate", "job:generate"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
