"""What a model makes of images, large ones included."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import Model, load, save
from advseg.models.card import Card
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator
from advseg.trainers import prediction
from advseg.trainers.inference import EvaluationSettings
from advseg.trainers.prediction import Predictor
from advseg.trainers.speed import SpeedSettings

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
SLIDING = EvaluationSettings(mode="sliding", window=(16, 24), stride=0.5)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    torch.manual_seed(0)
    settings, judge = CompactSettings(width=8), DiscriminatorSettings(widths=(4,))
    card = Card(
        segmenter=settings,
        discriminator=judge,
        classes=("sky", "sea", "land"),
        palette=((0, 0, 0), (0, 0, 255), (0, 255, 0)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    networks = build_segmenter(settings, 3).state_dict(), build_discriminator(judge, 3).state_dict()
    save(tmp_path / "model", card, *networks)
    return load(tmp_path / "model")


def predictor(model: Model, settings: EvaluationSettings) -> Predictor:
    return Predictor(model, settings, SpeedSettings())


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image counts as large."""
    monkeypatch.setattr(prediction, "MAX_WHOLE", 45 * 70 - 1)


def test_a_large_image_is_read_as_by_sliding_windows(model: Model, large: None) -> None:
    expected = predictor(model, SLIDING)._maps(IMAGE[None], False)[0]
    for mode in ("whole", "sliding"):
        found = predictor(model, replace(SLIDING, mode=mode))
        torch.testing.assert_close(found.probabilities(IMAGE), expected, rtol=1e-5, atol=1e-6)
        (made,) = found.predict(IMAGE[None])
        assert (made.mask == expected.argmax(0).numpy()).all()


def test_no_more_of_it_than_a_window_goes_through_the_network(model: Model, large: None) -> None:
    seen = []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    predictor(model, replace(SLIDING, mode="whole")).predict(IMAGE[None])
    assert set(seen) == {(1, 3, 16, 24)}


def test_an_image_that_all_are_brought_to_one_size_of_is_not_cut(model: Model, large: None) -> None:
    seen = []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    resized = replace(model, card=replace(model.card, resize=(24, 32)))
    predictor(resized, replace(SLIDING, mode="whole")).predict(IMAGE[None])
    assert seen == [(1, 3, 24, 32)]


@pytest.mark.parametrize("size", [(45, 70), (16, 24)], ids=["large", "one window"])
def test_masks_probabilities_and_confidence_are_of_the_images_size(
    model: Model, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(prediction, "MAX_WHOLE", 16 * 24)
    image = IMAGE[: size[0], : size[1]]
    (made,) = predictor(model, SLIDING).predict(image[None], probabilities=True, confidence=True)
    assert made.probabilities is not None
    assert made.confidence is not None
    assert made.mask.shape == made.confidence.shape == made.probabilities.shape[1:] == size
    assert (made.mask.dtype, made.probabilities.dtype, made.confidence.dtype) == (np.uint8, np.float16, np.float32)
    assert ((made.confidence > 0) & (made.confidence < 1)).all()


def test_of_a_small_image_confidence_is_that_of_the_model(model: Model) -> None:
    found = predictor(model, EvaluationSettings())
    (made,) = found.predict(IMAGE[None], confidence=True)
    np.testing.assert_allclose(made.confidence, model.confidence(found.probabilities(IMAGE)), rtol=1e-5)


def test_of_several_images_each_has_what_it_has_alone(model: Model) -> None:
    images = np.stack([IMAGE, IMAGE[::-1], 255 - IMAGE])
    found = predictor(model, SLIDING)
    together = found.predict(images, probabilities=True)
    for image, one in zip(images, together, strict=True):
        (alone,) = found.predict(image[None], probabilities=True)
        np.testing.assert_allclose(one.probabilities, alone.probabilities, atol=1e-3)
