import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advseg.models.compact import Compact
from advseg.models.discriminator import Discriminator
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.errors import NonFiniteLossError
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.adversarial_step import Adversarial
from advseg.trainers.methods.method import Batch
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.settings import TrainerSettings

CLASSES, SIZE, IGNORE = 3, 16, 255
ALL = AdversarialSettings(lambda_adv=0.3, lambda_semi_adv=0.2, lambda_semi=0.4, threshold=0.5, semi_start=0)
TRAINER = TrainerSettings(steps=10, augmentation=AugmentationSettings(crop=(SIZE, SIZE)))


def method_of(
    settings: AdversarialSettings = ALL, trainer: TrainerSettings = TRAINER, ignore_index: int = IGNORE
) -> Adversarial:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8).double()
        discriminator = Discriminator(CLASSES, (4, 8), "dense").double()
    # Larger weights make the discriminator trust some pixels and not others.
    for parameter in discriminator.parameters():
        parameter.data *= 3
    return Adversarial(settings, trainer, segmenter, discriminator, ignore_index=ignore_index, world=World())


def batch_of(seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)

    def labels() -> Tensor:
        map = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=rng)
        return map.masked_fill(torch.rand(map.shape, generator=rng) < 0.2, IGNORE)

    def images() -> Tensor:
        return torch.randn(2, 3, SIZE, SIZE, generator=rng, dtype=torch.float64)

    return Batch(
        images=images(),
        labels=labels(),
        real_labels=labels(),
        unlabelled=images(),
        unlabelled_valid=torch.rand(2, SIZE, SIZE, generator=rng) < 0.9,
        unlabelled_labels=labels(),
    )


def mean(values: Tensor, mask: Tensor) -> Tensor:
    return values[mask].mean()


def losses_by_hand(method: Adversarial, batch: Batch) -> dict[str, Tensor]:
    """The paper's losses, written down anew, with gradients to both networks."""
    assert batch.unlabelled is not None and batch.real_labels is not None
    assert batch.unlabelled_valid is not None
    known, valid, real_known = batch.labels != IGNORE, batch.unlabelled_valid, batch.real_labels != IGNORE
    labelled, unlabelled = method.segmenter(batch.images), method.segmenter(batch.unlabelled)
    p_labelled, p_unlabelled = labelled.softmax(1), unlabelled.softmax(1)
    judge = method.discriminator
    d_labelled, d_unlabelled = judge(p_labelled)[:, 0].sigmoid(), judge(p_unlabelled)[:, 0].sigmoid()
    d_fake = judge(p_labelled.detach())[:, 0].sigmoid()
    d_fake_unlabelled = judge(p_unlabelled.detach())[:, 0].sigmoid()
    truth = torch.stack([(batch.real_labels == k).double() for k in range(CLASSES)], 1)
    trusted = (d_unlabelled >= method.settings.threshold) & valid
    fakes = -(1 - torch.cat([d_fake, d_fake_unlabelled])).log()
    real = mean(-judge(truth)[:, 0].sigmoid().log(), real_known)
    return {
        "ce": mean(F.cross_entropy(labelled, batch.labels.masked_fill(~known, 0), reduction="none"), known),
        "adv": mean(-d_labelled.log(), known),
        "semi_adv": mean(-d_unlabelled.log(), valid),
        "semi": mean(-p_unlabelled.amax(1).log(), trusted),
        "d": (mean(fakes, torch.cat([known, valid])) + real) / 2,
        "d without unlabelled": (mean(-(1 - d_fake).log(), known) + real) / 2,
        "selected": trusted.sum() / valid.sum(),
    }


def gradients(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_the_losses_are_those_of_the_paper():
    method = method_of()
    batch = batch_of()
    expected = losses_by_hand(method, batch)

    method.step(0, [batch])
    metrics = method.meter.take()

    assert 0.05 < expected["selected"] < 0.95
    assert metrics["selected/share"] == pytest.approx(expected["selected"].item())
    for name in ("ce", "adv", "semi_adv", "semi", "d"):
        assert metrics[f"loss/{name}"] == pytest.approx(expected[name].item(), rel=1e-9)


def test_each_network_has_the_gradient_of_its_own_losses_alone():
    method = method_of()
    batch = batch_of()
    twin = method_of()
    losses = losses_by_hand(twin, batch)
    segmenter_loss = losses["ce"] + 0.3 * losses["adv"] + 0.2 * losses["semi_adv"] + 0.4 * losses["semi"]
    segmenter_loss.backward(inputs=list(twin.segmenter.parameters()), retain_graph=True)
    losses["d"].backward(inputs=list(twin.discriminator.parameters()))

    method.step(0, [batch])

    for ours, expected in (
        (method.segmenter, twin.segmenter),
        (method.discriminator, twin.discriminator),
    ):
        assert gradients(ours).keys() == dict(ours.named_parameters()).keys()
        torch.testing.assert_close(gradients(ours), gradients(expected), rtol=1e-9, atol=1e-12)


def test_the_norms_that_are_reported_are_those_of_the_gradients():
    method = method_of()

    method.step(0, [batch_of()])
    metrics = method.meter.take()

    for name, network in (("segmenter", method.segmenter), ("discriminator", method.discriminator)):
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients(network).values()))
        assert metrics[f"gradient_norm/{name}"] == pytest.approx(norm)


def test_what_the_segmenter_learns_changes_nothing_for_the_discriminator():
    """Both read the same logits of the discriminator; its gradients come from its own loss alone."""
    weak, strong = (method_of(replace(ALL, lambda_adv=w, lambda_semi_adv=w, lambda_semi=w)) for w in (0.1, 50.0))

    for method in (weak, strong):
        method.step(0, [batch_of()])

    for name, gradient in gradients(weak.discriminator).items():
        assert torch.equal(gradient, gradients(strong.discriminator)[name])
    ours, theirs = gradients(weak.segmenter), gradients(strong.segmenter)
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_the_discriminator_learns_from_changes_nothing_for_the_segmenter():
    with_discriminator, without = (
        method_of(replace(ALL, discriminator_sees_unlabelled=sees)) for sees in (True, False)
    )

    for method in (with_discriminator, without):
        method.step(0, [batch_of()])

    ours, theirs = gradients(with_discriminator.discriminator), gradients(without.discriminator)
    assert not torch.equal(ours["classifier.weight"], theirs["classifier.weight"])
    for name, gradient in gradients(with_discriminator.segmenter).items():
        assert torch.equal(gradient, gradients(without.segmenter)[name])


def test_without_unlabelled_fakes_the_discriminator_learns_from_labelled_predictions_only():
    method = method_of(replace(ALL, discriminator_sees_unlabelled=False))
    batch = batch_of()
    expected = losses_by_hand(method, batch)
    assert abs(expected["d"] - expected["d without unlabelled"]) > 1e-3

    method.step(0, [batch])

    assert method.meter.take()["loss/d"] == pytest.approx(expected["d without unlabelled"].item(), rel=1e-9)


class Copyist(nn.Module):
    """A segmenter whose prediction is what its images say, and which does not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 1000.0, dtype=torch.float64))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        return {"body": [self.scale], "head": []}

    def blocks(self) -> list[nn.Module]:
        return []

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images


def perfect_batch(step: int) -> Batch:
    """Images that say what the truth is, also on the void, which is half of both."""
    rng = torch.Generator().manual_seed(step)
    truth = torch.randint(0, CLASSES, (2, SIZE, SIZE), generator=rng)
    void = torch.rand(truth.shape, generator=rng) < 0.5
    labels = truth.masked_fill(void, IGNORE)
    return Batch(images=F.one_hot(truth, CLASSES).movedim(-1, 1).double(), labels=labels, real_labels=labels)


@pytest.mark.parametrize("sees", [True, False])
def test_perfect_predictions_are_told_from_truth_by_void_alone_and_not_if_that_is_hidden(sees):
    settings = AdversarialSettings(
        lambda_semi_adv=0.0,
        lambda_semi=0.0,
        discriminator_sees_void=sees,
        discriminator_optimizer=AdamSettings(lr=0.01),
    )
    optimizer = SGDSettings(lr=1e-30)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        discriminator = Discriminator(CLASSES, (8, 8), "dense").double()
    trainer = replace(TRAINER, steps=200, segmenter_optimizer=optimizer)
    method = Adversarial(settings, trainer, Copyist(), discriminator, ignore_index=IGNORE, world=World())

    losses = []
    for step in range(100):
        method.step(step, [perfect_batch(step)])
        losses.append(method.meter.take()["loss/d"])

    if sees:
        assert losses[-1] < 0.4
    else:
        assert losses[-1] == pytest.approx(math.log(2), abs=1e-3)
        assert min(losses) >= math.log(2)


def test_what_is_hidden_changes_neither_the_cross_entropy_nor_what_is_seen_elsewhere():
    batch = batch_of()
    known, valid = batch.labels != IGNORE, batch.unlabelled_valid
    everywhere = replace(batch, labels=batch.labels.clamp(max=0), unlabelled_valid=torch.ones_like(valid))
    seen, hidden = (replace(ALL, discriminator_sees_void=sees) for sees in (True, False))

    def figures(settings: AdversarialSettings, batch: Batch) -> dict[str, float]:
        method = method_of(settings)
        method.step(0, [batch])
        return method.meter.take()

    assert figures(hidden, batch)["loss/ce"] == figures(seen, batch)["loss/ce"]
    assert figures(hidden, batch)["loss/d"] != figures(seen, batch)["loss/d"]
    assert not known.all() and not valid.all()
    assert figures(hidden, everywhere) == figures(seen, everywhere)


def test_with_the_labelled_adversarial_loss_alone_no_unlabelled_image_is_needed():
    method = method_of(replace(ALL, lambda_semi_adv=0.0, lambda_semi=0.0))
    batch = batch_of()

    method.step(0, [Batch(images=batch.images, labels=batch.labels, real_labels=batch.real_labels)])

    assert {"loss/ce", "loss/adv", "loss/d"} == {n for n in method.meter.take() if n.startswith("loss/")}


def test_no_trusted_pixel_leaves_the_adversarial_gradient_of_the_unlabelled_images():
    unknown = replace(batch_of(), labels=torch.full((2, SIZE, SIZE), IGNORE))
    method = method_of(replace(ALL, lambda_adv=0.0, threshold=1.0))
    adversarial = method_of(replace(ALL, lambda_adv=0.0, lambda_semi=0.0))

    method.step(0, [unknown])
    adversarial.step(0, [unknown])

    metrics = method.meter.take()
    assert (metrics["selected/share"], metrics["loss/semi"]) == (0, 0)
    assert "selected/accuracy" not in metrics
    assert metrics["gradient_norm/segmenter"] > 0
    for name, gradient in gradients(method.segmenter).items():
        assert torch.equal(gradient, gradients(adversarial.segmenter)[name])


def test_the_pseudo_label_loss_starts_at_its_step():
    method = method_of(replace(ALL, semi_start=2))

    found = []
    for step in range(4):
        method.step(step, [batch_of(step)])
        found.append("loss/semi" in method.meter.take())

    assert found == [False, False, True, True]


def test_the_accuracy_of_trusted_pixels_is_measured_where_the_truth_is_known():
    method = method_of(replace(ALL, threshold=0.0))
    batch = batch_of()
    assert batch.unlabelled is not None
    predicted = method.segmenter(batch.unlabelled).argmax(1)
    truth = predicted.clone()
    truth[0] = IGNORE
    truth[1, : SIZE // 4] = (predicted[1, : SIZE // 4] + 1) % CLASSES

    method.step(
        0, [replace(batch, unlabelled_labels=truth, unlabelled_valid=torch.ones(2, SIZE, SIZE, dtype=torch.bool))]
    )

    metrics = method.meter.take()
    assert metrics["selected/share"] == 1
    assert metrics["selected/accuracy"] == 0.75


def test_everything_ignored_changes_nothing_but_stays_finite():
    method = method_of(trainer=replace(TRAINER, segmenter_optimizer=SGDSettings(weight_decay=0.0)))
    before = weights(method.segmenter)
    nothing = torch.full((2, SIZE, SIZE), IGNORE)

    for step in range(2):
        emptied = replace(
            batch_of(), labels=nothing, real_labels=nothing, unlabelled_valid=torch.zeros_like(nothing).bool()
        )
        method.step(step, [emptied])

    metrics = method.meter.take()
    assert {v for n, v in metrics.items() if n.startswith(("loss/", "gradient_norm/"))} == {0.0}
    assert all(torch.equal(before[name], value) for name, value in weights(method.segmenter).items())
    assert all(value.isfinite().all() for value in weights(method.discriminator).values())


@pytest.mark.parametrize(("broken", "term"), [("images", "loss/ce"), ("unlabelled", "loss/semi_adv")])
def test_a_loss_that_is_not_finite_is_raised_with_the_term_and_step_that_broke_first(broken, term):
    method = method_of()
    images = getattr(batch_of(), broken).clone()
    images[0, 0, 0, 0] = math.nan

    method.step(5, [batch_of()])
    method.step(6, [replace(batch_of(), **{broken: images})])
    method.step(7, [batch_of()])

    with pytest.raises(NonFiniteLossError, match=f"{term} became NaN or infinite at step 6"):
        method.meter.take()


def test_an_accumulated_batch_has_the_mean_of_its_micro_batches_means():
    """They have different numbers of known, valid and trusted pixels, so a mean over all pixels would differ."""
    micro_batches = [
        batch_of(1),
        replace(batch_of(2), labels=batch_of(3).labels.masked_fill(torch.eye(SIZE).bool(), IGNORE)),
    ]
    sparse = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < 0.3
    micro_batches[1] = replace(micro_batches[1], unlabelled_valid=sparse)
    method, twin = method_of(), method_of()
    losses = [losses_by_hand(twin, micro_batch) for micro_batch in micro_batches]
    mean_of = {name: (losses[0][name] + losses[1][name]) / 2 for name in losses[0]}
    segmenter_loss = mean_of["ce"] + 0.3 * mean_of["adv"] + 0.2 * mean_of["semi_adv"] + 0.4 * mean_of["semi"]
    segmenter_loss.backward(inputs=list(twin.segmenter.parameters()), retain_graph=True)
    mean_of["d"].backward(inputs=list(twin.discriminator.parameters()))

    method.step(0, micro_batches)

    metrics = method.meter.take()
    for name in ("ce", "adv", "semi_adv", "semi", "d"):
        assert metrics[f"loss/{name}"] == pytest.approx(mean_of[name].item(), rel=1e-9)
    torch.testing.assert_close(gradients(method.segmenter), gradients(twin.segmenter), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(method.discriminator), gradients(twin.discriminator), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("sees", "unlabelled_from"), [(True, 0), (False, 2)])
def test_unlabelled_images_are_needed_from_the_first_step_that_learns_from_them(sees, unlabelled_from):
    settings = replace(ALL, discriminator_sees_unlabelled=sees, semi_start=3, semi_adv_start=2)
    method = method_of(settings)

    looked = []
    for step in range(4):
        method.step(step, [batch_of(step)])
        looked.append("loss/semi_adv" in method.meter.take())

    assert looked == [method.wants(step).unlabelled for step in range(4)]
    assert looked == [step >= unlabelled_from for step in range(4)]


def test_the_adversarial_loss_on_unlabelled_images_starts_at_its_step():
    later = method_of(replace(ALL, semi_adv_start=1, semi_start=5))
    never = method_of(replace(ALL, semi_adv_start=5, semi_start=5))

    for step in range(2):
        for method in (later, never):
            method.step(step, [batch_of(step)])
        same = [torch.equal(g, gradients(never.segmenter)[name]) for name, g in gradients(later.segmenter).items()]
        assert all(same) == (step == 0)


def test_where_no_prediction_counts_the_discriminator_learns_from_ground_truth_alone():
    method, twin = method_of(), method_of().discriminator
    batch = batch_of()
    assert batch.real_labels is not None
    truth = torch.stack([(batch.real_labels == k).double() for k in range(CLASSES)], 1)
    expected = mean(-twin(truth)[:, 0].sigmoid().log(), batch.real_labels != IGNORE) / 2
    expected.backward()

    nothing = torch.full((2, SIZE, SIZE), IGNORE)
    method.step(0, [replace(batch, labels=nothing, unlabelled_valid=torch.zeros_like(nothing).bool())])

    assert method.meter.take()["loss/d"] == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(gradients(method.discriminator), gradients(twin), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 24), (24, 16)])
def test_losses_of_crops_that_are_not_square_are_those_of_the_paper(shape):
    rng = torch.Generator().manual_seed(4)
    labels = torch.randint(0, CLASSES, (2, *shape), generator=rng)
    images = torch.randn(2, 3, *shape, generator=rng, dtype=torch.float64)
    batch = Batch(
        images=images,
        labels=labels,
        real_labels=labels.flip(0),
        unlabelled=images.flip(0),
        unlabelled_valid=torch.rand(2, *shape, generator=rng) < 0.9,
        unlabelled_labels=labels,
    )
    method = method_of()
    expected = losses_by_hand(method, batch)

    method.step(0, [batch])

    metrics = method.meter.take()
    for name in ("ce", "adv", "semi_adv", "semi", "d"):
        assert metrics[f"loss/{name}"] == pytest.approx(expected[name].item(), rel=1e-9)


@pytest.mark.parametrize("ignore_index", [0, 254, 1000])
def test_any_ignore_index_counts_nowhere(ignore_index):
    """Also one that is the id of a class, which then is never learnt."""

    def step(ignored: int) -> dict[str, float]:
        def relabelled(labels: Tensor | None) -> Tensor:
            assert labels is not None
            return labels.clamp(min=1).masked_fill(labels == IGNORE, ignored)

        batch = batch_of()
        method = method_of(ignore_index=ignored)
        method.step(0, [replace(batch, labels=relabelled(batch.labels), real_labels=relabelled(batch.real_labels))])
        return method.meter.take()

    metrics, expected = step(ignore_index), step(IGNORE)

    # Only the accuracy of selected pixels knows the unlabelled truth, which stays as it was.
    metrics.pop("selected/accuracy"), expected.pop("selected/accuracy")
    assert metrics == expected


def test_a_discriminator_that_has_won_is_named_with_its_loss():
    method = method_of()

    (found,) = method.symptoms({"loss/d": 0.0031})

    assert "the discriminator has won: its loss is 0.0031, below 0.02" in found
    assert method.symptoms({"loss/d": 0.3, "loss/ce": 0.001}) == ()


class TestMaps:
    def test_are_the_discriminators_confidence_and_what_reaches_the_threshold(self):
        method = method_of()
        probabilities = torch.rand(2, CLASSES, SIZE, SIZE, dtype=torch.float64).softmax(1)

        maps = method.maps(probabilities)

        confidence = method.discriminator(probabilities)[:, 0].sigmoid()
        torch.testing.assert_close(maps["confidence"], confidence)
        assert torch.equal(maps["selected"], confidence >= ALL.threshold)
        assert 0 < maps["selected"].sum() < maps["selected"].numel()

    def test_select_a_pixel_exactly_at_the_threshold(self):
        method = method_of()
        for parameter in method.discriminator.parameters():
            parameter.data.zero_()

        maps = method.maps(torch.rand(1, CLASSES, SIZE, SIZE, dtype=torch.float64))

        assert maps["confidence"].eq(0.5).all()
        assert maps["selected"].all()

    def test_select_nothing_where_no_loss_learns_from_pseudo_labels(self):
        method = method_of(replace(ALL, lambda_semi=0.0))

        assert set(method.maps(torch.rand(1, CLASSES, SIZE, SIZE, dtype=torch.float64))) == {"confidence"}

    def test_are_there_for_images_below_the_discriminators_smallest_side(self):
        method = method_of()
        side = method.discriminator.smallest_side - 1

        assert method.maps(torch.rand(1, CLASSES, side, side, dtype=torch.float64))["confidence"].shape == (
            1,
            side,
            side,
        )
