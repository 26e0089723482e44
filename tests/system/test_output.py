"""What tasks print, as people write programs: bars of progress, colours, questions."""

import re
import signal
from pathlib import Path

import pytest

from tests.system.fleets import ENVIRON, GMONITOR, plain
from tests.system.terminal import Terminal
from tests.tasks import PATIENCE

PROGRESS = r"""
printf '\r10 %%\r20 %%' >&{stream}
until [ -e "$0.30" ]; do sleep 0.05; done
printf '\r30 %%' >&{stream}
until [ -e "$0.end" ]; do sleep 0.05; done
printf '\r      \rError: it broke\n' >&{stream}
exit 3
"""


def command(folder: Path, script: str) -> list[str]:
    """A gmonitor whose one task is this script."""
    (folder / "script").write_text(script)
    return [*GMONITOR, "-n", "1", "--", "sh", str(folder / "script")]


@pytest.mark.parametrize("stream", [1, 2], ids=["stdout", "stderr"])
def test_progress_is_shown_as_it_is_and_the_error_after_it_whole(tmp_path: Path, stream: int) -> None:
    with Terminal(command(tmp_path, PROGRESS.format(stream=stream)), environ=ENVIRON) as terminal:
        terminal.wait_for(r"pid \d+: 20 %")
        (tmp_path / "script.30").touch()
        text = terminal.wait_for(r"pid \d+: 30 %")
        assert "10 %" not in text and "20 %" not in text
        (tmp_path / "script.end").touch()
        text = terminal.wait_for("all tasks have ended")
        assert text.count("Error: it broke") == 1
        assert " %" not in text
        terminal.press("q")
        assert terminal.wait() == 3


def test_where_lines_are_printed_progress_is_printed_once(tmp_path: Path) -> None:
    with plain(*command(tmp_path, PROGRESS.format(stream=2))) as process:
        assert process.stdout
        assert any(": 20 %\n" in line for line in process.stdout)
        (tmp_path / "script.end").touch()
        (tmp_path / "script.30").touch()
        rest = process.stdout.read()
        assert process.wait(PATIENCE) == 3
    assert "%" not in rest
    assert len(re.findall(r"pid \d+: Error: it broke$", rest, re.MULTILINE)) == 1


def test_a_coloured_line_keeps_its_message_at_eighty_columns(tmp_path: Path) -> None:
    coloured = (
        r"printf '\033[2m2026-11-25T14:03:07\033[0m \033[1;38;5;208mWARNING\033[0m \033[36mdb.pool\033(B\033[m"
        r" \033]8;;https://example.org/7\033\\all connections in use\033]8;;\033\\\n' >&2; exec sleep 600"
    )
    with Terminal(command(tmp_path, coloured), environ=ENVIRON) as terminal:
        terminal.wait_for("2026-11-25T14:03:07 WARNING db.pool all connections in use")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 0


def test_a_question_without_an_end_is_printed(tmp_path: Path) -> None:
    with plain(*command(tmp_path, "printf 'Password: '; exec sleep 600")) as process:
        assert process.stdout
        assert any(line.endswith(": Password:\n") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE) == 0
