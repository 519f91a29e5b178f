import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from waiting import wait_for

from advseg.platform.storage.once import make_once

WRITER = """
import os, sys
from pathlib import Path
from advseg.platform.storage.once import make_once

path, log, end = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def write(file):
    with log.open("a") as told:
        told.write(f"{os.getpid()}\\n")
    file.write(b"whole" if end == "whole" else b"ha")
    file.flush()
    if end != "whole":
        Path(end).touch()
        sys.stdin.read()

make_once(path, write)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], "subprocess.Popen[bytes]"]:
    """Starts a process that makes `file`; one whose writing is not to end touches a file of this name, and stays."""

    def start(end: str) -> "subprocess.Popen[bytes]":
        arguments = [str(tmp_path / "file"), str(tmp_path / "log"), end]
        return subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdin=subprocess.PIPE)

    return start


def test_threads_that_ask_at_once_write_once(tmp_path):
    wrote, together = [], Barrier(4)

    def ask(number: int) -> bytes:
        together.wait()
        make_once(tmp_path / "sub" / "file", lambda file: wrote.append(number) or file.write(b"x" * 100_000))
        return (tmp_path / "sub" / "file").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        contents = set(pool.map(ask, range(4)))

    assert contents == {b"x" * 100_000}
    assert len(wrote) == 1
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file"]


def test_a_process_that_waits_for_another_does_not_write(start, tmp_path):
    first = start(str(tmp_path / "begun"))
    wait_for((tmp_path / "begun").exists)
    second = start("whole")
    wait_for(lambda: _waits(second.pid))
    assert not (tmp_path / "file").exists()

    first.communicate(b"")

    assert (first.returncode, second.wait()) == (0, 0)
    second.communicate()
    assert (tmp_path / "file").read_bytes() == b"ha"
    assert (tmp_path / "log").read_text() == f"{first.pid}\n"


def test_one_that_is_killed_leaves_nothing_half_and_the_next_one_writes_it(start, tmp_path):
    killed = start(str(tmp_path / "begun"))
    wait_for((tmp_path / "begun").exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "file").exists()

    make_once(tmp_path / "file", lambda file: file.write(b"w"))

    assert (tmp_path / "file").read_bytes() == b"w"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "file", "log"]


def test_one_that_fails_leaves_nothing_and_who_waits_writes(tmp_path):
    def fail(file) -> None:
        file.write(b"half")
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        make_once(tmp_path / "file", fail)
    assert not (tmp_path / "file").exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0

    make_once(tmp_path / "file", lambda file: file.write(b"whole"))

    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_is_there_is_not_written_again(tmp_path):
    (tmp_path / "file").write_bytes(b"first")

    make_once(tmp_path / "file", lambda file: pytest.fail("it is there"))

    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_disk_that_is_full_is_told_with_the_file(tmp_path):
    def full(file) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        make_once(tmp_path / "file", full)

    assert caught.value.filename == str(tmp_path / "file")


def _waits(pid: int) -> bool:
    """Whether a process waits for a lock of a file."""
    return any(f" {pid} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())
