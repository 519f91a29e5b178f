"""The commands of a plain `pip install advseg`, which brings no Ray, MLflow, Optuna, boto3, psutil or ONNX."""

import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from advseg.platform.base.exits import EXTRAS

PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({[*chain(*EXTRAS.values())]!r}))
from advseg.jobs.cli.main import main
main()
"""


def advseg(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=cwd
    )


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("up", "platform"),
        ("status", "platform"),
        ("job follow x", "platform"),
        ("sweep show x", "platform"),
        ("models pull a@b --to c", "platform"),
        ("models pull hf://a/b --to c", "hub"),
        ("models push folder hf://a/b", "hub"),
        ("models export folder --to model.onnx", "onnx"),
    ],
)
def test_a_command_that_needs_an_extra_says_how_to_get_it(tmp_path, command, extra):
    (tmp_path / "folder").mkdir()
    done = advseg(*command.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this command needs ")
    assert done.stderr.endswith(f"pip install 'advseg[{extra}]'\n")
    assert len(done.stderr.splitlines()) == 1


def test_datasets_are_written_without_the_extra(tmp_path):
    sizes = [f"--{part}=1" for part in ("labelled", "unlabelled", "val", "test")]
    done = advseg("data", "shapes", tmp_path / "shapes", *sizes, "--size=16")
    assert done.returncode == 0, done.stderr
