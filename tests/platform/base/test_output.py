import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advseg.platform.base.output import CLOSED, guard_output

PROGRAM = """
import sys
from advseg.platform.base.exits import exit_status
from advseg.platform.base.output import guard_output

guard_output()
sys.exit(exit_status(lambda: {work}))
"""


def ended(work: str, stdout: int) -> tuple[int, str]:
    """How a program ends that does some work and prints into a file descriptor, and its errors."""
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(work=work)], stdout=stdout, stderr=subprocess.PIPE)
    return done.returncode, done.stderr.decode()


@pytest.fixture
def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("work", ["print('a')", "print('a', flush=True)", "print('a' * 1_000_000)"])
def test_a_reader_that_goes_away_ends_a_command_quietly(work: str, closed_pipe: int) -> None:
    assert ended(work, closed_pipe) == (CLOSED, "")


def test_the_help_ends_quietly_too(closed_pipe: int) -> None:
    done = subprocess.run([sys.executable, "-m", "advseg.jobs.cli", "--help"], stdout=closed_pipe, stderr=-1)
    assert (done.returncode, done.stderr) == (CLOSED, b"")


@pytest.mark.parametrize("work", ["print('a')", "print('a', flush=True)"])
def test_a_file_that_takes_no_more_is_one_line(work: str, tmp_path: Path) -> None:
    limited = f"(__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (0, 0)), {work})"
    with (tmp_path / "out").open("w") as file:
        status, said = ended(limited, file.fileno())
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("error: standard output: File too large: ")


def test_what_is_printed_cannot_steer_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    guard_output()
    guard_output()
    print("class \x1b]0;title\x07")
    sys.stdout.writelines(["\u202e", "photo-\udcff"])
    assert written.getvalue() == "class \\u001b]0;title\\u0007\n\\u202ephoto-\\udcff"


def test_what_an_encoding_lacks_is_written_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="latin-1") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        guard_output()
        print("é 中", flush=True)
    assert (tmp_path / "out").read_bytes() == b"\xe9 \\u4e2d\n"
