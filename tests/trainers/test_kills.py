"""A run that SIGKILL ended, any number of times and anywhere, ends as one left alone: to the bit."""

import itertools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from advseg.trainers.checkpoint import newest_checkpoint
from advseg.trainers.kept import Kept
from advseg.trainers.outcome import Outcome, read_outcome

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 10))]
Start = Callable[..., subprocess.Popen]


@dataclass(frozen=True)
class Alone:
    """A run that nothing killed."""

    checkpoint: dict[str, bytes]
    """The files of its last checkpoint: weights, optimizers' states, step, figures."""
    outcome: Outcome
    reports: dict[int, dict]
    seconds: float
    """From before its first step to its end."""
    disk_changes: int
    """Flushes, renames and removals while it saved its checkpoints and its outcome."""


@pytest.fixture(scope="module")
def start(program, shapes_root) -> Start:
    """Starts or resumes a run in a directory, and waits until it is about to make a step."""

    def run(directory: Path, **options: int) -> subprocess.Popen:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        child = subprocess.Popen(
            [sys.executable, program.__file__, shapes_root, directory, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        return child

    return run


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory) -> Alone:
    directory = tmp_path_factory.mktemp("alone")
    with start(directory) as child:
        began = time.monotonic()
        *_, last = child.stdout
        seconds = time.monotonic() - began
    reports = {line["step"]: line["metrics"] for line in lines_in(directory)}
    outcome = read_outcome(directory)
    assert outcome
    return Alone(last_checkpoint(directory), outcome, reports, seconds, int(last.removeprefix("changes ")))


def lines_in(directory: Path) -> list[dict]:
    """What was reported, without a line that a kill cut short."""
    path = directory / "reports-0.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_checkpoint(directory: Path) -> dict[str, bytes]:
    found = newest_checkpoint(directory / "checkpoints")
    assert found
    return {file.name: file.read_bytes() for file in found[0].iterdir()}


def saved_step(directory: Path, caplog: pytest.LogCaptureFixture) -> int:
    """The step of the newest checkpoint, which is whole."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(directory / "checkpoints")
    assert not caplog.records
    return found[1]["step"] if found else 0


def kill_until_done(
    attempt: Callable[[Path], bool], alone: Alone, directory: Path, every: int, caplog: pytest.LogCaptureFixture
) -> int:
    """Make attempts until one survives, and hold each one before it to what a kill must leave; how many were killed.

    `attempt` says whether a kill ended it.
    """
    directory.mkdir()
    kills = saved = 0
    while attempt(directory):
        kills += 1
        reported = max((line["step"] for line in lines_in(directory)), default=0)
        before, saved = saved, saved_step(directory, caplog)
        assert saved >= max(before, reported - every)
        assert read_outcome(directory) in (None, alone.outcome)
        # One of the best step, one that was being written, and one that was being removed.
        assert len(list((directory / "checkpoints").glob("*"))) <= Kept.newest + 3
    assert last_checkpoint(directory) == alone.checkpoint
    assert read_outcome(directory) == alone.outcome
    assert all(line["metrics"] == alone.reports[line["step"]] for line in lines_in(directory))
    assert {line["step"] for line in lines_in(directory)} == set(alone.reports)
    return kills


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_moment_ends_as_one_left_alone(program, start, alone, tmp_path, caplog, seed):
    rng = random.Random(seed)

    def attempts() -> Callable[[Path], bool]:
        # Each may live for longer, or on a machine that slowed down none would come to its end.
        longest = (alone.seconds * 2**number for number in itertools.count())

        def attempt(directory: Path) -> bool:
            with start(directory) as child:
                try:
                    child.wait(timeout=rng.uniform(0, next(longest)))
                except subprocess.TimeoutExpired:
                    child.kill()
                return child.wait() == -signal.SIGKILL

        return attempt

    # A run that is quicker than the one measured may escape: another begins, with as short a life as that one's first.
    escapes = (tmp_path / str(number) for number in itertools.count())
    while not kill_until_done(attempts(), alone, next(escapes), program.EVALUATE_EVERY, caplog):
        pass


@pytest.mark.parametrize(
    ("seed", "most"), [(0, 2), *(pytest.param(seed, sys.maxsize, marks=pytest.mark.chaos) for seed in range(1, 10))]
)
def test_a_run_killed_in_the_middle_of_a_checkpoint_ends_as_one_left_alone(
    program, start, alone, tmp_path, caplog, seed, most
):
    """Of the many places where that may be, test_writing tries all without ending the process."""
    rng, numbers = random.Random(7 + seed), itertools.count()

    def attempt(directory: Path) -> bool:
        kill = {"die_at": rng.randrange(alone.disk_changes)} if next(numbers) < most else {}
        with start(directory, **kill) as child:
            return child.wait() == -signal.SIGKILL

    assert kill_until_done(attempt, alone, tmp_path / "run", program.EVALUATE_EVERY, caplog)
