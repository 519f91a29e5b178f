import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advseg.models.compact import Compact
from advseg.models.discriminator import Discriminator
from advseg.trainers.adversarial import AdversarialTrainer, Batch, MethodSettings
from advseg.trainers.checkpoint import load_checkpoint, save_checkpoint
from advseg.trainers.distributed import World
from advseg.trainers.errors import NonFiniteLossError
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.speed import SpeedSettings

CLASSES, SIZE, IGNORE = 3, 16, 255
SUPERVISED = {"lambda_adv": 0.0, "lambda_semi_adv": 0.0, "lambda_semi": 0.0}
ALL = MethodSettings(
    steps=10,
    lambda_adv=0.3,
    lambda_semi_adv=0.2,
    lambda_semi=0.4,
    threshold=0.5,
    semi_start=0,
    body_lr_factor=3.0,
    head_lr_factor=2.0,
)


def trainer_of(settings: MethodSettings, ignore_index: int = IGNORE) -> AdversarialTrainer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Compact(CLASSES, 8).double()
        discriminator = Discriminator(CLASSES, (4, 8), "dense").double()
    # Larger weights make the discriminator trust some pixels and not others.
    for parameter in discriminator.parameters():
        parameter.data *= 3
    used = discriminator if settings.uses_discriminator else None
    return AdversarialTrainer(settings, segmenter, used, ignore_index=ignore_index, world=World())


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


def losses_by_hand(trainer: AdversarialTrainer, batch: Batch) -> dict[str, Tensor]:
    """The paper's losses, written down anew, with gradients to both networks."""
    assert trainer.discriminator and batch.unlabelled is not None and batch.real_labels is not None
    assert batch.unlabelled_valid is not None
    known, valid, real_known = batch.labels != IGNORE, batch.unlabelled_valid, batch.real_labels != IGNORE
    labelled, unlabelled = trainer.segmenter(batch.images), trainer.segmenter(batch.unlabelled)
    p_labelled, p_unlabelled = labelled.softmax(1), unlabelled.softmax(1)
    judge = trainer.discriminator
    d_labelled, d_unlabelled = judge(p_labelled)[:, 0].sigmoid(), judge(p_unlabelled)[:, 0].sigmoid()
    d_fake = judge(p_labelled.detach())[:, 0].sigmoid()
    d_fake_unlabelled = judge(p_unlabelled.detach())[:, 0].sigmoid()
    truth = torch.stack([(batch.real_labels == k).double() for k in range(CLASSES)], 1)
    trusted = (d_unlabelled >= trainer.settings.threshold) & valid
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
    trainer = trainer_of(ALL)
    batch = batch_of()
    expected = losses_by_hand(trainer, batch)

    trainer.step(0, [batch])
    metrics = trainer.meter.take()

    assert 0.05 < expected["selected"] < 0.95
    assert metrics["selected/share"] == pytest.approx(expected["selected"].item())
    for name in ("ce", "adv", "semi_adv", "semi", "d"):
        assert metrics[f"loss/{name}"] == pytest.approx(expected[name].item(), rel=1e-9)


def test_each_network_has_the_gradient_of_its_own_losses_alone():
    trainer = trainer_of(ALL)
    batch = batch_of()
    twin = trainer_of(ALL)
    assert twin.discriminator and trainer.discriminator
    losses = losses_by_hand(twin, batch)
    segmenter_loss = losses["ce"] + 0.3 * losses["adv"] + 0.2 * losses["semi_adv"] + 0.4 * losses["semi"]
    segmenter_loss.backward(inputs=list(twin.segmenter.parameters()), retain_graph=True)
    losses["d"].backward(inputs=list(twin.discriminator.parameters()))

    trainer.step(0, [batch])

    for ours, expected in (
        (trainer.segmenter, twin.segmenter),
        (trainer.discriminator, twin.discriminator),
    ):
        assert gradients(ours).keys() == dict(ours.named_parameters()).keys()
        torch.testing.assert_close(gradients(ours), gradients(expected), rtol=1e-9, atol=1e-12)


def test_the_norms_that_are_reported_are_those_of_the_gradients():
    trainer = trainer_of(ALL)

    trainer.step(0, [batch_of()])
    metrics = trainer.meter.take()

    assert trainer.discriminator
    for name, network in (("segmenter", trainer.segmenter), ("discriminator", trainer.discriminator)):
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients(network).values()))
        assert metrics[f"gradient_norm/{name}"] == pytest.approx(norm)


def test_what_the_segmenter_learns_changes_nothing_for_the_discriminator():
    """Both read the same logits of the discriminator; its gradients come from its own loss alone."""
    weak, strong = (trainer_of(replace(ALL, lambda_adv=w, lambda_semi_adv=w, lambda_semi=w)) for w in (0.1, 50.0))

    for trainer in (weak, strong):
        trainer.step(0, [batch_of()])

    assert weak.discriminator and strong.discriminator
    for name, gradient in gradients(weak.discriminator).items():
        assert torch.equal(gradient, gradients(strong.discriminator)[name])
    ours, theirs = gradients(weak.segmenter), gradients(strong.segmenter)
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_the_discriminator_learns_from_changes_nothing_for_the_segmenter():
    with_discriminator, without = (
        trainer_of(replace(ALL, discriminator_sees_unlabelled=sees)) for sees in (True, False)
    )

    for trainer in (with_discriminator, without):
        trainer.step(0, [batch_of()])

    assert with_discriminator.discriminator and without.discriminator
    ours, theirs = gradients(with_discriminator.discriminator), gradients(without.discriminator)
    assert not torch.equal(ours["classifier.weight"], theirs["classifier.weight"])
    for name, gradient in gradients(with_discriminator.segmenter).items():
        assert torch.equal(gradient, gradients(without.segmenter)[name])


def test_without_unlabelled_fakes_the_discriminator_learns_from_labelled_predictions_only():
    trainer = trainer_of(replace(ALL, discriminator_sees_unlabelled=False))
    batch = batch_of()
    expected = losses_by_hand(trainer, batch)
    assert abs(expected["d"] - expected["d without unlabelled"]) > 1e-3

    trainer.step(0, [batch])

    assert trainer.meter.take()["loss/d"] == pytest.approx(expected["d without unlabelled"].item(), rel=1e-9)


def test_with_every_lambda_at_zero_there_is_neither_discriminator_nor_unlabelled_image():
    trainer = trainer_of(replace(ALL, **SUPERVISED))
    batch = batch_of()

    trainer.step(0, [Batch(images=batch.images, labels=batch.labels)])

    assert set(trainer.meter.take()) == {"loss/ce", "gradient_norm/segmenter"}
    assert set(trainer.rates(0)) == {"segmenter"}
    assert set(trainer.state_dict()) == {"segmenter", "segmenter_optimizer"}


def test_with_every_lambda_at_zero_a_discriminator_is_not_accepted():
    trainer = trainer_of(ALL)

    with pytest.raises(AssertionError):
        AdversarialTrainer(
            replace(ALL, **SUPERVISED), trainer.segmenter, trainer.discriminator, ignore_index=IGNORE, world=World()
        )


def test_with_the_labelled_adversarial_loss_alone_no_unlabelled_image_is_needed():
    trainer = trainer_of(replace(ALL, lambda_semi_adv=0.0, lambda_semi=0.0))
    batch = batch_of()

    trainer.step(0, [Batch(images=batch.images, labels=batch.labels, real_labels=batch.real_labels)])

    assert {"loss/ce", "loss/adv", "loss/d"} == {n for n in trainer.meter.take() if n.startswith("loss/")}


def test_no_trusted_pixel_leaves_the_adversarial_gradient_of_the_unlabelled_images():
    unknown = replace(batch_of(), labels=torch.full((2, SIZE, SIZE), IGNORE))
    trainer = trainer_of(replace(ALL, lambda_adv=0.0, threshold=1.0))
    adversarial = trainer_of(replace(ALL, lambda_adv=0.0, lambda_semi=0.0))

    trainer.step(0, [unknown])
    adversarial.step(0, [unknown])

    metrics = trainer.meter.take()
    assert (metrics["selected/share"], metrics["loss/semi"]) == (0, 0)
    assert "selected/accuracy" not in metrics
    assert metrics["gradient_norm/segmenter"] > 0
    for name, gradient in gradients(trainer.segmenter).items():
        assert torch.equal(gradient, gradients(adversarial.segmenter)[name])


def test_the_self_taught_loss_starts_at_its_step():
    trainer = trainer_of(replace(ALL, semi_start=2))

    found = []
    for step in range(4):
        trainer.step(step, [batch_of(step)])
        found.append("loss/semi" in trainer.meter.take())

    assert found == [False, False, True, True]


def test_the_accuracy_of_trusted_pixels_is_measured_where_the_truth_is_known():
    trainer = trainer_of(replace(ALL, threshold=0.0))
    batch = batch_of()
    assert batch.unlabelled is not None
    predicted = trainer.segmenter(batch.unlabelled).argmax(1)
    truth = predicted.clone()
    truth[0] = IGNORE
    truth[1, : SIZE // 4] = (predicted[1, : SIZE // 4] + 1) % CLASSES

    trainer.step(
        0, [replace(batch, unlabelled_labels=truth, unlabelled_valid=torch.ones(2, SIZE, SIZE, dtype=torch.bool))]
    )

    metrics = trainer.meter.take()
    assert metrics["selected/share"] == 1
    assert metrics["selected/accuracy"] == 0.75


def test_everything_ignored_changes_nothing_but_stays_finite():
    trainer = trainer_of(replace(ALL, segmenter_optimizer=SGDSettings(weight_decay=0.0)))
    before = weights(trainer.segmenter)
    nothing = torch.full((2, SIZE, SIZE), IGNORE)

    for step in range(2):
        emptied = replace(
            batch_of(), labels=nothing, real_labels=nothing, unlabelled_valid=torch.zeros_like(nothing).bool()
        )
        trainer.step(step, [emptied])

    metrics = trainer.meter.take()
    assert {v for n, v in metrics.items() if n.startswith(("loss/", "gradient_norm/"))} == {0.0}
    assert all(torch.equal(before[name], value) for name, value in weights(trainer.segmenter).items())
    assert trainer.discriminator
    assert all(value.isfinite().all() for value in weights(trainer.discriminator).values())


@pytest.mark.parametrize(("broken", "term"), [("images", "loss/ce"), ("unlabelled", "loss/semi_adv")])
def test_a_loss_that_is_not_finite_is_raised_with_the_term_and_step_that_broke_first(broken, term):
    trainer = trainer_of(ALL)
    images = getattr(batch_of(), broken).clone()
    images[0, 0, 0, 0] = math.nan

    trainer.step(5, [batch_of()])
    trainer.step(6, [replace(batch_of(), **{broken: images})])
    trainer.step(7, [batch_of()])

    with pytest.raises(NonFiniteLossError, match=f"{term} became NaN or infinite at step 6"):
        trainer.meter.take()


def test_both_rates_follow_the_poly_schedule_and_body_and_head_have_factors_of_their_own():
    trainer = trainer_of(ALL)

    trainer.step(5, [batch_of()])

    factor = 0.5**0.9
    assert trainer.rates(5) == pytest.approx({"segmenter": 2.5e-4 * factor, "discriminator": 1e-4 * factor})
    body, head = trainer.segmenter_optimizer.param_groups
    assert (body["lr"], head["lr"]) == pytest.approx((7.5e-4 * factor, 5e-4 * factor))
    assert {id(p) for p in head["params"]} == {id(p) for p in trainer.segmenter.head()}
    assert len(body["params"]) + len(head["params"]) == len(list(trainer.segmenter.parameters()))


def test_a_trainer_that_takes_up_a_checkpoint_goes_on_as_the_one_that_gave_it(tmp_path):
    first, second = trainer_of(ALL), trainer_of(ALL)
    for step in range(3):
        first.step(step, [batch_of(step)])
    second.load_state_dict(load_checkpoint(save_checkpoint(tmp_path, 3, first.state_dict())))
    first.meter.take()

    for trainer in (first, second):
        trainer.step(3, [batch_of(3)])

    assert first.meter.take() == second.meter.take()
    for name, value in weights(first.segmenter).items():
        assert torch.equal(value, weights(second.segmenter)[name])


def test_a_step_never_waits_for_the_device():
    """On the meta device there are no values, so asking for one raises."""
    trainer = trainer_of(ALL)
    assert trainer.discriminator
    with torch.device("meta"):
        segmenter, discriminator = Compact(CLASSES, 8), Discriminator(CLASSES, (4, 8), "dense")
    speed = SpeedSettings(fused_optimizers=False)  # which know no meta device
    on_meta = AdversarialTrainer(ALL, segmenter, discriminator, ignore_index=IGNORE, world=World(), speed=speed)
    batch = Batch(
        **{n: t.float().to("meta") if t.is_floating_point() else t.to("meta") for n, t in vars(batch_of()).items()}
    )

    on_meta.step(0, [batch])

    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        on_meta.meter.take()


def test_an_accumulated_batch_has_the_mean_of_its_parts_means():
    """The parts have different numbers of known, valid and trusted pixels, so a mean over all pixels would differ."""
    parts = [batch_of(1), replace(batch_of(2), labels=batch_of(3).labels.masked_fill(torch.eye(SIZE).bool(), IGNORE))]
    sparse = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < 0.3
    parts[1] = replace(parts[1], unlabelled_valid=sparse)
    trainer, twin = trainer_of(ALL), trainer_of(ALL)
    assert twin.discriminator and trainer.discriminator
    losses = [losses_by_hand(twin, part) for part in parts]
    mean_of = {name: (losses[0][name] + losses[1][name]) / 2 for name in losses[0]}
    segmenter_loss = mean_of["ce"] + 0.3 * mean_of["adv"] + 0.2 * mean_of["semi_adv"] + 0.4 * mean_of["semi"]
    segmenter_loss.backward(inputs=list(twin.segmenter.parameters()), retain_graph=True)
    mean_of["d"].backward(inputs=list(twin.discriminator.parameters()))

    trainer.step(0, parts)

    metrics = trainer.meter.take()
    for name in ("ce", "adv", "semi_adv", "semi", "d"):
        assert metrics[f"loss/{name}"] == pytest.approx(mean_of[name].item(), rel=1e-9)
    torch.testing.assert_close(gradients(trainer.segmenter), gradients(twin.segmenter), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(trainer.discriminator), gradients(twin.discriminator), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("sees", "unlabelled_from"), [(True, 0), (False, 2)])
def test_unlabelled_images_are_needed_from_the_first_step_that_learns_from_them(sees, unlabelled_from):
    settings = replace(ALL, discriminator_sees_unlabelled=sees, semi_start=3, semi_adv_start=2)
    trainer = trainer_of(settings)

    looked = []
    for step in range(4):
        trainer.step(step, [batch_of(step)])
        looked.append("loss/semi_adv" in trainer.meter.take())

    assert looked == [settings.uses_unlabelled_at(step) for step in range(4)]
    assert looked == [step >= unlabelled_from for step in range(4)]


def test_the_adversarial_loss_on_unlabelled_images_starts_at_its_step():
    later = trainer_of(replace(ALL, semi_adv_start=1, semi_start=5))
    never = trainer_of(replace(ALL, semi_adv_start=5, semi_start=5))

    for step in range(2):
        for trainer in (later, never):
            trainer.step(step, [batch_of(step)])
        same = [torch.equal(g, gradients(never.segmenter)[name]) for name, g in gradients(later.segmenter).items()]
        assert all(same) == (step == 0)


@pytest.mark.parametrize("limit", [1e-3, 1e6])
def test_a_gradient_longer_than_allowed_is_scaled_down_and_a_shorter_one_left(limit):
    free, limited = trainer_of(ALL), trainer_of(replace(ALL, max_gradient_norm=limit))

    for trainer in (free, limited):
        trainer.step(0, [batch_of()])

    assert limited.discriminator and free.discriminator
    for ours, theirs in ((limited.segmenter, free.segmenter), (limited.discriminator, free.discriminator)):
        norm = torch.nn.utils.get_total_norm(gradients(theirs).values()).item()
        expected = {name: gradient * min(1, limit / norm) for name, gradient in gradients(theirs).items()}
        torch.testing.assert_close(gradients(ours), expected, rtol=1e-4, atol=0)
    reported = limited.meter.take()["gradient_norm/segmenter"]
    assert reported == pytest.approx(free.meter.take()["gradient_norm/segmenter"])


def test_where_no_prediction_counts_the_discriminator_learns_from_ground_truth_alone():
    trainer, twin = trainer_of(ALL), trainer_of(ALL).discriminator
    batch = batch_of()
    assert trainer.discriminator and twin and batch.real_labels is not None
    truth = torch.stack([(batch.real_labels == k).double() for k in range(CLASSES)], 1)
    expected = mean(-twin(truth)[:, 0].sigmoid().log(), batch.real_labels != IGNORE) / 2
    expected.backward()

    nothing = torch.full((2, SIZE, SIZE), IGNORE)
    trainer.step(0, [replace(batch, labels=nothing, unlabelled_valid=torch.zeros_like(nothing).bool())])

    assert trainer.meter.take()["loss/d"] == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(gradients(trainer.discriminator), gradients(twin), rtol=1e-9, atol=1e-12)


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
    trainer = trainer_of(ALL)
    expected = losses_by_hand(trainer, batch)

    trainer.step(0, [batch])

    metrics = trainer.meter.take()
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
        trainer = trainer_of(ALL, ignore_index=ignored)
        trainer.step(0, [replace(batch, labels=relabelled(batch.labels), real_labels=relabelled(batch.real_labels))])
        return trainer.meter.take()

    metrics, expected = step(ignore_index), step(IGNORE)

    # Only the accuracy of selected pixels knows the unlabelled truth, which stays as it was.
    metrics.pop("selected/accuracy"), expected.pop("selected/accuracy")
    assert metrics == expected
