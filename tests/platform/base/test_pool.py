"""Processes that work for another."""

import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from advseg.platform.base.pool import pool_of

PROGRAM = """
import os, time
from advseg.platform.base.pool import pool_of
if __name__ == "__main__":
    with pool_of(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_outlives_the_process_that_began_it_whether_it_works_or_waits(tmp_path, number: int) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        program.stdout.readline()
        children = psutil.Process(program.pid).children(recursive=True)
        assert len(children) >= 2
        program.send_signal(number)
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == []


def test_ctrl_c_in_the_terminal_is_left_to_the_process_that_waits() -> None:
    with pool_of(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGINT).result()
        with pytest.raises(BrokenProcessPool):
            pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGTERM).result()
