"""The program as a user would call it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from waiting import LIMIT_S


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
        done = subprocess.run(
            self.line(*arguments),
            env=self.environment(),
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == status, f"{done.args} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done
