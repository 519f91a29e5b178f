import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.losses import (
    adversarial_loss_sum,
    confident_pixels,
    cross_entropy_sum,
    one_hot,
    pseudo_label_loss_sum,
)

IGNORE = 255


@st.composite
def scenes(draw):
    """Logits [N, K, H, W], labels with ignored pixels [N, H, W], discriminator logits, mask."""
    n, k, h, w = (draw(st.integers(1, top)) for top in (3, 5, 4, 4))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    labels = torch.randint(0, k, (n, h, w), generator=rng)
    labels[torch.rand(n, h, w, generator=rng) < 0.3] = IGNORE
    return (
        5 * torch.randn(n, k, h, w, generator=rng, dtype=torch.float64),
        labels,
        5 * torch.randn(n, 1, h, w, generator=rng, dtype=torch.float64),
        torch.rand(n, h, w, generator=rng) < 0.6,
    )


def pixels_of(maps: torch.Tensor):
    return [(n, y, x) for n in range(maps.shape[0]) for y in range(maps.shape[-2]) for x in range(maps.shape[-1])]


def negative_log_probability(logits: list[float], label: int) -> float:
    return math.log(sum(math.exp(value) for value in logits)) - logits[label]


@settings(deadline=None, max_examples=50)
@given(scenes())
def test_cross_entropy_sums_over_the_pixels_that_are_not_ignored(scene):
    logits, labels, _, _ = scene

    expected = sum(
        negative_log_probability(logits[n, :, y, x].tolist(), int(labels[n, y, x]))
        for n, y, x in pixels_of(labels)
        if labels[n, y, x] != IGNORE
    )

    assert cross_entropy_sum(logits, labels, IGNORE).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(scenes(), st.booleans())
def test_the_adversarial_loss_is_binary_cross_entropy_over_the_mask(scene, real):
    _, _, d_logits, mask = scene

    def loss(logit: float) -> float:
        probability = 1 / (1 + math.exp(-logit))
        return -math.log(probability if real else 1 - probability)

    expected = sum(loss(d_logits[n, 0, y, x].item()) for n, y, x in pixels_of(mask) if mask[n, y, x])

    assert adversarial_loss_sum(d_logits, real, mask).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(scenes())
def test_the_pseudo_label_loss_is_cross_entropy_against_the_argmax(scene):
    logits, _, _, mask = scene

    expected = 0.0
    for n, y, x in pixels_of(mask):
        values = logits[n, :, y, x].tolist()
        expected += negative_log_probability(values, values.index(max(values))) if mask[n, y, x] else 0

    assert pseudo_label_loss_sum(logits, logits.argmax(1), mask).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(scenes(), st.floats(0, 1))
def test_trusted_pixels_are_valid_and_reach_the_threshold(scene, threshold):
    _, _, d_logits, valid = scene

    selected = confident_pixels(d_logits, threshold, valid)

    for n, y, x in pixels_of(valid):
        confidence = d_logits[n, 0, y, x].sigmoid().item()
        assert selected[n, y, x].item() == (bool(valid[n, y, x]) and confidence >= threshold)


def test_a_pixel_exactly_at_the_threshold_is_trusted():
    assert confident_pixels(torch.zeros(1, 1, 1, 1), 0.5, torch.ones(1, 1, 1, dtype=torch.bool)).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda logits: cross_entropy_sum(logits, torch.full((2, 3, 3), IGNORE), IGNORE),
        lambda logits: adversarial_loss_sum(logits[:, :1], True, torch.zeros(2, 3, 3, dtype=torch.bool)),
        lambda logits: adversarial_loss_sum(logits[:, :1], False, torch.zeros(2, 3, 3, dtype=torch.bool)),
        lambda logits: pseudo_label_loss_sum(logits, logits.argmax(1), torch.zeros(2, 3, 3, dtype=torch.bool)),
    ],
    ids=["cross-entropy", "look real", "look fake", "pseudo-label"],
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_without_a_pixel_that_counts_a_loss_and_its_gradient_are_zero(loss, scale):
    logits = (scale * torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()

    value = loss(logits)
    value.backward()

    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("real", [True, False])
def test_the_adversarial_loss_stays_finite_however_sure_the_discriminator_is(real):
    d_logits = torch.tensor([-1e4, 1e4]).view(1, 1, 1, 2).requires_grad_()

    value = adversarial_loss_sum(d_logits, real, torch.ones(1, 1, 2, dtype=torch.bool))
    value.backward()

    assert value.item() == 1e4
    assert d_logits.grad.isfinite().all()


@settings(deadline=None, max_examples=50)
@given(scenes())
def test_one_hot_is_one_at_the_label_and_nowhere_where_ignored(scene):
    logits, labels, _, _ = scene
    classes = logits.shape[1]

    encoded = one_hot(labels, classes, IGNORE, torch.float64)

    assert encoded.shape == logits.shape
    assert encoded.dtype == torch.float64
    for n, y, x in pixels_of(labels):
        assert encoded[n, :, y, x].tolist() == [float(k == labels[n, y, x]) for k in range(classes)]


def test_the_ignore_index_may_be_the_id_of_a_class():
    encoded = one_hot(torch.tensor([[[0, 1]]]), 2, 0, torch.float32)

    assert encoded[0, :, 0].tolist() == [[0, 0], [0, 1]]
