"""The program as a user would call it."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from waiting import LIMIT_S

_PROCESSES = multiprocessing.get_context("forkserver")
# What takes seconds of a processor is imported once, in the process that all commands are forked from. Not so Ray: it
# reads the environment as it is imported.
_PROCESSES.set_forkserver_preload(
    ["advseg.jobs.cli.main", "advseg.jobs.reproduce_model", "advseg.platform.pages.sweep_report"]
)


class Command:
    """Runs a command of ours against a cluster; its output is `stdout` and `stderr`."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is what its user exports."""
        self._home = home
        self._environment = environment or {}

    def line(self, *arguments: str | Path) -> list[str]:
        """The command as the system takes it."""
        return [sys.executable, "-m", "advseg.jobs.cli", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """The environment of a user of the cluster."""
        return {**os.environ, **self._environment, "ADVSEG_HOME": str(self._home)}

    def __call__(self, *arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        line = self.line(*arguments)
        with TemporaryDirectory() as told:
            out, err = Path(told, "out"), Path(told, "err")
            process = _PROCESSES.Process(target=_run, args=(line[3:], self.environment(), self._home, out, err))
            process.start()
            process.join(LIMIT_S)
            process.kill()
            process.join()
            assert process.exitcode is not None
            done = subprocess.CompletedProcess(line, process.exitcode, out.read_text(), err.read_text())
            process.close()
        assert done.returncode == status, f"{done.args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done


def _run(arguments: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    from advseg.jobs.cli.main import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["advseg", *arguments]
    main()
