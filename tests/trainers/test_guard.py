"""What may keep a training from going on: a request to stop, and another process that has its directory."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch

from advseg.trainers.checkpoint import load_checkpoint, newest_sealed
from advseg.trainers.distributed import World
from advseg.trainers.drawing import Drawn
from advseg.trainers.errors import CheckpointError, FencedError, LostProcessError, NonFiniteLossError, PreemptedError
from advseg.trainers.guard import Unguarded
from advseg.trainers.loop import Training
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.outcome import OUTCOME, Outcome, read_outcome
from advseg.trainers.reporter import RecordingReporter, Report
from advseg.trainers.saved import Saved


class AskedAfter(Unguarded):
    """The training is asked to stop after some steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def asked_to_stop(self) -> bool:
        self._left -= 1
        return self._left <= 0


class Fenced(Unguarded):
    """Another process has the directory."""

    def check(self) -> None:
        raise FencedError("it is another's")


def checkpoint(directory: Path, step: int) -> Path:
    return directory / "checkpoints" / f"step-{step:08d}"


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(program, shapes, tmp_path_factory) -> tuple[list[Report], Path, Outcome]:
    """The run that nothing asked to stop."""
    reporter, directory = RecordingReporter(), tmp_path_factory.mktemp("undisturbed")
    outcome = Training(program.recipe_of(), shapes, directory).run(reporter)
    return reporter.reports, directory, outcome


@pytest.mark.parametrize(
    "stops", [[1], [2], [3], [8], [11], [1, 1, 1], [5, 5], [3, 3, 3]], ids=lambda stops: " and ".join(map(str, stops))
)
def test_a_training_that_is_asked_to_stop_saves_and_goes_on_to_the_bits_of_one_that_was_not(
    program, shapes, undisturbed, tmp_path, stops
):
    expected, alone, outcome = undisturbed
    reporter, step = RecordingReporter(), 0

    for steps in stops:
        step += steps
        with pytest.raises(PreemptedError, match=rf"^asked to stop, and saved at step {step}$"):
            Training(program.recipe_of(), shapes, tmp_path, guard=AskedAfter(steps)).run(reporter)
        assert newest_sealed(tmp_path / "checkpoints") == (step, checkpoint(tmp_path, step))
        assert read_outcome(tmp_path) is None

    assert Training(program.recipe_of(), shapes, tmp_path).run(reporter) == outcome
    # Each loss is a mean over the steps since the report before, in however many attempts they were made.
    assert reporter.reports == expected
    assert files(checkpoint(tmp_path, 12)) == files(checkpoint(alone, 12))


def test_a_training_that_has_reported_a_step_saves_it_once(program, shapes, tmp_path, monkeypatch):
    saves = []
    save = Saved.save
    monkeypatch.setattr(Saved, "save", lambda saved: (saves.append(saved.standing.step), save(saved)))

    with pytest.raises(PreemptedError):
        Training(program.recipe_of(), shapes, tmp_path, guard=AskedAfter(3)).run(RecordingReporter())

    assert saves == [3]


def test_a_training_that_made_its_last_step_is_asked_no_more(program, shapes, tmp_path):
    outcome = Training(program.recipe_of(), shapes, tmp_path, guard=AskedAfter(12)).run(RecordingReporter())

    assert outcome.step == 12


class TestThatLosesWhatDrawsAsItIsAskedToStop:
    """One signal goes to all processes of a machine."""

    @staticmethod
    def at(training: Training, step: int, monkeypatch: pytest.MonkeyPatch) -> Training:
        def drawn(steps: range) -> Generator[list[Drawn]]:
            yield from map(training.batches.draw, range(steps.start, step))
            training._guard = AskedAfter(0)
            raise LostProcessError("it was killed")

        monkeypatch.setattr(training.batches, "drawn_ahead", drawn)
        return training

    @pytest.mark.parametrize("step", [0, 5])
    def test_saves_and_goes_on_to_the_same_bits(self, program, shapes, undisturbed, tmp_path, monkeypatch, step):
        expected, alone, outcome = undisturbed
        reporter = RecordingReporter()

        training = self.at(Training(program.recipe_of(), shapes, tmp_path), step, monkeypatch)
        with pytest.raises(PreemptedError, match=rf"^asked to stop, and saved at step {step}$"):
            training.run(reporter)

        assert Training(program.recipe_of(), shapes, tmp_path).run(reporter) == outcome
        assert reporter.reports == expected
        assert files(checkpoint(tmp_path, 12)) == files(checkpoint(alone, 12))

    def test_tells_the_loss_if_it_is_one_of_several_workers(self, program, shapes, tmp_path, monkeypatch):
        world = World(rank=0, size=2)
        training = self.at(Training(program.recipe_of(), shapes, tmp_path, world=world), 0, monkeypatch)

        with pytest.raises(LostProcessError):
            training._next(training.batches.drawn_ahead(range(1)))
        assert contents(tmp_path) == {}


def test_a_loss_that_broke_before_the_stop_is_raised_after_it(program, shapes, tmp_path):
    recipe = program.recipe_of(evaluate_every=6, segmenter_optimizer=SGDSettings(lr=1e30))
    with pytest.raises(PreemptedError, match="saved at step 3"):
        Training(recipe, shapes, tmp_path, guard=AskedAfter(3)).run(RecordingReporter())

    with pytest.raises(NonFiniteLossError, match="became NaN or infinite at step 1:"):
        Training(recipe, shapes, tmp_path).run(RecordingReporter())


class TestFenced:
    def test_writes_nothing_into_an_empty_directory(self, program, shapes, tmp_path):
        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Fenced()).run(RecordingReporter())

        assert contents(tmp_path) == {}

    def test_leaves_what_is_there_as_it_is(self, program, shapes, tmp_path):
        with pytest.raises(PreemptedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=AskedAfter(4)).run(RecordingReporter())
        before = contents(tmp_path)

        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Fenced()).run(RecordingReporter())

        assert contents(tmp_path) == before

    def test_writes_no_outcome_of_a_training_that_is_finished(self, program, shapes, undisturbed, tmp_path):
        _, alone, _ = undisturbed
        shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
        (tmp_path / OUTCOME).unlink()

        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Fenced()).run(RecordingReporter())

        assert read_outcome(tmp_path) is None

    def test_takes_no_outcome_away(self, program, shapes, undisturbed, tmp_path):
        _, alone, outcome = undisturbed
        shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
        shutil.rmtree(checkpoint(tmp_path, 12))

        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Fenced()).run(RecordingReporter())

        assert read_outcome(tmp_path) == outcome

    def test_saves_nothing_if_it_is_asked_to_stop_too(self, program, shapes, tmp_path):
        class Both(Fenced, AskedAfter):
            pass

        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Both(2)).run(RecordingReporter())

        assert contents(tmp_path) == {}


class TestAccumulation:
    @pytest.fixture
    def half(self, program, shapes, tmp_path) -> Path:
        """A training of whole batches of four, stopped in its middle."""
        whole = program.recipe_of(batch_size=4)
        with pytest.raises(PreemptedError):
            Training(whole, shapes, tmp_path, guard=AskedAfter(5)).run(RecordingReporter())
        return tmp_path

    def test_of_another_size_is_refused(self, program, shapes, half):
        divided = program.recipe_of(batch_size=4, accumulation=2)

        with pytest.raises(CheckpointError, match=r"trainer\.accumulation is 2, but the checkpoint has 1"):
            Training(divided, shapes, half).run(RecordingReporter())

    def test_of_any_size_goes_on_if_asked_for(self, program, shapes, half):
        divided, reporter = program.recipe_of(batch_size=4, accumulation=2), RecordingReporter()

        outcome = Training(divided, shapes, half, any_accumulation=True).run(reporter)

        assert outcome.step == 12
        assert [report.step for report in reporter.reports] == [6, 9, 12]

    def test_of_any_size_is_no_licence_for_other_settings(self, program, shapes, half):
        other = program.recipe_of(batch_size=4, accumulation=2, seed=1)

        with pytest.raises(CheckpointError, match=r"trainer\.seed is 1, but the checkpoint has 0: "):
            Training(other, shapes, half, any_accumulation=True).run(RecordingReporter())


Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def run(program, shapes_root) -> Run:
    """Trains by two workers, processes of their own; what they print, in any order."""

    def run(directory: Path, recipe: str, *options: str) -> list[str]:
        flags = ["--workers=2", f"--recipe={recipe}", *options]
        command = [sys.executable, program.__file__, shapes_root, directory, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
            try:
                printed, _ = running.communicate(timeout=1200)
            finally:
                running.terminate()
        assert running.returncode == 0
        # The file by which they found each other.
        (directory / "store").unlink(missing_ok=True)
        return printed.splitlines()

    return run


def test_two_workers_of_which_one_is_asked_to_stop_save_at_the_same_step_and_go_on(run, tmp_path):
    """They ask each other at every eighth step."""
    one, other = tmp_path / "undisturbed", tmp_path / "asked"
    for directory in (one, other):
        directory.mkdir()
    run(one, "seldom")

    lines = run(other, "seldom", "--ask-at=5")
    assert lines.count("asked to stop, and saved at step 8") == 2
    assert [path.name for path in sorted((other / "checkpoints").iterdir())][-1] == "step-00000008"
    run(other, "seldom")

    states = [load_checkpoint(checkpoint(directory, 32))["method"] for directory in (one, other)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    for rank in (0, 1):
        reports = [
            [json.loads(line) for line in (directory / f"reports-{rank}.jsonl").read_text().splitlines()]
            for directory in (one, other)
        ]
        for theirs, ours in zip(*reports, strict=True):
            assert ours["step"] == theirs["step"]
            # In the first report the sums of both workers' eight steps are added up in another order.
            assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-9)


def test_two_workers_that_are_asked_to_stop_go_on_with_the_running_statistics_of_each(run, tmp_path):
    one, other = tmp_path / "undisturbed", tmp_path / "asked"
    for directory in (one, other):
        directory.mkdir()
    run(one, "statistics")

    assert run(other, "statistics", "--ask-at=5").count("asked to stop, and saved at step 8") == 2
    saved = load_checkpoint(checkpoint(other, 8))["statistics"]
    assert saved.shape[0] == 2
    assert not torch.equal(saved[0], saved[1])
    run(other, "statistics")

    expected, found = (load_checkpoint(checkpoint(directory, 16)) for directory in (one, other))
    torch.testing.assert_close(found["method"], expected["method"], rtol=0, atol=0)
    assert (found["statistics"], found["metrics"]["val/miou"]) == (None, expected["metrics"]["val/miou"])
