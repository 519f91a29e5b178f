"""What a training asks of a method, and so holds for every one of the table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from advseg.models import load
from advseg.models.compact import Compact
from advseg.trainers.checkpoint import load_checkpoint, save_checkpoint
from advseg.trainers.distributed import World
from advseg.trainers.errors import PreemptedError
from advseg.trainers.guard import Unguarded
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Batch, Method, Wants
from advseg.trainers.methods.table import MethodSettings, build_method, variants
from advseg.trainers.outcome import read_outcome
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import RecordingReporter
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

METHODS = ("adversarial", "consistency", "supervised")
WEIGHTLESS = {
    "adversarial": {"lambda_adv": 0.0, "lambda_semi_adv": 0.0, "lambda_semi": 0.0},
    "consistency": {"lambda_adv": 0.0, "lambda_semi": 0.0},
    "supervised": {},
}
"""The settings that make each method supervised learning."""
each_method = pytest.mark.parametrize("name", METHODS)


def test_every_method_of_the_table_is_held_to_this(program):
    assert set(METHODS) == set(WEIGHTLESS) == set(program.METHODS)
    assert {type(settings) for settings in program.METHODS.values()} == {*get_args(get_args(MethodSettings)[0])}


@each_method
def test_what_it_is_compared_with_can_be_trained_in_its_place(program, name):
    recipe = program.recipe_of(name)
    compared = variants(recipe.method)

    assert compared["supervised"].name == "supervised"
    assert name == "supervised" or compared["semi"] == recipe.method
    for method in compared.values():
        assert replace(recipe, method=method)


def last_checkpoint(directory: Path) -> dict[str, bytes]:
    """Everything that resumes."""
    return {file.name: file.read_bytes() for file in (directory / "checkpoints" / "step-00000012").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(program, shapes, tmp_path_factory) -> dict[str, tuple[dict[str, bytes], list]]:
    """By method, the last checkpoint and the reports of a run that nothing interrupted."""
    found = {}
    for name in METHODS:
        directory, reporter = tmp_path_factory.mktemp(name), RecordingReporter()
        Training(program.recipe_of(name), shapes, directory).run(reporter)
        found[name] = last_checkpoint(directory), reporter.reports
    return found


class AskedAt(Unguarded):
    """Asks to stop after a step."""

    def __init__(self, step: int) -> None:
        self._left = step

    def asked_to_stop(self) -> bool:
        self._left -= 1
        return not self._left


@each_method
@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_that_saves_and_stops_at_any_step_ends_in_the_bits_of_one_that_does_not(
    program, shapes, undisturbed, tmp_path, name, step
):
    recipe, reporter = program.recipe_of(name), RecordingReporter()

    with pytest.raises(PreemptedError):
        Training(recipe, shapes, tmp_path, guard=AskedAt(step)).run(reporter)
    Training(recipe, shapes, tmp_path).run(reporter)

    assert (last_checkpoint(tmp_path), reporter.reports) == undisturbed[name]


class KilledError(BaseException):
    """Nothing is saved after it."""


@each_method
@pytest.mark.parametrize("step", [0, 4, 6, 11])
def test_a_run_killed_within_any_step_ends_in_the_bits_of_one_that_is_not(
    program, shapes, undisturbed, tmp_path, name, step
):
    recipe, reporter = program.recipe_of(name), RecordingReporter()
    killed = Training(recipe, shapes, tmp_path)
    learn = killed.method.step

    def dying(number: int, micro_batches: list[Batch]) -> None:
        learn(number, micro_batches)
        if number == step:
            raise KilledError

    killed.method.step = dying
    with pytest.raises(KilledError):
        killed.run(reporter)
    Training(recipe, shapes, tmp_path).run(reporter)

    assert (last_checkpoint(tmp_path), reporter.reports) == undisturbed[name]


@each_method
def test_two_workers_report_and_end_with_what_one_does(train, name):
    directories = train(name, 1, 2)

    (alone,) = figures_in(directories[1])
    for worker in figures_in(directories[2]):
        assert worker == [pytest.approx(figures, rel=1e-9, abs=1e-9) for figures in alone]
    assert read_outcome(directories[2]) is not None
    one, two = (load_checkpoint(folder / "checkpoints" / "step-00000008")["method"] for folder in directories.values())
    assert one.keys() == two.keys()
    for network in one:
        torch.testing.assert_close(two[network]["network"], one[network]["network"], rtol=1e-9, atol=1e-9)


def figures_in(directory: Path) -> list[list[dict[str, float]]]:
    """What each worker reported."""
    logs = sorted(directory.glob("reports-*.jsonl"))
    return [[json.loads(line)["metrics"] for line in log.read_text().splitlines()] for log in logs]


@each_method
def test_without_weights_it_is_supervised_learning_to_the_bit(program, without_unlabelled_files, tmp_path, name):
    def trained(recipe: Recipe, directory: Path) -> Training:
        training = Training(recipe, without_unlabelled_files, directory)
        training.run(RecordingReporter())
        return training

    one = trained(program.recipe_of(name, **WEIGHTLESS[name]), tmp_path / "weightless")
    other = trained(program.recipe_of("supervised"), tmp_path / "supervised")

    state, expected = one.method.state_dict(), other.method.state_dict()
    assert state.keys() == {"segmenter"}
    torch.testing.assert_close(state["segmenter"]["network"], expected["segmenter"]["network"], rtol=0, atol=0)
    assert all(one.method.wants(step) == Wants() for step in range(12))
    assert one.method.rates(0).keys() == {"segmenter"}


CLASSES, SIDE, IGNORE = 3, 16, 255


def built(program, name: str, device: str = "cpu", **speed: bool) -> Method:
    settings = program.METHODS[name]
    trainer = TrainerSettings(
        steps=12, augmentation=program.recipe_of(name).trainer.augmentation, speed=SpeedSettings(**speed)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8).to(device)
        return build_method(settings, trainer, segmenter, classes=CLASSES, ignore_index=IGNORE, world=World())


def batch_of(wants: Wants, seed: int, device: str = "cpu") -> Batch:
    """What is wanted, and nothing else."""
    rng = torch.Generator().manual_seed(seed)
    images = [torch.randn(2, 3, SIDE, SIDE, generator=rng).to(device) for _ in range(2)]
    maps = [torch.randint(0, CLASSES, (2, SIDE, SIDE), generator=rng).to(device) for _ in range(3)]
    strong = torch.randn(len(wants.strong), 2, 3, SIDE, SIDE, generator=rng).to(device) if wants.strong else None
    boxes = [torch.tensor([[[0, 2, 9, 12], [0, 0, 0, 0]]]), torch.tensor([[[0, 0, 0, 0], [3, 3, 5, 16]]])]
    return Batch(
        images=images[0],
        labels=maps[0],
        real_labels=maps[1] if wants.real else None,
        unlabelled=images[1] if wants.unlabelled else None,
        unlabelled_valid=torch.ones_like(maps[2], dtype=torch.bool) if wants.unlabelled else None,
        unlabelled_labels=maps[2] if wants.unlabelled else None,
        strong=strong,
        boxes=torch.cat(boxes[: len(wants.strong)]).to(device) if wants.strong else None,
        partners=torch.tensor([1, 0]).to(device) if wants.partners else None,
        channels=torch.tensor([-1, 7]).to(device) if wants.strong else None,
    )


@each_method
def test_a_state_that_went_through_a_checkpoint_goes_on_as_the_one_that_gave_it(program, tmp_path, name):
    first, second = built(program, name), built(program, name)
    for step in range(5):
        first.step(step, [batch_of(first.wants(step), step)])
    second.load_state_dict(load_checkpoint(save_checkpoint(tmp_path, 5, first.state_dict())))
    first.meter.take()

    for method in (first, second):
        method.step(5, [batch_of(method.wants(5), 5)])

    assert first.meter.take() == second.meter.take()
    ends = [save_checkpoint(tmp_path / str(place), 6, m.state_dict()) for place, m in enumerate((first, second))]
    assert len({(end / "state.safetensors").read_bytes() for end in ends}) == 1


@each_method
@pytest.mark.parametrize("step", [0, 11])
def test_a_step_never_waits_for_the_device(program, name, step):
    """On the meta device there are no values, so asking for one raises."""
    # Fused optimizers know no meta device.
    method = built(program, name, "meta", fused_optimizers=False)

    method.step(step, [batch_of(method.wants(step), seed, "meta") for seed in range(2)])

    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        method.meter.take()


@each_method
def test_its_maps_are_degrees_or_choices_of_every_pixel(program, name):
    for found in built(program, name).maps(torch.rand(2, CLASSES, SIDE, SIDE).softmax(1)).values():
        assert found.shape == (2, SIDE, SIDE)
        assert found.dtype == torch.bool or (found.is_floating_point() and 0 <= found.min() <= found.max() <= 1)


@each_method
def test_a_healthy_run_shows_no_symptom(undisturbed, program, name):
    _, reports = undisturbed[name]

    assert built(program, name).symptoms(reports[-1].metrics) == ()


@each_method
def test_an_exported_model_is_the_segmenter_that_was_trained(program, shapes, tmp_path, name):
    training = Training(program.recipe_of(name, steps=2), shapes, tmp_path / "run")
    training.run(RecordingReporter())

    training.export(tmp_path / "model", {})

    exported = load(tmp_path / "model").segmenter.state_dict()
    torch.testing.assert_close(exported, training.method.segmenter.state_dict(), rtol=0, atol=0)
