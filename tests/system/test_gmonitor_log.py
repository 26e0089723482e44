"""--log: the file takes no data, or goes away; and stderr, which nobody reads."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.system.fleets import ENVIRON, GMONITOR, Run, plain, start, wait_for_line
from tests.system.terminal import Terminal
from tests.tasks import PATIENCE, wait_until


def fifo(folder: Path) -> str:
    path = str(folder / "fifo")
    os.mkfifo(path)
    return path


def reader_that_does_not_read(path: str) -> int:
    """Its descriptor; the pipe is soon full."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    return reader


def total(text: str) -> int:
    """What the table shows as generated."""
    return int(re.search(r"total +(\d+)", text)[1])  # type: ignore[index]


def test_a_log_that_takes_no_data_holds_up_neither_the_screen_nor_the_keys(run: Run) -> None:
    path = fifo(run.folder)
    reader = reader_that_does_not_read(path)
    with start(run, "chatty", options=("--log", path)) as terminal:
        terminal.wait_for(lambda text: total(text) > 15)  # each time with 50 lines, and so do the others
        terminal.press("k")
        terminal.wait_for("became the generator .* was killed")
        terminal.press("q")
        assert terminal.wait() == 0
        assert re.search(rb"gmonitor: \d+ lines could not be written to ", terminal.raw)
    os.close(reader)
    assert run.left == []


def test_a_log_that_takes_no_data_says_how_many_lines_were_dropped(run: Run) -> None:
    """The bound is lower here, so that it is reached soon."""
    low = "import gmonitor.tasklog as log; log.KEPT = 5000\nfrom gmonitor.__main__ import main; main()"
    path = fifo(run.folder)
    reader = reader_that_does_not_read(path)
    command = [sys.executable, "-c", low, *run.command("chatty", options=("--log", path))[len(GMONITOR) :]]
    with Terminal(command, 100, 24, ENVIRON) as terminal:
        terminal.wait_for(r"▶.* yes ")
        terminal.wait_for(lambda text: total(text) > 15)
        os.set_blocking(reader, True)
        with open(reader, closefd=False) as lines:
            notice = next(line for line in lines if "dropped" in line)
            assert re.fullmatch(
                r"gmonitor: [1-9]\d* lines were dropped here, because they could not be written\n", notice
            )
            assert re.fullmatch(r"\d+ one more line\n", next(lines)), "and it goes on"
            terminal.wait_for(r"--log: [1-9]\d* lines were dropped")
            terminal.press("q")
            assert terminal.wait() == 0
    os.close(reader)


def test_a_log_whose_reader_comes_later_holds_up_nothing(run: Run) -> None:
    """One task lives on, for at its end gmonitor waits for a reader only for a while."""
    path = fifo(run.folder)
    task = "mkdir one 2>/dev/null || mkdir two 2>/dev/null || exec sleep 600; echo some line >&2; exit 3"
    with plain(*GMONITOR, "-n", "3", "--log", path, "--", "sh", "-c", task, cwd=run.folder) as process:
        wait_for_line(process, "ended: exit 3")
        wait_for_line(process, "ended: exit 3")
        with open(path) as log:
            assert [next(log).split(" ", 1)[1] for _ in range(2)] == ["some line\n"] * 2
            process.send_signal(signal.SIGTERM)
            assert log.read() == ""
        assert process.wait(PATIENCE) == 0


def test_a_log_without_a_reader_does_not_keep_it_from_ending(run: Run) -> None:
    with plain(*run.command("fail", tasks=1, options=("--log", fifo(run.folder)))) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert re.fullmatch(r"gmonitor: 2 lines could not be written to .*/fifo\n", err)


def test_last_words_without_a_line_end_are_kept_though_a_child_holds_the_pipe(tmp_path: Path) -> None:
    log = tmp_path / "log"
    task = "printf 'one more word'; printf 'why I die' >&2; sleep 600 & exit 3"
    with plain(*GMONITOR, "-n", "1", "--log", str(log), "--", "sh", "-c", task) as process:
        out, _ = process.communicate(timeout=PATIENCE)
    assert re.search(r": why I die\n.* ended: exit 3\n", out)
    assert re.search(r": one more word\n", out)
    assert re.fullmatch(r"\d+ why I die\n", log.read_text())


def test_a_log_that_was_rotated_away_is_begun_anew(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with plain(*run.command("chatty", tasks=1, options=("--log", str(log)))) as process:
        wait_until(lambda: log.exists() and "one more line" in log.read_text())
        log.rename(tmp_path / "log.1")
        wait_until(lambda: log.exists() and "one more line" in log.read_text(), "a new file")
        log.unlink()
        wait_until(lambda: log.exists() and "one more line" in log.read_text(), "a new file")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_last_words_that_nobody_reads_do_not_keep_it_from_ending() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while os.write(write, bytes(65536)):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)
    environ = {**os.environ, **ENVIRON}
    process = subprocess.Popen([*GMONITOR, "--log", "/no/such/folder/log", "--", "true"], stderr=write, env=environ)
    try:
        assert process.wait(PATIENCE) == 64
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)
