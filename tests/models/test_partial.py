import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from advseg.models.partial import partial_of


def test_a_directory_on_its_way_is_new_beside_its_place_and_gone_at_the_end(tmp_path):
    with partial_of(tmp_path / "new" / "a") as partial:
        assert partial.parent == tmp_path / "new"
        assert not list(partial.iterdir())
        (partial / "file").touch()

    assert not list((tmp_path / "new").iterdir())


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="disk full"), partial_of(tmp_path / "a") as partial:
        (partial / "file").touch()
        raise OSError("disk full")

    assert not list(tmp_path.iterdir())


def test_two_writers_of_a_path_do_not_meet(tmp_path):
    with partial_of(tmp_path / "a") as one, partial_of(tmp_path / "a") as other:
        (one / "file").touch()

        assert one != other
        assert one.is_dir()
        assert not list(other.iterdir())


def left_by_a_killed_writer(path: Path) -> Path:
    program = f"""
import os, signal
from pathlib import Path
from advseg.models.partial import partial_of

with partial_of(Path({str(path)!r})) as partial:
    (partial / "file").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    (left,) = path.parent.iterdir()
    return left


def test_what_a_killed_writer_left_is_removed_by_the_next_of_its_path(tmp_path):
    left = left_by_a_killed_writer(tmp_path / "a [1]")

    with partial_of(tmp_path / "b"):
        assert left.is_dir()
    with partial_of(tmp_path / "a [1]"):
        assert not left.exists()


def test_what_lies_there_from_another_machine_may_be_on_its_way(tmp_path):
    other = tmp_path / f".a.not-{socket.gethostname()}-1.partial"
    other.mkdir()

    with partial_of(tmp_path / "a"):
        pass

    assert other.is_dir()
