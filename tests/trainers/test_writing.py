"""Checkpoints are written while the training goes on, and what becomes of them is heard."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest
import torch

from advseg.trainers import loop
from advseg.trainers.checkpoint import CHECKPOINTS, host_copy, load_checkpoint, newest_sealed
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.errors import CollapseError, FencedError, NonFiniteLossError, PreemptedError
from advseg.trainers.guard import Unguarded
from advseg.trainers.keeper import InPlace
from advseg.trainers.kept import Kept
from advseg.trainers.loop import Training
from advseg.trainers.outcome import read_outcome
from advseg.trainers.reporter import RecordingReporter, Report
from advseg.trainers.writing import Writing

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fails(error: BaseException = NO_SPACE) -> None:
    raise error


class TestWriting:
    def test_goes_on_beside_who_began_it(self) -> None:
        writing, goes_on, threads = Writing(), Event(), []
        writing.begin(lambda: (goes_on.wait(), threads.append(current_thread())))
        writing.look()
        assert threads == []

        goes_on.set()
        writing.wait()
        assert threads != [main_thread()]

    def test_is_of_one_thing_at_a_time(self) -> None:
        writing, heard = Writing(), []
        for number in range(20):
            writing.begin(lambda number=number: heard.extend([number, number]))
        writing.wait()
        assert heard == sorted([*range(20)] * 2)

    @pytest.mark.parametrize("hear", [Writing.wait, lambda writing: writing.begin(lambda: None)])
    def test_raises_what_broke_it_once(self, hear: Callable[[Writing], None]) -> None:
        writing = Writing()
        writing.begin(fails)
        with pytest.raises(OSError, match="No space left"):
            hear(writing)
        hear(writing)
        writing.wait()

    def test_that_broke_is_seen_without_waiting(self) -> None:
        writing = Writing()
        writing.look()
        writing.begin(fails)
        with pytest.raises(OSError, match="No space left"):
            while True:
                writing.look()
        writing.look()

    def test_ends_before_what_it_was_begun_within(self) -> None:
        writing, written = Writing(), []
        with pytest.raises(KeyboardInterrupt), writing:
            writing.begin(lambda: written.append("all of it"))
            raise KeyboardInterrupt
        assert written == ["all of it"]

    @pytest.mark.parametrize("own", [KeyboardInterrupt(), NonFiniteLossError("step 5: the loss is nan")])
    def test_lets_what_broke_the_work_within_come_up_and_warns_of_its_own_error(
        self, own: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        writing = Writing()
        with pytest.raises(type(own)) as caught, writing:
            writing.begin(fails)
            raise own
        assert caught.value is own
        assert caplog.messages == [
            "what was being written meanwhile broke: OSError: [Errno 28] No space left on device"
        ]
        writing.wait()

    def test_raises_what_broke_it_where_the_work_within_ends_or_is_left(self) -> None:
        writing = Writing()
        with pytest.raises(OSError, match="No space left"), writing:
            writing.begin(fails)
        with pytest.raises(OSError, match="No space left"), writing:
            writing.begin(fails)
            raise GeneratorExit


def test_the_copy_of_a_state_stays_as_it_was_and_shares_nothing() -> None:
    weights = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    state = {"method": {"weights": weights, "steps": [torch.tensor(3)]}, "grown": [(1, 2)], "name": "a"}
    before = weights.clone()

    copy = host_copy(state, torch.device("cpu"))
    weights.zero_()
    state["method"]["steps"][0] += 1

    assert copy["method"]["weights"].equal(before)
    assert copy["method"]["weights"].is_contiguous()
    assert copy["method"]["steps"][0] == 3
    assert (copy["grown"], copy["name"]) == ([[1, 2]], "a")


@pytest.mark.gpu
def test_a_copy_from_a_gpu_lies_in_pinned_memory_and_stays_as_it_was() -> None:
    weights = torch.randn(64, 3, 512, 512, device="cuda").contiguous(memory_format=torch.channels_last)
    before = weights.cpu()

    copy = host_copy({"weights": weights, "step": torch.tensor(3)}, weights.device)
    weights.zero_()

    assert copy["weights"].is_pinned()
    assert copy["weights"].is_contiguous()
    assert copy["weights"].equal(before)
    assert copy["step"] == 3


class Slow(InPlace):
    """A keeper that keeps nothing before the training has made some steps more."""

    def __init__(self) -> None:
        self.goes_on = Event()
        self.kept: list[str] = []

    def keep(self, path: Path, kept: Kept) -> None:
        assert self.goes_on.wait(60)
        self.kept.append(path.name)


class Watching(Unguarded):
    """A guard, which is asked after every step: at some of them it lets the keeper go on, and at one asks to stop."""

    def __init__(self, keeper: Slow, lets: int, stops: int = 0) -> None:
        self._keeper = keeper
        self._lets = lets
        self._stops = stops
        self.steps = 0

    def asked_to_stop(self) -> bool:
        self.steps += 1
        if self.steps >= self._lets:
            self._keeper.goes_on.set()
        return self.steps == self._stops


def checkpoint(directory: Path, step: int) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (directory / CHECKPOINTS / f"step-{step:08d}").iterdir()}


@pytest.fixture(scope="module")
def alone(program, shapes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Report]]:
    directory, reporter = tmp_path_factory.mktemp("alone"), RecordingReporter()
    Training(program.recipe_of(), shapes, directory, kept=9).run(reporter)
    return directory, reporter.reports


class TestTraining:
    def test_makes_steps_while_a_checkpoint_is_written_that_is_of_its_own_step(
        self, program, shapes: Dataset, tmp_path: Path, alone: tuple[Path, list[Report]]
    ) -> None:
        keeper = Slow()

        # That of step 3 is kept only once two steps more are made; without them this would not end.
        Training(program.recipe_of(), shapes, tmp_path, keeper=keeper, guard=Watching(keeper, lets=5), kept=9).run(
            RecordingReporter()
        )

        assert keeper.kept == [f"step-{step:08d}" for step in (3, 6, 9, 12)]
        for step in (3, 6, 9, 12):
            assert checkpoint(tmp_path, step) == checkpoint(alone[0], step)

    def test_reports_once_the_checkpoint_before_is_there(self, program, shapes: Dataset, tmp_path: Path) -> None:
        keeper, kept = Slow(), []
        keeper.goes_on.set()

        for _ in Training(program.recipe_of(), shapes, tmp_path, keeper=keeper).reports():
            kept.append(len(keeper.kept))

        assert kept == [0, 1, 2, 3]

    def test_that_is_asked_to_stop_ends_once_it_is_saved(self, program, shapes: Dataset, tmp_path: Path) -> None:
        keeper = Slow()
        guard = Watching(keeper, lets=4, stops=4)

        with pytest.raises(PreemptedError, match="saved at step 4"):
            Training(program.recipe_of(), shapes, tmp_path, keeper=keeper, guard=guard).run(RecordingReporter())

        assert keeper.kept[-1] == "step-00000004"

    def test_that_collapses_or_is_left_ends_once_it_is_saved(
        self, program, shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keeper = Slow()
        keeper.goes_on.set()
        reports = Training(program.recipe_of(), shapes, tmp_path / "left", keeper=keeper).reports()
        assert next(reports).step == 3
        assert next(reports).step == 6
        reports.close()
        assert keeper.kept == ["step-00000003"]

        monkeypatch.setattr(loop, "symptoms", lambda *_: ("all one class",))
        recipe = program.recipe_of(collapse_patience=2)
        with pytest.raises(CollapseError):
            Training(recipe, shapes, tmp_path / "collapsed", keeper=keeper).run(RecordingReporter())
        assert keeper.kept[1:] == ["step-00000003"]

    @pytest.mark.parametrize("error", [NO_SPACE, FencedError("it is another's")])
    @pytest.mark.parametrize("step", [3, 12])
    def test_hears_what_broke_the_writing_before_it_reports_again_or_ends(
        self, program, shapes: Dataset, tmp_path: Path, error: Exception, step: int
    ) -> None:
        class Broken(InPlace):
            def keep(self, path: Path, kept: Kept) -> None:
                if path.name == f"step-{step:08d}":
                    raise error

        reporter = RecordingReporter()
        with pytest.raises(type(error)) as caught:
            Training(program.recipe_of(), shapes, tmp_path, keeper=Broken()).run(reporter)

        assert caught.value is error
        assert reporter.reports[-1].step == step
        assert read_outcome(tmp_path) is None

    def test_whose_directory_is_taken_meanwhile_writes_nothing_more(
        self, program, shapes: Dataset, tmp_path: Path
    ) -> None:
        class Taken(Unguarded):
            def check(self) -> None:
                if current_thread() is not main_thread():
                    raise FencedError("it is another's")

        with pytest.raises(FencedError):
            Training(program.recipe_of(), shapes, tmp_path, guard=Taken()).run(RecordingReporter())

        assert newest_sealed(tmp_path / CHECKPOINTS) is None

    def test_that_is_killed_at_any_change_to_the_disk_ends_as_one_left_alone(
        self, program, shapes: Dataset, tmp_path: Path
    ) -> None:
        """The kill is of the thread that writes, which changes the disk no more; test_kills has those of processes."""
        recipe = program.recipe_of("supervised", steps=2, evaluate_every=1)
        expected = RecordingReporter()
        with program.counted(None) as changes:
            outcome = Training(recipe, shapes, tmp_path / "alone").run(expected)
        points = range(len(changes))
        assert len(points) >= 20

        for point in points:
            directory, reporter = tmp_path / str(point), RecordingReporter()
            with program.counted(point, kill=lambda: fails(KilledError())), pytest.raises(KilledError):
                Training(recipe, shapes, directory).run(reporter)
            assert Training(recipe, shapes, directory).run(reporter) == outcome
            assert checkpoint(directory, 2) == checkpoint(tmp_path / "alone", 2)
            assert {report.step: report for report in reporter.reports} == {r.step: r for r in expected.reports}


class KilledError(BaseException):
    """A kill of a thread."""


class TestSaveEvery:
    """Checkpoints apart from evaluations."""

    def test_saves_at_its_own_steps_and_the_best_and_the_last_one(self, program) -> None:
        settings = program.recipe_of(steps=10, evaluate_every=4, save_every=3).trainer

        saved = [step for step in range(1, 11) if settings.saves(step, best_step=4 if step >= 4 else 0)]

        assert saved == [3, 4, 6, 9, 10]

    @pytest.mark.parametrize("every", [2, 100])
    def test_changes_nothing_of_what_comes_out_also_after_kills(
        self, program, shapes: Dataset, tmp_path: Path, alone: tuple[Path, list[Report]], every: int
    ) -> None:
        class Killed(Unguarded):
            def __init__(self, at: int) -> None:
                self.left = at

            def asked_to_stop(self) -> bool:
                self.left -= 1
                if not self.left:
                    raise KilledError
                return False

        recipe, reports = program.recipe_of(save_every=every), {}
        for at in (5, 8, 11, 0):
            reporter = RecordingReporter()
            try:
                Training(recipe, shapes, tmp_path, guard=Killed(at), kept=9).run(reporter)
            except KilledError:
                assert at
            for report in reporter.reports:
                assert reports.setdefault(report.step, report) == report

        assert [reports[step] for step in sorted(reports)] == alone[1]
        assert checkpoint(tmp_path, 12) == checkpoint(alone[0], 12)
        best = load_checkpoint(tmp_path / CHECKPOINTS / "step-00000012")["best_step"]
        assert checkpoint(tmp_path, best) == checkpoint(alone[0], best)
