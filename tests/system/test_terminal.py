"""gmonitor and the terminal: keys as terminals send them, shells with job control, output that is halted."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.fleets import ENVIRON, GMONITOR, Run, start
from tests.system.terminal import Terminal
from tests.tasks import PATIENCE, wait_until

ENTERED, LEFT, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
PICTURE = r"▶.* yes "

# Keys


def test_only_keys_that_somebody_pressed_count(run: Run) -> None:
    with start(run) as terminal:
        # F1 and F5 in two pieces, and two keys in one read. A piece is forgotten when its rest does not come for half a
        # second, and then F2 would end in a key of ours.
        for piece in ("\x1b", "OP", "\x1b[", "15~", "x\x1bOQ", "\x1bOQ\x1bOQ"):
            terminal.press(piece)
            time.sleep(0.02)  # as over a slow link
        terminal.press("\x1b[200~make quick, kick\n\x1b[201~")
        terminal.press("k")
        text = terminal.wait_for(r"was killed")
        assert text.count("k: ") == 1
        assert "ending the tasks" not in text
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.raw.index(b"\x1b[?2004h") < terminal.raw.index(b"\x1b[?2004l") < terminal.raw.index(LEFT)


def test_a_key_of_ours_at_the_end_of_another_one_does_not_count_though_it_comes_later(run: Run) -> None:
    """F2 in two pieces. Once is enough: where the machine stands still between them, the second one ends gmonitor."""

    def goes_on() -> bool:
        with start(run) as terminal:
            for piece in ("\x1b", "OQ"):
                terminal.press(piece)
                time.sleep(0.02)
            before = generated(terminal.text)
            terminal.wait_for(lambda text: terminal.process.poll() is not None or generated(text) >= before + 5)
            return terminal.process.poll() is None

    def generated(text: str) -> int:
        return int(found[1]) if (found := re.search(r"total +(\d+)", text)) else 0

    assert any(goes_on() for _ in range(3))


# Shells


@pytest.fixture(params=[("bash", "--norc", "--noprofile", "-i"), ("sh", "-i")], ids=["bash", "sh"])
def shell(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """An interactive shell at its prompt."""
    with Terminal(request.param, environ={**ENVIRON, "PS1": "shell$ ", "ENV": ""}) as terminal:
        terminal.wait_for(r"shell\$")
        yield terminal


def entered(terminal: Terminal, times: int) -> None:
    """Waits until the screen was taken that often, and there is a picture on it."""
    terminal.wait_for(lambda text: terminal.raw.count(ENTERED) == times and re.search(PICTURE, text))


def left(terminal: Terminal, times: int) -> None:
    """Waits until the screen was given back that often."""
    terminal.wait_for(lambda text: terminal.raw.count(LEFT) == times)


def say(terminal: Terminal, word: str) -> None:
    """Waits until the shell has run all that was typed before."""
    terminal.press(f"echo {word[0]}''{word[1:]}\n")
    terminal.wait_for(lambda text: word.encode() in terminal.raw)


def test_a_job_that_was_started_in_the_background(run: Run, shell: Terminal) -> None:
    shell.press(" ".join(run.command()) + " &\n")
    wait_until(lambda: len(run.pids) == 3)
    say(shell, "undisturbed")
    assert ENTERED not in shell.raw
    shell.press("fg\n")
    entered(shell, 1)
    shell.press("k")
    shell.wait_for("was killed")
    shell.press("q")
    left(shell, 1)
    shell.press("exit 5\n")
    assert shell.wait() == 5
    assert run.left == []


def settings(shell: Terminal, times: int) -> bytes:
    """The terminal's settings for a command, asked that often. While a shell prompts it has settings of its own."""
    shell.press('echo "<$(stty -g)>"\n')
    found = re.compile(rb"<([0-9a-f:]+)>").findall
    shell.wait_for(lambda text: len(found(shell.raw)) == times)
    return found(shell.raw)[-1]


def test_a_job_that_is_stopped_goes_on_in_the_background_and_comes_back(run: Run, shell: Terminal) -> None:
    before = settings(shell, 1)
    shell.press(" ".join(run.command()) + "\n")
    entered(shell, 1)
    shell.press("\x1a")
    left(shell, 1)
    say(shell, "stopped")
    shell.press("stty -a | tr ' ' '\\n' | grep -x -e -icanon -e icanon -e echo -e -echo\n")
    shell.wait_for(lambda text: re.search(rb"(?<!-)icanon\r\necho\r\n", shell.raw))
    shell.press("bg\n")
    say(shell, "running")
    assert shell.raw.count(ENTERED) == 1
    shell.press("fg\n")
    entered(shell, 2)
    shell.press("k")
    shell.wait_for("was killed")
    shell.press("q")
    left(shell, 2)
    say(shell, "done")
    assert settings(shell, 2) == before
    shell.press("exit 5\n")
    assert shell.wait() == 5
    assert run.left == []


def test_a_screen_that_was_taken_away_without_a_word_is_left(run: Run, shell: Terminal) -> None:
    """SIGSTOP cannot be caught: the shell gets its prompt on a screen that gmonitor leaves as soon as it goes on."""
    shell.press(" ".join(run.command()) + "\n")
    entered(shell, 1)
    monitor = shell.foreground
    os.kill(monitor, signal.SIGSTOP)
    shell.wait_for(lambda text: shell.foreground != monitor)
    shell.press("bg\n")
    left(shell, 1)
    say(shell, "running")
    shell.press("fg\n")
    entered(shell, 2)
    shell.press("q")
    left(shell, 2)
    shell.press("exit 5\n")
    assert shell.wait() == 5
    assert run.left == []


# Output that is halted


def end_by_key(terminal: Terminal) -> None:
    terminal.press("q")


def end_by(number: int) -> Callable[[Terminal], None]:
    return lambda terminal: terminal.process.send_signal(number)


ENDS = pytest.mark.parametrize(
    ("end", "code"),
    [(end_by_key, 0), (end_by(signal.SIGTERM), 0), (end_by(signal.SIGKILL), -9)],
    ids=["q", "TERM", "KILL"],
)


@ENDS
def test_ctrl_s_is_undone_on_leaving(run: Run, end: Callable[[Terminal], None], code: int) -> None:
    with start(run, tasks=2) as terminal:
        terminal.press("\x13")
        end(terminal)
        assert terminal.wait() == code
        terminal.wait_for(lambda text: LEFT in terminal.raw and CURSOR in terminal.raw.split(LEFT)[1])
        terminal.wait_for(lambda text: terminal.attributes() == terminal.before)
        terminal.print_from_elsewhere("the shell goes on")
        terminal.wait_for("the shell goes on")
        wait_until(lambda: run.left == [])


@ENDS
def test_a_stalled_terminal_is_left_when_it_goes_on(run: Run, end: Callable[[Terminal], None], code: int) -> None:
    with start(run, tasks=2) as terminal:
        terminal.stall()
        end(terminal)
        assert terminal.process.wait(PATIENCE) == code  # it holds up nobody
        wait_until(lambda: run.left == [])
        wait_until(lambda: terminal.attributes() == terminal.before)
        assert LEFT not in terminal.raw
        terminal.wait_for(lambda text: LEFT in terminal.raw and CURSOR in terminal.raw.split(LEFT)[1])
        if code == 0:
            terminal.wait_for(lambda text: b"gmonitor: 2 tasks" in terminal.raw)
        wait_until(lambda: terminal.holders == [])


def test_nobody_waits_for_a_stalled_terminal_that_hangs_up(run: Run) -> None:
    with start(run, tasks=1) as terminal:
        terminal.stall()
        terminal.press("q")
        assert terminal.process.wait(PATIENCE) == 0
        (waiting,) = terminal.holders
        terminal.hang_up()
        wait_until(lambda: not Path(f"/proc/{waiting}").exists())


# Foreign text


def test_foreign_text_goes_by_ctrl_l(run: Run) -> None:
    with start(run) as terminal:
        terminal.print_from_elsewhere("\x1b[20;1HBroadcast message\x1b[?25h")
        terminal.wait_for("Broadcast message")
        terminal.press("\x0c")
        terminal.wait_for(lambda text: "Broadcast message" not in text and re.search(PICTURE, text))
        assert terminal.raw.rindex(b"\x1b[?25l") > terminal.raw.rindex(CURSOR)
        terminal.press("q")
        assert terminal.wait() == 0


def test_foreign_text_goes_by_itself_after_a_while(run: Run) -> None:
    quicker = (
        "import gmonitor.display as display; assert display.REDRAW_EVERY == 30; display.REDRAW_EVERY = 2\n"
        "from gmonitor.__main__ import main; main()"
    )
    command = [sys.executable, "-c", quicker, *run.command()[len(GMONITOR) :]]
    with Terminal(command, environ=ENVIRON) as terminal:
        terminal.wait_for(PICTURE)
        terminal.print_from_elsewhere("\x1b[20;1HBroadcast message")
        terminal.wait_for("Broadcast message")
        terminal.wait_for(lambda text: "Broadcast message" not in text and re.search(PICTURE, text))


# Terminals


@pytest.mark.parametrize("kind", ["made-up-in-2031", "linux", "screen-256color", "vt100"])
def test_a_picture_on_every_kind_of_terminal(run: Run, kind: str) -> None:
    with start(run, tasks=1, environ={"TERM": kind}) as terminal:
        lines = terminal.text.split("\n")
        assert lines[0].startswith(" gmonitor  1 of 1 tasks alive")
        assert lines[2].split()[:2] == ["pid", "taskId"]
        assert lines[-1].endswith("[k] end generator")
        assert b"$<" not in terminal.raw, "pauses for terminals made of steel are no text"
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.attributes() == terminal.before
