"""A process is killed only if it is the very one."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from advseg.platform.base.processes import ProcessIdentity
from advseg.platform.workers.killing import kill_process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    created = psutil.Process(process.pid).create_time() - psutil.boot_time()
    return ProcessIdentity(pid=process.pid, created=created)


def test_a_process_is_ended_also_if_it_is_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    psutil.Process(sleeper.pid).suspend()
    kill_process(identity(sleeper))
    assert sleeper.wait(30) == -9


def test_a_stranger_that_has_its_pid_by_now_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    kill_process(replace(identity(sleeper), created=-1e9))
    assert sleeper.poll() is None


def test_one_that_is_gone_is_no_error(sleeper: subprocess.Popen[bytes]) -> None:
    gone = identity(sleeper)
    sleeper.kill()
    sleeper.wait(30)
    kill_process(gone)
