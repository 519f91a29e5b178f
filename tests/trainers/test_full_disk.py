"""A training whose disk fills up while it saves."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from advseg.trainers.checkpoint import newest_checkpoint
from advseg.trainers.errors import FencedError
from advseg.trainers.guard import Unguarded
from advseg.trainers.loop import Training
from advseg.trainers.reporter import RecordingReporter, Report


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 10 kB, as none may grow at all on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def run_until_full(training: Training, at_step: int) -> list[Report]:
    """Train; from a report on the disk is full."""
    seen = []
    reports = training.reports()
    for report in reports:
        seen.append(report)
        if report.step == at_step:
            break
    with full_disk():
        next(reports)
    return seen


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def test_a_full_disk_ends_it_in_a_line_and_it_goes_on_from_the_older_checkpoint(program, shapes, tmp_path):
    undisturbed = RecordingReporter()
    expected = Training(program.recipe_of(), shapes, tmp_path / "alone").run(undisturbed)

    with pytest.raises(OSError, match="File too large") as caught:
        run_until_full(Training(program.recipe_of(), shapes, tmp_path / "full"), 6)

    assert "\n" not in str(caught.value)
    assert str(tmp_path / "full") in str(caught.value)
    assert entries(tmp_path / "full") == ["step-00000003"]
    found = newest_checkpoint(tmp_path / "full" / "checkpoints")
    assert found and found[1]["step"] == 3
    again = RecordingReporter()
    assert Training(program.recipe_of(), shapes, tmp_path / "full").run(again) == expected
    assert again.reports == undisturbed.reports[1:]


def test_a_disk_that_is_full_at_the_first_checkpoint_leaves_none(program, shapes, tmp_path):
    with pytest.raises(OSError, match="File too large"):
        run_until_full(Training(program.recipe_of(), shapes, tmp_path), 3)

    assert entries(tmp_path) == []


def test_what_a_killed_training_left_is_cleared_away_at_the_next_start(program, shapes, tmp_path):
    left = tmp_path / "checkpoints" / ".step-00000003.elsewhere-1.partial" / "new"
    left.mkdir(parents=True)
    (left / "state.safetensors").touch()
    reports = Training(program.recipe_of(), shapes, tmp_path).reports()

    next(reports)

    assert entries(tmp_path) == []


def test_one_that_cannot_write_as_another_process_has_its_directory_says_that(program, shapes, tmp_path):
    class TakenWhileItSaves(Unguarded):
        def __init__(self) -> None:
            self.checks = 0

        def check(self) -> None:
            self.checks += 1
            if self.checks > 2:
                raise FencedError("it is another's")

    with pytest.raises(FencedError):
        run_until_full(Training(program.recipe_of(), shapes, tmp_path, guard=TakenWhileItSaves()), 3)
