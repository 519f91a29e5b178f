"""Which process is meant."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from advseg.platform.base.processes import ProcessIdentity, is_alive, kill, launch, pid_space, this_process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    assert process.stdin
    process.stdin.close()


def identity_of(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    created = psutil.Process(process.pid).create_time() - psutil.boot_time()
    return ProcessIdentity(pid=process.pid, created=created, space=pid_space())


class TestIdentity:
    def test_is_of_this_process_among_the_pids_of_this_boot_and_namespace(self) -> None:
        me = this_process()
        assert (me.pid, me.space) == (os.getpid(), pid_space())
        assert is_alive(me)

    def test_of_a_record_that_does_not_tell_the_pid_space_is_looked_for_here(self) -> None:
        assert is_alive(replace(this_process(), space=""))

    def test_in_another_pid_space_is_none_of_ours(self) -> None:
        assert not is_alive(replace(this_process(), space="another boot/1"))


def test_what_was_launched_can_be_told_by_its_environment_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seen once in some hundred starts: the caller goes on before the new program has arguments and environment.
    hidden, real = [{}, {}], psutil.Process.environ
    monkeypatch.setattr(psutil.Process, "environ", lambda process: hidden.pop() if hidden else real(process))
    process = launch(["sleep", "100"], environment={"TOLD": "BY"}, folder=tmp_path, log=tmp_path / "log")
    try:
        assert not hidden
        assert psutil.Process(process.pid).environ()["TOLD"] == "BY"
    finally:
        kill(process)
        os.waitpid(process.pid, 0)


class TestKill:
    def test_ends_the_very_process(self, child: subprocess.Popen[bytes]) -> None:
        kill(identity_of(child))
        assert child.wait(60) == -9

    def test_ends_one_that_is_stopped(self, child: subprocess.Popen[bytes]) -> None:
        psutil.Process(child.pid).suspend()
        kill(identity_of(child))
        assert child.wait(60) == -9

    @pytest.mark.parametrize("change", [{"created": 1.0}, {"created": -1e9}, {"space": "another boot/1"}], ids=str)
    def test_spares_a_stranger_with_its_pid(self, child: subprocess.Popen[bytes], change: dict[str, object]) -> None:
        kill(replace(identity_of(child), **change))  # pyright: ignore[reportArgumentType]
        child.communicate(b"\n")
        assert child.returncode == 0

    def test_of_a_process_that_has_ended_does_nothing(self, child: subprocess.Popen[bytes]) -> None:
        identity = identity_of(child)
        child.kill()
        child.wait()
        kill(identity)
