"""docs/testing.md: its code is what users paste, so it runs, and mypy accepts it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

ROOT = Path(__file__).parents[2]
FILES = ["jobs.py", "test_jobs.py"]


@pytest.fixture
def pasted(tmp_path: Path) -> Path:
    """The folder with the page's files; the first line of each says its name."""
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in blocks] == FILES and page.count("```python") == len(FILES)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    return tmp_path


def run(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess:
    env = environment({"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=150, check=False)


def test_the_tests_of_the_page_pass(pasted: Path) -> None:
    plugin = ["-p", "no:gtask", "-p", "gtask.pytest_plugin"]  # the checkout's, whether or not gtask is installed
    done = run(pasted, "pytest", "-q", *plugin, "-c", "/dev/null", "--rootdir", str(pasted), *FILES[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("6 passed")


def test_mypy_accepts_the_page_strictly_and_knows_the_types_of_what_users_import(pasted: Path) -> None:
    (pasted / "wrong.py").write_text(
        "import gtask\n"
        "from gtask.testing import handle_one\n"
        "attempt: str = gtask.current().attempt\n"
        "followups: list[int] = handle_one(print, 'm')\n"
        "gtask.Retry(after='soon')\n"
        "gtask.Config(retries='many')\n"
        "raise gtask.retry\n"
    )
    done = run(pasted, "mypy", "--strict", "--follow-imports=silent", "--config-file=", *FILES, "wrong.py")
    found = re.findall(r"^(\S+:\d+): error", done.stdout, flags=re.MULTILINE)
    assert found == [f"wrong.py:{line}" for line in (3, 4, 5, 6, 7)], done.stdout + done.stderr
