"""Which pixels of labelled images count, and how much, against plain torch on all of them at once."""

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advseg.models.compact import Compact
from advseg.trainers import loop
from advseg.trainers.checkpoint import load_checkpoint
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.class_pixels import class_pixels
from advseg.trainers.distributed import World
from advseg.trainers.errors import UserError
from advseg.trainers.hard_pixels import kth_largest
from advseg.trainers.labelled_loss import LabelledLoss, balanced
from advseg.trainers.loop import Training
from advseg.trainers.losses import cross_entropy_sum
from advseg.trainers.reporter import RecordingReporter
from advseg.trainers.settings import OhemSettings, TrainerSettings

CLASSES, IGNORE, SIDE = 3, 255, 8
WEIGHTS = (1.0, 0.25, 4.0)


def trainer_of(**settings) -> TrainerSettings:
    augmentation = AugmentationSettings(crop=(SIDE, SIDE))
    return TrainerSettings(steps=4, batch_size=5, augmentation=augmentation, **settings)


def maps(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of five images that learn, and labels, some ignored; the last image has none."""
    rng = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(5, CLASSES, SIDE, SIDE, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (5, SIDE, SIDE), generator=rng)
    labels[torch.rand(labels.shape, generator=rng) < 0.2] = IGNORE
    labels[4] = IGNORE
    return logits.requires_grad_(), labels


def loss_of(trainer: TrainerSettings, world: World) -> LabelledLoss:
    return LabelledLoss(trainer, Compact(CLASSES, 8).double(), ignore_index=IGNORE, world=world)


def plainly(logits: Tensor, labels: Tensor, trainer: TrainerSettings) -> Tensor:
    """UniMatch's cross-entropy, by sorting probabilities; those of ignored pixels count as 1."""
    weights = torch.tensor(trainer.class_weights or CLASSES * (1.0,), dtype=logits.dtype)
    if trainer.ohem:
        known = labels != IGNORE
        probability = logits.softmax(1).gather(1, labels.where(known, 0).unsqueeze(1)).squeeze(1)
        probability = probability.detach().masked_fill(~known, 1)
        least = probability.flatten().sort().values[min(trainer.ohem.least, int(known.sum())) - 1]
        labels = labels.masked_fill(probability > max(trainer.ohem.threshold, least.item()), IGNORE)
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORE)


ASKED = [
    {"class_weights": WEIGHTS},
    {"class_weights": (0.0, 1.0, 2.0)},
    {"ohem": OhemSettings(threshold=0.3, least=100)},
    {"ohem": OhemSettings(threshold=0.3, least=1)},
    {"ohem": OhemSettings(threshold=0.9, least=7)},
    {"ohem": OhemSettings(threshold=0.1, least=319)},
    {"ohem": OhemSettings(threshold=0.2, least=60), "class_weights": WEIGHTS},
]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_it_is_the_mean_over_all_images_however_many_workers_share_them(on_workers, asked, size):
    trainer = trainer_of(**asked)
    logits, labels = maps()
    expected = plainly(logits, labels, trainer)
    (gradient,) = torch.autograd.grad(expected, logits)

    def learn(world: World) -> tuple[Tensor, Tensor]:
        share = slice(world.rank, None, world.size)
        known = world.denominator((labels[share] != IGNORE).sum())
        loss = loss_of(trainer, world)(logits[share], labels[share], known)
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    found = [learn(World())] if size == 1 else on_workers(size, learn)

    torch.testing.assert_close(sum(loss for loss, _ in found), expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sum(own for _, own in found), gradient, rtol=1e-12, atol=1e-12)


def test_by_default_it_is_what_it_was_to_the_bit():
    logits, labels = maps()
    known = (labels != IGNORE).sum()

    found = loss_of(trainer_of(), World())(logits, labels, known)

    assert torch.equal(found, cross_entropy_sum(logits, labels, IGNORE) / known)


def test_the_least_of_a_batch_is_divided_among_its_micro_batches():
    ohem = OhemSettings(threshold=0.1, least=61)
    whole, part = trainer_of(ohem=replace(ohem, least=13)), trainer_of(ohem=ohem, accumulation=5)
    logits, labels = maps()
    known = (labels != IGNORE).sum()

    assert loss_of(part, World())(logits, labels, known) == loss_of(whole, World())(logits, labels, known)


@pytest.mark.parametrize("asked", ASKED)
def test_without_any_label_it_is_nothing(asked):
    logits, labels = maps()

    loss = loss_of(trainer_of(**asked), World())(logits, torch.full_like(labels, IGNORE), torch.tensor(1))
    loss.backward()

    assert loss == 0
    assert not logits.grad.any()


def test_what_is_no_number_is_not_taken_for_an_easy_pixel():
    logits, labels = maps()
    logits.data[0, 0, 0, 0], labels[0, 0, 0] = torch.nan, 1
    trainer = trainer_of(ohem=OhemSettings(least=9))

    assert loss_of(trainer, World())(logits, labels, (labels != IGNORE).sum()).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3])
def test_the_kth_largest_is_that_of_sorting(on_workers, dtype, size):
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(300, generator=rng, dtype=dtype).exp()
    # Many that are equal, as where a network is sure of all; both zeros, and those that hardly differ.
    values[:40], values[40:80], values[80:90] = 0.0, 2.5, -0.0
    values[90:95] = torch.nextafter(torch.tensor(2.5, dtype=dtype), torch.tensor(3.0, dtype=dtype))
    values[95] = torch.inf
    ranks = [1, 2, 100, 150, 205, 250, 251, 300]

    def find(world: World) -> list[Tensor]:
        return [kth_largest(values[world.rank :: world.size], torch.tensor(k), world) for k in ranks]

    for found in [find(World())] if size == 1 else on_workers(size, find):
        assert torch.equal(torch.stack(found), values.sort(descending=True).values[[k - 1 for k in ranks]])


def test_balanced_classes_weigh_alike_and_absent_ones_nothing():
    pixels = torch.tensor([600, 0, 300, 100])

    weights = balanced(pixels)

    assert (weights * pixels).tolist() == pytest.approx([1000 / 3, 0, 1000 / 3, 1000 / 3])
    assert balanced(torch.zeros(3)).tolist() == [0, 0, 0]


def test_pixels_of_classes_are_counted_as_the_network_reads_them(shapes):
    masks = [sample.read_mask() for sample in shapes.labelled]

    counted = class_pixels(shapes.labelled, 6, IGNORE, None)

    assert counted.tolist() == [sum(int((mask == id).sum()) for mask in masks) for id in range(6)]
    assert class_pixels(shapes.labelled, 6, IGNORE, (16, 16)).sum() == len(masks) * 16 * 16
    assert class_pixels(shapes.labelled, 6, 0, None).tolist() == [0, *counted.tolist()[1:]]


@pytest.mark.parametrize("method", ["adversarial", "consistency", "supervised"])
def test_balanced_weights_are_counted_once_and_resume(program, shapes, tmp_path, method):
    asked = {"class_weights": "balanced", "ohem": OhemSettings(threshold=0.5, least=40), "steps": 6}
    Training(program.recipe_of(method, **asked), shapes, tmp_path / "whole").run(RecordingReporter())
    resumed = Training(program.recipe_of(method, **asked), shapes, tmp_path / "resumed")
    reports = resumed.reports()
    next(reports)
    next(reports)
    reports.close()
    with mock.patch.object(loop, "class_pixels", side_effect=AssertionError("counted again")):
        resumed = Training(program.recipe_of(method, **asked), shapes, tmp_path / "resumed")
        resumed.run(RecordingReporter())

    whole, found = (last_state(tmp_path / name) for name in ("whole", "resumed"))
    expected = balanced(torch.from_numpy(class_pixels(shapes.labelled, 6, IGNORE, None))).float()
    assert torch.equal(whole["class_weights"], expected)
    torch.testing.assert_close(found, whole, rtol=0, atol=0)


def last_state(directory: Path) -> dict:
    return load_checkpoint(directory / "checkpoints" / "step-00000006")["method"]


def test_other_workers_take_the_leading_ones_weights():
    ours, theirs = (loss_of(trainer_of(class_weights="balanced"), World(rank=rank, size=2)) for rank in (0, 1))
    ours.balance(torch.tensor([10, 20, 30]))

    theirs.load_state_dict(ours.state_dict())

    assert torch.equal(theirs.state_dict()["class_weights"], ours.state_dict()["class_weights"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": (1.0, -1.0)}, "class_weights must be at least 0, but is -1.0"),
        ({"class_weights": "inverse"}, "class_weights must be one of balanced, but is inverse"),
        (
            {"class_weights": (0.0, 0.0)},
            "class_weights must have one above 0, but has none: raise one, or take balanced or null",
        ),
        (
            {"ohem": OhemSettings(least=320)},
            "ohem.least must be below the pixels of a batch, 320, but is 320: lower it",
        ),
    ],
)
def test_what_could_not_be_learnt_from_is_refused(settings, message):
    with pytest.raises(ValueError) as caught:
        trainer_of(**settings)

    assert str(caught.value) == message


def test_as_many_weights_as_classes_are_needed(program, shapes, tmp_path):
    recipe = program.recipe_of("supervised")
    recipe = replace(recipe, trainer=replace(recipe.trainer, class_weights=(1.0, 2.0)))

    with pytest.raises(UserError) as caught:
        Training(recipe, shapes, tmp_path)

    assert str(caught.value) == (
        "trainer.class_weights must be one for each class, but are 2 and the dataset has 6, "
        f"{', '.join(shapes.classes)}: list 6, or take balanced"
    )
