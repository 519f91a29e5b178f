import json
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.models import load
from advseg.models.architectures import CompactSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.images import ImageError, read_image
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.errors import CheckpointError, NonFiniteLossError, UserError
from advseg.trainers.loop import Outcome, Training, read_outcome
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.reporter import JsonLinesReporter, RecordingReporter, Report

SUPERVISED = {"lambda_adv": 0.0, "lambda_semi_adv": 0.0, "lambda_semi": 0.0}
REPORT_STEPS = [3, 6, 9, 12]


class StopError(Exception):
    """From the reporter."""


class StoppingReporter(RecordingReporter):
    """Raises, once each, at some steps."""

    def __init__(self, steps: set[int]) -> None:
        super().__init__()
        self.steps = steps

    def report(self, report: Report) -> None:
        super().report(report)
        if report.step in self.steps:
            self.steps.remove(report.step)
            raise StopError


@pytest.fixture(scope="module")
def undisturbed(program, shapes, tmp_path_factory) -> tuple[list[Report], Training, Outcome]:
    """The run that nothing interrupted."""
    reporter = RecordingReporter()
    training = Training(program.recipe_of(), shapes, tmp_path_factory.mktemp("undisturbed"))
    return reporter.reports, training, training.run(reporter)


def equal_states(one, other) -> bool:
    match one:
        case torch.Tensor():
            return torch.equal(one, other)
        case dict():
            return one.keys() == other.keys() and all(equal_states(value, other[key]) for key, value in one.items())
        case list() | tuple():
            return len(one) == len(other) and all(map(equal_states, one, other))
        case _:
            return one == other


def test_a_run_reports_at_every_evaluation_and_at_the_end(undisturbed):
    reports, _, outcome = undisturbed

    assert [report.step for report in reports] == REPORT_STEPS
    assert {report.steps for report in reports} == {12}
    expected = {"loss/ce", "loss/adv", "loss/semi_adv", "loss/semi", "loss/d", "selected/share", "val/miou"}
    assert (expected | {"lr/segmenter", "lr/discriminator", "gradient_norm/segmenter"}) <= set(reports[-1].metrics)
    assert outcome.step == 12
    assert outcome.metrics == reports[-1].metrics
    assert outcome.best_miou == max(report.metrics["val/miou"] for report in reports)


def test_the_last_step_is_reported_also_off_the_rhythm(program, shapes, tmp_path):
    reporter = RecordingReporter()

    Training(program.recipe_of(steps=5), shapes, tmp_path).run(reporter)

    assert [report.step for report in reporter.reports] == [3, 5]


def test_a_report_carries_a_picture_of_predictions(undisturbed):
    reports, _, _ = undisturbed

    panel = reports[-1].panel

    assert panel is not None
    assert panel.width > panel.height / 2 > 100


@settings(deadline=None, max_examples=8)
@given(st.sets(st.sampled_from(REPORT_STEPS), min_size=1))
def test_a_run_stopped_by_its_reporter_and_resumed_ends_as_one_left_alone(program, shapes, undisturbed, stops):
    expected, alone, _ = undisturbed
    reporter = StoppingReporter(set(stops))

    with tempfile.TemporaryDirectory() as directory:
        for _ in stops:
            with pytest.raises(StopError):
                Training(program.recipe_of(), shapes, Path(directory)).run(reporter)
        training = Training(program.recipe_of(), shapes, Path(directory))
        outcome = training.run(reporter)

    assert equal_states(training.trainer.state_dict(), alone.trainer.state_dict())
    # A report whose state was not saved comes twice, with the same content.
    assert [report.step for report in reporter.reports] == sorted([*REPORT_STEPS, *stops])
    by_step = {report.step: report for report in expected}
    assert all(report == by_step[report.step] for report in reporter.reports)
    assert outcome.best_miou == max(report.metrics["val/miou"] for report in expected)


@pytest.mark.parametrize("step", [2, 7, 10])
def test_a_run_that_fails_within_a_step_resumes_and_ends_as_one_left_alone(
    program, shapes, undisturbed, tmp_path, monkeypatch, step
):
    expected, alone, _ = undisturbed
    reporter = RecordingReporter()
    training = Training(program.recipe_of(), shapes, tmp_path)
    do_step = training.trainer.step

    def failing(number, batch):
        if number == step:
            raise MemoryError
        do_step(number, batch)

    monkeypatch.setattr(training.trainer, "step", failing)
    with pytest.raises(MemoryError):
        training.run(reporter)
    resumed = Training(program.recipe_of(), shapes, tmp_path)
    resumed.run(reporter)

    assert reporter.reports == expected
    assert equal_states(resumed.trainer.state_dict(), alone.trainer.state_dict())


def test_a_run_that_was_killed_at_any_moment_resumes_and_ends_as_one_left_alone(
    program, shapes, shapes_root, undisturbed, tmp_path
):
    expected, alone, _ = undisturbed
    command = [sys.executable, program.__file__, str(shapes_root), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        # At the report the child goes on to save, train and report; the kill hits it somewhere there.
        for _ in range(random.Random(0).randint(1, 3)):
            assert child.stdout.readline()
        child.kill()
        assert child.wait() == -signal.SIGKILL
    resumed = Training(program.recipe_of(), shapes, tmp_path)
    resumed.run(JsonLinesReporter(tmp_path / "reports-0.jsonl"))

    assert equal_states(resumed.trainer.state_dict(), alone.trainer.state_dict())
    by_step = {report.step: report.metrics for report in expected}
    lines = [json.loads(line) for line in (tmp_path / "reports-0.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == set(REPORT_STEPS)
    assert all(line["metrics"] == by_step[line["step"]] for line in lines)


def test_resuming_a_finished_run_reports_once_more_and_trains_nothing(program, shapes, undisturbed, monkeypatch):
    expected, alone, outcome = undisturbed
    again = Training(program.recipe_of(), shapes, alone.directory)
    monkeypatch.setattr(again.trainer, "step", lambda *_: pytest.fail("it trained"))
    reporter = RecordingReporter()

    assert again.run(reporter) == outcome

    assert reporter.reports == [expected[-1]]
    assert reporter.reports[0].panel is not None


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    program, shapes, undisturbed, tmp_path, caplog
):
    expected, alone, _ = undisturbed
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())
    (max((tmp_path / "checkpoints").iterdir()) / "state.json").write_text("{}")

    resumed, reporter = Training(program.recipe_of(), shapes, tmp_path), RecordingReporter()
    resumed.run(reporter)

    assert reporter.reports == expected[-1:]
    assert equal_states(resumed.trainer.state_dict(), alone.trainer.state_dict())
    assert "damaged" in caplog.text


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 24}, {"lambda_adv": 0.5}])
def test_resuming_with_another_recipe_is_refused(program, shapes, undisturbed, change):
    _, alone, _ = undisturbed

    with pytest.raises(CheckpointError, match="belongs to other settings or data"):
        Training(program.recipe_of(**change), shapes, alone.directory).run(RecordingReporter())


def test_resuming_with_another_architecture_is_refused(program, shapes, undisturbed):
    _, alone, _ = undisturbed
    recipe = replace(program.recipe_of(), segmenter=CompactSettings(width=16))

    with pytest.raises(CheckpointError):
        Training(recipe, shapes, alone.directory).run(RecordingReporter())


def test_resuming_on_another_dataset_is_refused(program, undisturbed, tmp_path):
    _, alone, _ = undisturbed
    write_shapes(tmp_path / "other", ShapesSettings(labelled=5, unlabelled=7, val=5, test=1, size=32, seed=1))

    with pytest.raises(CheckpointError, match="train in another directory"):
        Training(program.recipe_of(), program.open_shapes(tmp_path / "other"), alone.directory).run(RecordingReporter())


def test_the_outcome_is_read_from_the_newest_checkpoint(undisturbed, tmp_path):
    _, alone, outcome = undisturbed

    assert read_outcome(alone.directory) == outcome
    assert read_outcome(tmp_path) is None


def test_a_batch_has_an_image_for_every_worker(program, shapes, tmp_path):
    with pytest.raises(UserError, match=r"trainer\.batch_size is 2, but 3 workers"):
        Training(program.recipe_of(), shapes, tmp_path, world=World(rank=0, size=3))


@pytest.mark.parametrize("trainer", [{}, SUPERVISED], ids=["adversarial", "supervised"])
def test_an_exported_model_predicts_as_the_network_that_was_trained(program, shapes, tmp_path, trainer):
    training = Training(program.recipe_of(steps=3, **trainer), shapes, tmp_path / "run")
    outcome = training.run(RecordingReporter())

    training.export(tmp_path / "model", {"trial": "sweep/1"})
    model = load(tmp_path / "model")

    image = read_image(shapes.validation[0].image)
    network = training.trainer.segmenter.eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        expected = network(model.card.normalisation(pixels)).softmax(1)
    assert torch.equal(model.probabilities(image), expected[0])
    assert (model.discriminator is None) == bool(trainer)
    if model.discriminator and training.trainer.discriminator:
        with torch.inference_mode():
            confidence = training.trainer.discriminator(expected).sigmoid()[0, 0]
        assert torch.equal(model.confidence(expected[0]), confidence)
    assert model.card.classes == shapes.classes
    assert model.card.metrics == outcome.metrics
    assert model.card.lineage == {"trial": "sweep/1", "step": 3, "dataset_digest": shapes.digest}


def test_a_model_trained_in_double_precision_is_exported_in_single(program, shapes, tmp_path):
    training = Training(program.recipe_of(steps=1, precision="float64"), shapes, tmp_path / "run")
    training.run(RecordingReporter())

    training.export(tmp_path / "model", {})

    state = load(tmp_path / "model").segmenter.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    torch.testing.assert_close(
        state, {name: t.float() for name, t in training.trainer.segmenter.state_dict().items()}, rtol=0, atol=0
    )


@pytest.fixture
def without_unlabelled_files(program, tmp_path) -> Dataset:
    """A dataset whose unlabelled images vanish after it was opened."""
    write_shapes(tmp_path / "data", ShapesSettings(labelled=3, unlabelled=3, val=1, test=1, size=32))
    dataset = program.open_shapes(tmp_path / "data")
    for sample in dataset.unlabelled:
        sample.image.unlink()
    return dataset


def test_with_every_lambda_at_zero_no_unlabelled_image_is_read(program, without_unlabelled_files, tmp_path):
    recipe = program.recipe_of(steps=2, **SUPERVISED)

    outcome = Training(recipe, without_unlabelled_files, tmp_path / "run").run(RecordingReporter())

    assert outcome.step == 2
    assert not {"loss/d", "lr/discriminator", "loss/semi_adv"} & set(outcome.metrics)


def test_with_a_lambda_above_zero_they_are_read(program, without_unlabelled_files, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        Training(program.recipe_of(steps=2), without_unlabelled_files, tmp_path / "run").run(RecordingReporter())


def test_the_same_seed_gives_supervised_and_adversarial_runs_the_same_start(program, shapes, tmp_path):
    one = Training(program.recipe_of(), shapes, tmp_path)
    other = Training(program.recipe_of(**SUPERVISED), shapes, tmp_path)

    assert equal_states(one.trainer.segmenter.state_dict(), other.trainer.segmenter.state_dict())


def test_another_seed_gives_another_start(program, shapes, tmp_path):
    one, other = (Training(program.recipe_of(seed=seed), shapes, tmp_path) for seed in (0, 1))

    assert not equal_states(one.trainer.segmenter.state_dict(), other.trainer.segmenter.state_dict())


def test_a_divergent_run_stops_at_its_next_report_and_saves_nothing(program, shapes, tmp_path):
    recipe = program.recipe_of(segmenter_optimizer=SGDSettings(lr=1e30))

    with pytest.raises(NonFiniteLossError, match="became NaN or infinite at step 1"):
        Training(recipe, shapes, tmp_path).run(RecordingReporter())

    assert read_outcome(tmp_path) is None


def test_padding_reaches_the_network_as_zero(program, shapes, tmp_path):
    recipe = program.recipe_of()
    wide = replace(recipe.trainer, augmentation=replace(recipe.trainer.augmentation, crop=(24, 40)))
    training = Training(replace(recipe, trainer=wide), shapes, tmp_path)

    batch = training._batch(0)

    assert batch.unlabelled is not None
    assert batch.unlabelled_valid is not None
    padding = ~batch.unlabelled_valid
    assert padding.sum() == 2 * 24 * 8
    assert not batch.unlabelled.movedim(1, -1)[padding].any()
    assert batch.unlabelled.movedim(1, -1)[batch.unlabelled_valid].any()


def test_no_global_random_state_is_read_or_changed(program, shapes, undisturbed, tmp_path):
    _, alone, _ = undisturbed
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()

    training = Training(program.recipe_of(), shapes, tmp_path)
    training.run(RecordingReporter())

    assert before[:2] == (random.getstate(), np.random.get_state()[1].tobytes())
    assert torch.equal(before[2], torch.get_rng_state())
    assert equal_states(training.trainer.state_dict(), alone.trainer.state_dict())
