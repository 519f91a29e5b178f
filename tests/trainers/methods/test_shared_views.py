"""Strong views where several workers share a batch: each sees, and learns, what one alone would."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from advseg.models.architectures import CAFFE_MEANS
from advseg.models.compact import Compact
from advseg.models.discriminator import Discriminator, DiscriminatorSettings
from advseg.trainers.batches import Batches
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.distributed import World
from advseg.trainers.methods.consistency import PRESETS, ConsistencySettings
from advseg.trainers.methods.consistency_step import Consistency
from advseg.trainers.methods.cutmix import inside, mixed
from advseg.trainers.methods.method import Batch, Wants, networks_of
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.settings import TrainerSettings

IGNORE = 255
SETTINGS = ConsistencySettings(
    threshold=0.3,
    ema_decay=0.6,
    views=2,
    feature_dropout=True,
    lambda_adv=0.3,
    discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
    discriminator_optimizer=AdamSettings(lr=1e-3),
)
TRAINER = TrainerSettings(
    steps=5, segmenter_optimizer=SGDSettings(lr=0.05), augmentation=AugmentationSettings(crop=(24, 24))
)


def wants_of(settings: ConsistencySettings) -> Wants:
    return Wants(unlabelled=True, unlabelled_labels=True, real=True, strong=settings.views * (settings.strong,))


WANTS = wants_of(SETTINGS)


def test_the_weak_views_are_those_of_other_methods(program, shapes):
    recipe = program.recipe_of("consistency", batch_size=4)
    method_views, others = (
        Batches(recipe.trainer, shapes, lambda _, w=wants: w, CAFFE_MEANS, world=World(), device=torch.device("cpu"))
        for wants in (WANTS, Wants(unlabelled=True, unlabelled_labels=True, real=True))
    )
    (found,), (expected,) = (batches.on_device(batches.draw(3)) for batches in (method_views, others))
    for name, value in vars(expected).items():
        assert value is None or torch.equal(getattr(found, name), value), name


def shares_of(program, shapes: Dataset, size: int) -> list[list[list[Batch]]]:
    """By worker and step, the micro-batches."""
    recipe = program.recipe_of("consistency", precision="float64", batch_size=12, accumulation=2)
    shares = []
    for rank in range(size):
        world = World(rank=rank, size=size)
        batches = Batches(recipe.trainer, shapes, lambda _: WANTS, CAFFE_MEANS, world=world, device=torch.device("cpu"))
        shares.append([batches.on_device(batches.draw(step)) for step in range(2)])
    return shares


@pytest.mark.parametrize(("size", "seen"), [(2, [6, 6]), (3, [4, 2, 4]), (4, [4, 4, 2, 2])])
def test_any_number_of_workers_sees_the_same_mixed_views(program, shapes, size, seen):
    """Each sees its own images and those that these are mixed with."""
    (whole,) = shares_of(program, shapes, 1)
    for rank, share in enumerate(shares_of(program, shapes, size)):
        for ours, alls in zip(share, whole, strict=True):
            for our, its in zip(ours, alls, strict=True):
                own = slice(rank, None, size)
                assert len(our.unlabelled) == seen[rank]
                assert len(our.partners) == len(our.images) == len(our.unlabelled_labels)
                for found, expected in zip(views_of(our), views_of(its), strict=True):
                    for name, maps in found.items():
                        torch.testing.assert_close(maps, expected[name][own], rtol=1e-12, atol=1e-12, msg=name)
                assert torch.equal(our.channels, its.channels[own])


def views_of(batch: Batch) -> list[dict[str, Tensor]]:
    boxed = [inside(boxes, *batch.labels.shape[1:]) for boxes in batch.boxes]
    return [
        {
            "images": mixed(view, batch.partners, box),
            "weak": mixed(batch.unlabelled, batch.partners, box),
            "valid": mixed(batch.unlabelled_valid, batch.partners, box),
        }
        for view, box in zip(batch.strong, boxed, strict=True)
    ]


def test_the_partner_is_the_image_that_is_as_far_from_the_end(program, shapes):
    ((batch, other), _) = shares_of(program, shapes, 1)[0]

    assert batch.partners.tolist() == other.partners.tolist() == [5, 4, 3, 2, 1, 0]
    assert len(batch.unlabelled) == len(batch.images) == 6


def test_several_workers_learn_what_one_does(program, shapes, on_workers):
    """Of 2 and 4, each judges weak views of other's slots too."""

    def learn(world: World) -> tuple[dict, dict]:
        method = Consistency(settings, TRAINER, *deepcopy(fresh), ignore_index=IGNORE, world=world)
        for step, parts in enumerate(shares[world.size][world.rank]):
            method.step(step, parts)
        return method.meter.take(), method.state_dict()

    settings = replace(SETTINGS, feature_dropout=True, threshold=0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = Compact(6, 8).double(), Discriminator(6, (4, 8), "dense").double()
    shares = {size: shares_of(program, shapes, size) for size in (1, 2, 4)}
    figures, state = learn(World())

    assert 0.05 < figures["selected/share"] < 0.95
    for size in (2, 4):
        for found, theirs in on_workers(size, learn):
            assert found == pytest.approx(figures, rel=1e-9)
            for network in state:
                torch.testing.assert_close(theirs[network]["network"], state[network]["network"], rtol=1e-9, atol=1e-9)


def test_without_boxes_no_image_is_read_twice(program, shapes):
    wants = wants_of(PRESETS["mean-teacher"])
    recipe = program.recipe_of("consistency", batch_size=4)
    world = World(rank=1, size=2)
    batches = Batches(recipe.trainer, shapes, lambda _: wants, CAFFE_MEANS, world=world, device=torch.device("cpu"))

    (batch,) = batches.on_device(batches.draw(0))

    assert (len(batch.unlabelled), batch.partners) == (2, None)
    assert torch.equal(mixed(batch.unlabelled, batch.partners, inside(batch.boxes[0], 24, 24)), batch.unlabelled)


@pytest.mark.parametrize(("teacher", "networks"), [("ema", 2), ("self", 1)])
def test_statistics_that_workers_gather_of_their_own_images_come_back_to_each(
    program, shapes, on_workers, teacher, networks
):
    """Those of the teacher that follows, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(6, 8).double()
    segmenter.stem = nn.Sequential(segmenter.stem, nn.BatchNorm2d(8)).double()
    settings, shares = replace(SETTINGS, teacher=teacher, lambda_adv=0.0), shares_of(program, shapes, 2)

    def method_on(world: World) -> Consistency:
        return Consistency(settings, TRAINER, deepcopy(segmenter), None, ignore_index=IGNORE, world=world)

    def resume(world: World) -> int:
        method = method_on(world)
        for step, parts in enumerate(shares[world.rank]):
            method.step(step, parts)
        everyones = world.own_statistics(networks_of(method))
        other = method_on(world)
        if world.leads:
            other.load_state_dict(method.state_dict())
        world.take_statistics(networks_of(other), everyones)
        for one, found in ((method.student, other.student), (method.segmenter, other.segmenter)):
            pairs = [*zip(found.buffers(), one.buffers(), strict=True)]
            assert all(torch.equal(ours, theirs) for ours, theirs in pairs if ours.is_floating_point())
        return everyones.shape[1]

    assert on_workers(2, resume) == 2 * [networks * 2 * 8]
