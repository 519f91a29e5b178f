"""The commands of a plain `pip install advseg`, which brings no Ray, MLflow, Optuna, boto3 or psutil."""

import subprocess
import sys
from pathlib import Path

import pytest

from advseg.platform.base.exits import EXTRA

PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRA!r}))
from advseg.jobs.cli.main import main
main()
"""


def advseg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["up", "status", "job follow x", "sweep show x", "models pull a@b --to c"])
def test_a_command_that_needs_the_extra_says_how_to_get_it(command):
    done = advseg(*command.split())
    assert done.returncode == 2
    assert done.stderr.startswith("error: this command needs ")
    assert done.stderr.endswith("pip install 'advseg[platform]'\n")
    assert len(done.stderr.splitlines()) == 1


def test_datasets_are_written_without_the_extra(tmp_path):
    sizes = [f"--{part}=1" for part in ("labelled", "unlabelled", "val", "test")]
    done = advseg("data", "shapes", tmp_path / "shapes", *sizes, "--size=16")
    assert done.returncode == 0, done.stderr
