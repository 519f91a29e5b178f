"""Which checkpoints of a run stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.trainers.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from advseg.trainers.kept import Kept
from advseg.trainers.loop import Training
from advseg.trainers.reporter import RecordingReporter

steps = st.integers(1, 30)


@pytest.mark.parametrize(
    ("kept", "going"),
    [
        (Kept(), [6, 3]),
        (Kept(best=3), [6]),
        (Kept(best=9), [6, 3]),
        (Kept(newest=1), [9, 6, 3]),
        (Kept(newest=1, best=6), [9, 3]),
        (Kept(newest=4), []),
    ],
)
def test_those_go_that_are_neither_among_the_newest_nor_the_best(kept, going):
    assert kept.superseded([3, 6, 9, 12], 12) == going


def test_newer_ones_from_which_a_run_went_back_are_left_for_it_to_replace():
    assert Kept(newest=1).superseded([3, 6, 9, 12], 9) == [6, 3]


@given(st.sets(steps), steps, st.integers(1, 4), steps)
def test_the_one_that_was_just_saved_and_the_best_never_go(others, step, newest, best):
    saved = others | {step, best}
    stays = saved - set(Kept(newest=newest, best=best).superseded(saved, step))

    assert {step, best} <= stays
    assert len([old for old in stays if old <= step and old != best]) <= newest


def states(directory):
    return {path.name: load_checkpoint(path) for path in (directory / "checkpoints").iterdir()}


@pytest.fixture
def valued(monkeypatch):
    """Sets the mean IoU of the four evaluations of a run."""

    def value(*values):
        judge = Training.evaluate

        def evaluate(training):
            evaluation = judge(training)
            evaluation.metrics["val/miou"] = values[training.step // 3 - 1]
            return evaluation

        monkeypatch.setattr(Training, "evaluate", evaluate)

    return value


@pytest.mark.parametrize(
    ("values", "stays"),
    [
        ((50.0, 40.0, 30.0, 20.0), (3, 9, 12)),
        ((40.0, 50.0, 50.0, 50.0), (6, 9, 12)),
        ((20.0, 30.0, 40.0, 50.0), (9, 12)),
        ((0.0, 0.0, 0.0, 0.0), (9, 12)),
    ],
    ids=["falling", "equal", "rising", "nothing"],
)
def test_that_of_the_best_step_stays_beside_the_newest_two(program, shapes, tmp_path, valued, values, stays):
    valued(*values)
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())

    assert sorted(states(tmp_path)) == [f"step-{step:08d}" for step in stays]


def test_one_newest_may_be_enough(program, shapes, tmp_path, valued):
    valued(20.0, 50.0, 30.0, 40.0)
    Training(program.recipe_of(), shapes, tmp_path, kept=1).run(RecordingReporter())

    kept = states(tmp_path)
    assert sorted(kept) == ["step-00000006", "step-00000012"]
    assert kept["step-00000012"]["best_step"] == 6


def test_a_run_that_was_resumed_remembers_the_best_step(program, shapes, tmp_path, valued):
    valued(50.0, 20.0, 30.0, 40.0)
    training = Training(program.recipe_of(), shapes, tmp_path)
    for _, report in zip(range(3), training.reports(), strict=False):
        assert report.step <= 9

    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())

    assert sorted(states(tmp_path)) == ["step-00000003", "step-00000009", "step-00000012"]


def test_a_checkpoint_of_before_the_best_step_was_known_is_gone_on_from(program, shapes, tmp_path):
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest
    path, state = newest
    known = state.pop("best_step")
    save_checkpoint(path.parent, state["step"], state)

    resumed = Training(program.recipe_of(), shapes, tmp_path)
    resumed.saved.resume()

    assert known > 0
    assert resumed.step == 12


def test_with_the_newest_ones_damaged_it_goes_on_from_the_best(program, shapes, tmp_path, valued):
    valued(50.0, 20.0, 30.0, 40.0)
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())
    for step in (9, 12):
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "state.json").write_text("{}")

    reporter = RecordingReporter()
    Training(program.recipe_of(), shapes, tmp_path).run(reporter)

    assert [report.step for report in reporter.reports] == [6, 9, 12]
