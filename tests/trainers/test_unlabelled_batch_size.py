"""Batches of more or fewer unlabelled images than labelled ones."""

from dataclasses import replace

import pytest
import torch

from advseg.models.architectures import CAFFE_MEANS, DeepLabV3PlusSettings
from advseg.models.compact import Compact
from advseg.trainers.batches import Batches
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.figures import Work, work_of_steps
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Batch, Method
from advseg.trainers.methods.table import build_method
from advseg.trainers.recipe import Recipe
from advseg.trainers.work import flops_of_step

CPU = torch.device("cpu")
METHODS = ("adversarial", "consistency")
OF_LABELLED, OF_UNLABELLED = (
    ("images", "labels", "real_labels"),
    ("unlabelled", "unlabelled_valid", "unlabelled_labels"),
)
STEP = 5
"""One of which every loss counts."""


def recipe_of(program, method: str, labelled: int, unlabelled: int | None, **settings) -> Recipe:
    sizes = {"batch_size": labelled, "unlabelled_batch_size": unlabelled}
    return program.recipe_of(method, precision="float64", **sizes, **settings)


def method_of(recipe: Recipe, world: World) -> Method:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(6, 8).double()
        return build_method(recipe.method, recipe.trainer, segmenter, classes=6, ignore_index=255, world=world)


def batches_of(recipe: Recipe, shapes, world: World) -> Batches:
    wants = method_of(recipe, World()).wants
    return Batches(recipe.trainer, shapes, wants, CAFFE_MEANS, world=world, device=CPU)


def micro_batches(recipe: Recipe, shapes, step: int, world: World | None = None) -> list[Batch]:
    batches = batches_of(recipe, shapes, world or World())
    return batches.on_device(batches.draw(step))


@pytest.mark.parametrize("method", METHODS)
def test_each_kind_is_drawn_as_if_the_other_had_its_size(program, shapes, method):
    found = micro_batches(recipe_of(program, method, 2, 6, accumulation=2), shapes, STEP)

    for size, names in ((2, OF_LABELLED), (6, (*OF_UNLABELLED, "strong", "boxes", "partners", "channels"))):
        expected = micro_batches(recipe_of(program, method, size, None, accumulation=2), shapes, STEP)
        for ours, theirs in zip(found, expected, strict=True):
            for name in names:
                ours_, theirs_ = getattr(ours, name), getattr(theirs, name)
                assert theirs_ is ours_ is None or torch.equal(ours_, theirs_), name


@pytest.mark.parametrize("method", METHODS)
def test_each_kind_has_the_losses_that_it_has_with_a_batch_of_its_own(program, shapes, method):
    def figures(labelled: int, unlabelled: int | None) -> dict[str, float]:
        recipe = recipe_of(program, method, labelled, unlabelled)
        learning = method_of(recipe, World())
        learning.step(STEP, micro_batches(recipe, shapes, STEP))
        return learning.meter.take()

    found, few, many = figures(2, 6), figures(2, None), figures(6, None)

    assert found["loss/ce"] == pytest.approx(few["loss/ce"], rel=1e-12)
    assert found["loss/adv"] == pytest.approx(few["loss/adv"], rel=1e-12)
    assert found["loss/semi"] == pytest.approx(many["loss/semi"], rel=1e-12)
    assert found["selected/share"] == pytest.approx(many["selected/share"], rel=1e-12)
    assert found["selected/share"] > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [(3, 8), (5, 3)])
def test_several_workers_learn_what_one_does(program, shapes, on_workers, method, sizes):
    recipe = recipe_of(program, method, *sizes)
    # Torch's generator, which fresh networks come from, is one for all threads.
    fresh = {rank: method_of(recipe, World()).state_dict() for rank in range(3)}

    def learn(world: World) -> tuple[dict, dict]:
        learning = method_of(recipe, world)
        learning.load_state_dict(fresh[world.rank])
        for step in (STEP, STEP + 1):
            learning.step(step, micro_batches(recipe, shapes, step, world))
        return learning.meter.take(), learning.state_dict()

    figures, state = learn(World())
    for size in (2, 3):
        for found, theirs in on_workers(size, learn):
            assert found == pytest.approx(figures, rel=1e-9)
            for network in state:
                torch.testing.assert_close(theirs[network]["network"], state[network]["network"], rtol=1e-9, atol=1e-9)


def test_the_work_of_a_step_counts_both(program, shapes, tmp_path):
    recipe = recipe_of(program, "consistency", 2, 6, accumulation=2)

    training = Training(recipe, shapes, tmp_path)
    work = work_of_steps(recipe, 6, 255, training.method.wants, 1, CPU)

    assert work(0) == Work(images=2 + 3 * 6)
    one, other = (flops_of_step(recipe_of(program, "consistency", 2, size), 6, 255, 0) for size in (2, 6))
    assert 2 < other / one < 3


def test_sizes_that_cannot_be_divided_are_refused(program, shapes, tmp_path):
    with pytest.raises(
        ValueError, match="accumulation must divide unlabelled_batch_size, but is 2 and unlabelled_batch"
    ):
        recipe_of(program, "adversarial", 4, 3, accumulation=2)
    with pytest.raises(
        ValueError, match="unlabelled_batch_size / accumulation is 1, but deeplab_v3plus_resnet101 learns"
    ):
        replace(recipe_of(program, "adversarial", 4, 1), segmenter=DeepLabV3PlusSettings())
    with pytest.raises(
        UserError, match="unlabelled_batch_size is 2 in 1 micro-batches, but 3 workers need an image of"
    ):
        Training(recipe_of(program, "adversarial", 4, 2), shapes, tmp_path, world=World(size=3))
