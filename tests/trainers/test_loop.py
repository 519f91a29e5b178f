import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from advseg.models import load
from advseg.models.architectures import CompactSettings, DeepLabSettings
from advseg.trainers.checkpoint import load_checkpoint, newest_sealed, save_checkpoint
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.images import ImageError, read_image
from advseg.trainers.data.resize import resize_mask
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.errors import CheckpointError, CollapseError, NonFiniteLossError, UserError
from advseg.trainers.evaluate import Evaluation
from advseg.trainers.loop import Training
from advseg.trainers.moved import MOVED
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.outcome import OUTCOME, Outcome, read_outcome
from advseg.trainers.pictures.class_bars import draw_class_bars
from advseg.trainers.pictures.confusion import draw_confusion
from advseg.trainers.pictures.panels import TILE
from advseg.trainers.progress import watched
from advseg.trainers.reporter import RecordingReporter, Report

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


def test_a_report_carries_a_panel_of_its_step_and_pictures_of_its_evaluation(undisturbed):
    reports, _, _ = undisturbed

    for report in reports:
        assert set(report.pictures) == {f"panels/step-{report.step:08d}.png", "confusion.png", "classes.png"}


def test_the_pictures_of_an_evaluation_show_its_matrix(program, shapes, undisturbed, tmp_path, monkeypatch):
    matrix = torch.eye(6, dtype=torch.int64)
    matrix[1] = torch.tensor([3, 1, 0, 0, 0, 0])
    found = Evaluation(matrix=matrix, images=1, metrics={"val/miou": 1.0})
    monkeypatch.setattr("advseg.trainers.loop.evaluate", lambda *_, **__: found)
    reporter = RecordingReporter()

    Training(program.recipe_of(steps=1), shapes, tmp_path).run(reporter)

    pictures = reporter.reports[0].pictures
    iou = [25.0, 25.0, 100.0, 100.0, 100.0, 100.0]
    assert pictures["confusion.png"] == draw_confusion(matrix.numpy(), shapes.classes)
    assert pictures["classes.png"] == draw_class_bars(iou, shapes.classes, shapes.palette)


@pytest.mark.parametrize(
    ("trainer", "columns"),
    [({}, 5), ({"lambda_semi": 0.0}, 4), (SUPERVISED, 3), ({"method": "consistency"}, 5)],
    ids=["semi", "adversarial", "none", "consistency"],
)
def test_the_panel_shows_selected_pixels_where_the_method_selects_any(program, shapes, tmp_path, trainer, columns):
    reporter = RecordingReporter()

    Training(program.recipe_of(steps=1, **trainer), shapes, tmp_path).run(reporter)

    panel = reporter.reports[0].pictures["panels/step-00000001.png"]
    assert panel.width // TILE == columns


@pytest.mark.parametrize("stops", [REPORT_STEPS, [9]], ids=["at every report", "at one"])
def test_a_run_stopped_by_its_reporter_and_resumed_ends_as_one_left_alone(
    program, shapes, undisturbed, tmp_path, stops
):
    expected, alone, _ = undisturbed
    reporter = StoppingReporter(set(stops))

    for _ in stops:
        with pytest.raises(StopError):
            Training(program.recipe_of(), shapes, tmp_path).run(reporter)
    training = Training(program.recipe_of(), shapes, tmp_path)
    outcome = training.run(reporter)

    assert equal_states(training.method.state_dict(), alone.method.state_dict())
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
    do_step = training.method.step

    def failing(number, batch):
        if number == step:
            raise MemoryError
        do_step(number, batch)

    monkeypatch.setattr(training.method, "step", failing)
    with pytest.raises(MemoryError):
        training.run(reporter)
    resumed = Training(program.recipe_of(), shapes, tmp_path)
    resumed.run(reporter)

    assert reporter.reports == expected
    assert equal_states(resumed.method.state_dict(), alone.method.state_dict())


def test_resuming_a_finished_run_reports_once_more_and_trains_nothing(program, shapes, undisturbed, monkeypatch):
    expected, alone, outcome = undisturbed
    again = Training(program.recipe_of(), shapes, alone.directory)
    monkeypatch.setattr(again.method, "step", lambda *_: pytest.fail("it trained"))
    reporter = RecordingReporter()

    assert again.run(reporter) == outcome

    assert reporter.reports == [expected[-1]]
    assert reporter.reports[0].pictures == {}


def test_a_damaged_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    program, shapes, undisturbed, tmp_path, caplog
):
    expected, alone, _ = undisturbed
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())
    (max((tmp_path / "checkpoints").iterdir()) / "state.json").write_text("{}")

    resumed, reporter = Training(program.recipe_of(), shapes, tmp_path), RecordingReporter()
    resumed.run(reporter)

    assert reporter.reports == expected[-1:]
    assert equal_states(resumed.method.state_dict(), alone.method.state_dict())
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "trainer.seed is 1, but the checkpoint has 0"),
        ({"steps": 9}, "trainer.steps is 9, but the checkpoint has 12"),
        ({"lambda_adv": 0.5}, "method.lambda_adv is 0.5, but the checkpoint has 0.01"),
        ({"method": "supervised"}, "method.name is supervised, but the checkpoint has adversarial"),
        ({"augmentation": AugmentationSettings(crop=(24, 32))}, "trainer.augmentation.crop is [24, 32], but"),
        ({"segmenter_optimizer": SGDSettings(lr=0.02)}, "trainer.segmenter_optimizer.lr is 0.02, but"),
    ],
)
def test_resuming_with_another_recipe_is_refused_naming_what_differs(program, shapes, undisturbed, change, told):
    _, alone, _ = undisturbed

    message = refusal(Training(program.recipe_of(**change), shapes, alone.directory))

    assert f"belongs to other settings or data than this run's: {told}" in message
    assert f"train in another directory than {alone.directory}" in message


def refusal(training: Training) -> str:
    """Why it does not resume, in one line."""
    with pytest.raises(CheckpointError) as caught:
        training.run(RecordingReporter())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_checkpoint_of_before_a_setting_came_was_trained_by_what_is_its_default_now(
    program, shapes, undisturbed, tmp_path
):
    _, alone, _ = undisturbed
    state = load_checkpoint(alone.directory / "checkpoints" / "step-00000012")
    del state["identity"]["method"]["discriminator_sees_void"]
    speed = state["identity"]["trainer"]["speed"]
    # What came later and is not used is left out.
    assert set(speed) == {"autocast", "channels_last", "fused_optimizers", "joint_forward", "recompute", "compile"}
    speed["augment_on_device"] = False
    save_checkpoint(tmp_path / "checkpoints", state["step"], state)

    Training(program.recipe_of(), shapes, tmp_path).saved.resume()

    message = refusal(Training(program.recipe_of(discriminator_sees_void=False), shapes, tmp_path))
    assert "method.discriminator_sees_void is False, but the checkpoint has True" in message


def test_resuming_with_another_width_or_architecture_is_refused(program, shapes, undisturbed):
    _, alone, _ = undisturbed

    def told(segmenter) -> str:
        return refusal(Training(replace(program.recipe_of(), segmenter=segmenter), shapes, alone.directory))

    assert "segmenter.width is 16, but the checkpoint has 8: " in told(CompactSettings(width=16))
    deeplab = told(DeepLabSettings(architecture="deeplab_v2_resnet50"))
    assert "segmenter.architecture is deeplab_v2_resnet50, but the checkpoint has compact" in deeplab
    assert "and 2 more: " in deeplab


def test_resuming_on_another_dataset_is_refused(program, undisturbed, tmp_path):
    _, alone, _ = undisturbed
    write_shapes(tmp_path / "other", ShapesSettings(labelled=5, unlabelled=7, val=5, test=1, size=32, seed=1))

    message = refusal(Training(program.recipe_of(), program.open_shapes(tmp_path / "other"), alone.directory))

    assert "dataset.digest is " in message
    assert "; the digest is of images, masks, lists, classes.yaml and how they are read, " in message
    assert message.endswith(f"or train in another directory than {alone.directory} (--to), where it begins anew")


def test_resuming_with_another_number_of_classes_is_refused(program, shapes, undisturbed):
    _, alone, _ = undisturbed
    fewer = replace(shapes, classes=shapes.classes[:-1])

    message = refusal(Training(program.recipe_of(), fewer, alone.directory))

    assert "dataset.classes is 5, but the checkpoint has 6: " in message


def test_resuming_another_format_is_refused(program, shapes, undisturbed, monkeypatch):
    _, alone, _ = undisturbed
    monkeypatch.setattr("advseg.models.manifest.FORMAT_VERSION", 99)

    assert "step-00000012 has format version 2, but this program reads 99" in refusal(
        Training(program.recipe_of(), shapes, alone.directory)
    )


def test_more_patience_does_not_make_it_another_run(program, shapes, undisturbed):
    _, alone, outcome = undisturbed

    assert (
        Training(program.recipe_of(collapse_patience=99), shapes, alone.directory).run(RecordingReporter()) == outcome
    )


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(program, shapes, undisturbed, tmp_path):
    _, alone, _ = undisturbed
    shutil.copytree(alone.directory, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "checkpoints").glob("*/state.json"):
        path.write_text("{}")
    before = sorted(path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file())

    message = refusal(Training(program.recipe_of(), shapes, tmp_path))

    assert f"no checkpoint in {tmp_path / 'checkpoints'} is whole" in message
    assert "to start from step 0" in message
    assert sorted(path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()) == before


def test_a_finished_run_leaves_its_outcome(undisturbed):
    _, alone, outcome = undisturbed

    assert read_outcome(alone.directory) == outcome
    assert outcome.dataset_digest == alone.dataset.digest


def test_a_run_has_no_outcome_before_its_end(program, shapes, tmp_path):
    with pytest.raises(StopError):
        Training(program.recipe_of(), shapes, tmp_path).run(StoppingReporter({12}))

    assert read_outcome(tmp_path) is None


@pytest.mark.parametrize("left", [None, "{"], ids=["killed before it was written", "damaged"])
def test_a_finished_run_without_its_outcome_writes_it_when_it_is_resumed(
    program, shapes, undisturbed, tmp_path, monkeypatch, left
):
    _, _, outcome = undisturbed
    with monkeypatch.context() as patch:
        patch.setattr("advseg.trainers.saved.write_outcome", killed)
        with pytest.raises(KeyboardInterrupt):
            Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())
    if left:
        (tmp_path / OUTCOME).write_text(left)
    assert read_outcome(tmp_path) is None

    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())

    assert read_outcome(tmp_path) == outcome


def killed(*_) -> None:
    raise KeyboardInterrupt


def test_a_run_that_has_to_make_its_last_steps_again_has_no_outcome_meanwhile(program, shapes, undisturbed, tmp_path):
    _, alone, outcome = undisturbed
    shutil.copytree(alone.directory, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000012")

    with pytest.raises(StopError):
        Training(program.recipe_of(), shapes, tmp_path).run(StoppingReporter({12}))
    meanwhile = read_outcome(tmp_path)
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())

    assert meanwhile is None
    assert read_outcome(tmp_path) == outcome


def test_a_checkpoint_of_before_the_methods_is_refused_in_a_line_that_says_what_moved_where(program, shapes, tmp_path):
    recipe = program.recipe_of(steps=3)
    Training(recipe, shapes, tmp_path).run(RecordingReporter())
    path = tmp_path / "checkpoints" / "step-00000003"
    state = load_checkpoint(path)
    method = state["identity"].pop("method")
    state["identity"]["discriminator"] = method.pop("discriminator")
    state["identity"]["trainer"] |= {name: value for name, value in method.items() if name != "name"}
    state["trainer"] = state.pop("method")
    save_checkpoint(path.parent, 3, state)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    message = refusal(Training(recipe, shapes, tmp_path))

    assert f"{path} is of an older version of advseg: discriminator is method.discriminator now, " in message
    assert "trainer.threshold is method.threshold now" in message
    assert all(f"{old} is {new} now" in message for old, new in MOVED.items())
    assert f"or train in another directory than {tmp_path}" in message
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_batch_has_an_image_for_every_worker(program, shapes, tmp_path):
    with pytest.raises(UserError, match=r"trainer\.batch_size is 2 in 1 micro-batches, but 3 workers"):
        Training(program.recipe_of(), shapes, tmp_path, world=World(rank=0, size=3))


@pytest.mark.parametrize("trainer", [{}, SUPERVISED], ids=["adversarial", "supervised"])
def test_an_exported_model_predicts_as_the_network_that_was_trained(program, shapes, tmp_path, trainer):
    training = Training(program.recipe_of(steps=3, **trainer), shapes, tmp_path / "run")
    outcome = training.run(RecordingReporter())

    training.export(tmp_path / "model", {"trial": "sweep/1"})
    model = load(tmp_path / "model")

    image = read_image(shapes.validation[0].image)
    network = training.method.segmenter.eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        expected = network(model.card.normalisation(pixels)).softmax(1)
    # Weights in another order of memory are summed in another order.
    torch.testing.assert_close(model.probabilities(image), expected[0])
    assert (model.discriminator is None) == bool(trainer)
    if model.discriminator:
        with torch.inference_mode():
            confidence = training.method.discriminator(expected).sigmoid()[0, 0]
        torch.testing.assert_close(model.confidence(expected[0]), confidence)
    assert model.card.classes == shapes.classes
    assert model.card.metrics == outcome.metrics
    images = {"labelled": 5, "unlabelled": 7, "validation": 5}
    assert model.card.lineage == {
        "trial": "sweep/1",
        "step": 3,
        "dataset_digest": shapes.digest,
        "images": images,
    }


def test_a_model_trained_in_double_precision_is_exported_in_single(program, shapes, tmp_path):
    training = Training(program.recipe_of(steps=1, precision="float64"), shapes, tmp_path / "run")
    training.run(RecordingReporter())

    training.export(tmp_path / "model", {})

    state = load(tmp_path / "model").segmenter.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    torch.testing.assert_close(
        state, {name: t.float() for name, t in training.method.segmenter.state_dict().items()}, rtol=0, atol=0
    )


def test_with_a_lambda_above_zero_they_are_read(program, without_unlabelled_files, tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        Training(program.recipe_of(steps=2), without_unlabelled_files, tmp_path / "run").run(RecordingReporter())


def test_no_training_reads_an_image_of_the_test_list(program, shapes_root, tmp_path):
    shutil.copytree(shapes_root, tmp_path / "data")
    dataset = program.open_shapes(tmp_path / "data", test="test")
    assert dataset.test
    for sample in dataset.test:
        sample.image.unlink()
    read = RecordingReporter()
    Training(program.recipe_of(steps=2), dataset, tmp_path / "run").run(read)
    assert [report.step for report in read.reports][-1] == 2


def test_the_same_seed_gives_supervised_and_adversarial_runs_the_same_start(program, shapes, tmp_path):
    one = Training(program.recipe_of(), shapes, tmp_path)
    other = Training(program.recipe_of(**SUPERVISED), shapes, tmp_path)

    assert equal_states(one.method.segmenter.state_dict(), other.method.segmenter.state_dict())


def test_another_seed_gives_another_start(program, shapes, tmp_path):
    one, other = (Training(program.recipe_of(seed=seed), shapes, tmp_path) for seed in (0, 1))

    assert not equal_states(one.method.segmenter.state_dict(), other.method.segmenter.state_dict())


def test_a_divergent_run_stops_at_its_next_report_and_saves_nothing(program, shapes, tmp_path):
    recipe = program.recipe_of(segmenter_optimizer=SGDSettings(lr=1e30))

    with pytest.raises(NonFiniteLossError, match="became NaN or infinite at step 1"):
        Training(recipe, shapes, tmp_path).run(RecordingReporter())

    assert newest_sealed(tmp_path / "checkpoints") is None
    assert read_outcome(tmp_path) is None


def test_padding_reaches_the_network_as_zero(program, shapes, tmp_path):
    recipe = program.recipe_of()
    wide = replace(recipe.trainer, augmentation=replace(recipe.trainer.augmentation, crop=(24, 40)))
    training = Training(replace(recipe, trainer=wide), shapes, tmp_path)

    (batch,) = training.batch(0)

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
    assert equal_states(training.method.state_dict(), alone.method.state_dict())


@pytest.fixture
def constant(monkeypatch) -> None:
    """Every evaluation finds a constant prediction."""

    def found(*_, **__) -> Evaluation:
        matrix = torch.zeros(6, 6, dtype=torch.int64)
        matrix[:, 0] = 1
        return Evaluation(matrix=matrix, images=1, metrics={"val/miou": 1.0})

    monkeypatch.setattr("advseg.trainers.loop.evaluate", found)


def test_a_collapse_is_named_at_every_report_with_its_step(program, shapes, tmp_path, constant, caplog):
    Training(program.recipe_of(), shapes, tmp_path).run(RecordingReporter())

    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.partition(":")[0] for warning in warnings] == [f"step {step}" for step in REPORT_STEPS]
    assert all("every validation pixel is background" in warning for warning in warnings)


@pytest.mark.parametrize("stops", [set(), {6}], ids=["alone", "resumed"])
def test_a_collapse_of_too_many_reports_in_a_row_stops_the_run(program, shapes, tmp_path, constant, stops):
    reporter = StoppingReporter(stops)
    recipe = program.recipe_of(collapse_patience=3)
    for _ in set(stops):
        with pytest.raises(StopError):
            Training(recipe, shapes, tmp_path).run(reporter)

    with pytest.raises(CollapseError, match=r"step 9, after 3 such reports in a row: the prediction is constant"):
        Training(recipe, shapes, tmp_path).run(reporter)


def test_a_run_that_recovers_goes_on(program, shapes, tmp_path, monkeypatch):
    found = iter([("it is bad",), ("it is bad",), (), ("it is bad",)])
    monkeypatch.setattr("advseg.trainers.loop.symptoms", lambda *_: next(found))

    outcome = Training(program.recipe_of(collapse_patience=3), shapes, tmp_path).run(RecordingReporter())

    assert outcome.step == 12


@pytest.mark.parametrize(("step", "more"), [(3, set()), (12, {"unlabelled_labels"})])
def test_a_batch_of_the_loop_is_divided_into_its_micro_batches(program, shapes, tmp_path, step, more):
    """Masks of unlabelled images are there from the step on from which they measure pseudo-labels."""
    whole = Training(program.recipe_of(batch_size=6), shapes, tmp_path)
    divided = Training(program.recipe_of(batch_size=6, accumulation=3), shapes, tmp_path)

    (batch,) = whole.batch(step)
    micro_batches = divided.batch(step)

    assert [len(micro_batch.images) for micro_batch in micro_batches] == [2, 2, 2]
    parts = {field: part for field, part in vars(batch).items() if part is not None}
    assert parts.keys() == {"images", "labels", "real_labels", "unlabelled", "unlabelled_valid", *more}
    for field, part in parts.items():
        assert torch.equal(torch.cat([getattr(micro_batch, field) for micro_batch in micro_batches]), part)


def test_several_workers_share_each_micro_batch(program, shapes, tmp_path):
    recipe = program.recipe_of(batch_size=6, accumulation=2)
    alone = Training(recipe, shapes, tmp_path).batch(0)
    workers = [Training(recipe, shapes, tmp_path, world=World(rank=rank, size=2)).batch(0) for rank in (0, 1)]

    for whole, one, other in zip(alone, *workers, strict=True):
        assert torch.equal(whole.images[0::2], one.images)
        assert torch.equal(whole.images[1::2], other.images)


def test_a_batch_is_divided_evenly(program):
    with pytest.raises(ValueError, match="accumulation must divide batch_size, but is 4 and batch_size 6"):
        program.recipe_of(batch_size=6, accumulation=4)


def test_images_are_resized_before_they_are_cropped(program, shapes, tmp_path):
    """Images of 32 x 32, brought to 40 x 56, fill a crop of that size."""
    augmentation = AugmentationSettings(crop=(40, 56), mirror=False)
    recipe = program.recipe_of(semi_start=0, resize=(40, 56), augmentation=augmentation)
    (sample,) = [s for s in shapes.unlabelled if s.id == "shapes_00005"]

    # Where pseudo-labels are measured.
    (batch,) = Training(recipe, replace(shapes, unlabelled=(sample,)), tmp_path).batch(4)

    assert batch.unlabelled is not None and batch.unlabelled_valid is not None and batch.unlabelled_labels is not None
    assert batch.unlabelled.shape == (2, 3, 40, 56)
    assert batch.unlabelled_valid.all()
    expected = resize_mask(sample.read_mask(), (40, 56))
    assert np.array_equal(batch.unlabelled_labels[0].numpy(), expected)


def test_its_progress_counts_from_the_first_batch_to_the_last_step(program, shapes, tmp_path, monkeypatch):
    happened: list[object] = []
    training = Training(program.recipe_of(steps=3, evaluate_every=3), shapes, tmp_path)
    move = training.batches.on_device
    monkeypatch.setattr(training.batches, "on_device", lambda parts: happened.append("batch") or move(parts))

    class Watching:
        def see(self, what: str, done: int, total: int, note: str) -> None:
            if what == "steps":
                happened.append((done, total))

        def leave(self, what: str) -> None:
            pass

    draw = training.batches.drawn_ahead

    def drawn_ahead(steps: range):
        for parts in draw(steps):
            happened.append("drawn")
            yield parts

    monkeypatch.setattr(training.batches, "drawn_ahead", drawn_ahead)
    with watched(Watching()):
        training.run(RecordingReporter())

    steps = [each for number in range(3) for each in ("drawn", (number, 3), "batch")]
    assert happened == [*steps, (3, 3)]
