from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from advseg.models.architectures import IMAGENET
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.resize import resize_image, resize_mask
from advseg.trainers.pictures.panels import IGNORED, colour, compose, heat
from advseg.trainers.pictures.validation import draw_validation
from advseg.trainers.speed import SpeedSettings

COLUMNS = ["image", "truth", "prediction", "confidence", "selected"]


class Brightness(nn.Module):
    """A segmenter that calls bright pixels class 2 and dark ones class 1."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0]
        return torch.stack([torch.full_like(red, -9), -red, red, *[torch.full_like(red, -9)] * 3], 1)


class Slope(nn.Module):
    """A discriminator whose logits grow from -2 at the left to 2 at the right."""

    smallest_side = 16

    def forward(self, probabilities: Tensor) -> Tensor:
        height, width = probabilities.shape[-2:]
        return torch.linspace(-2, 2, width).expand(len(probabilities), 1, height, width)


@pytest.fixture
def draw(shapes: Dataset) -> Callable[..., Image.Image]:
    """The panel of the shapes, with every column unless told otherwise."""

    def drawn(**options) -> Image.Image:
        usual = {"dataset": shapes, "segmenter": Brightness(), "discriminator": Slope(), "threshold": 0.3}
        return draw_validation(
            **{**usual, "resize": None, **options},
            normalisation=IMAGENET,
            device=torch.device("cpu"),
            dtype=torch.float32,
            speed=SpeedSettings(),
        )

    return drawn


def rows_of(dataset: Dataset, threshold: float, resize: tuple[int, int] | None = None) -> list[list[np.ndarray]]:
    """What the panel is to show, every column, worked out without torch."""
    rows = []
    for sample in dataset.validation[:4]:
        image, truth = sample.read_image(), sample.read_mask()
        assert truth is not None
        if resize:
            image, truth = resize_image(image, resize), resize_mask(truth, resize)
        predicted = np.where(image[..., 0] > IMAGENET.mean[0], 2, 1)
        confidence = np.broadcast_to(1 / (1 + np.exp(-np.linspace(-2, 2, truth.shape[1]))), truth.shape)
        painted = [colour(ids, dataset.palette, dataset.ignore_index) for ids in (truth, predicted)]
        selected = np.where((confidence >= threshold)[..., None], painted[1], np.array(IGNORED, np.uint8))
        rows.append([image, *painted, heat(confidence), selected])
    return rows


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_selected_pixels_keep_their_predicted_colours_and_all_others_are_grey(shapes, draw, threshold):
    assert draw(threshold=threshold) == compose(COLUMNS, rows_of(shapes, threshold))


def test_a_pixel_exactly_at_the_threshold_is_selected(shapes, draw):
    class Undecided(Slope):
        def forward(self, probabilities: Tensor) -> Tensor:
            return torch.zeros_like(probabilities[:, :1])

    rows = [[*row[:3], heat(np.full(row[0].shape[:2], 0.5)), row[2]] for row in rows_of(shapes, 0)]
    assert draw(discriminator=Undecided(), threshold=0.5) == compose(COLUMNS, rows)


def test_without_a_threshold_nothing_is_said_of_selection(shapes, draw):
    assert draw(threshold=None) == compose(COLUMNS[:4], [row[:4] for row in rows_of(shapes, 0)])


@pytest.mark.parametrize("side", [None, 33], ids=["without a discriminator", "that is too large for the images"])
def test_without_confidence_there_is_neither_its_column_nor_that_of_selection(shapes, draw, side):
    discriminator = None
    if side:
        discriminator = Slope()
        discriminator.smallest_side = side

    assert draw(discriminator=discriminator) == compose(COLUMNS[:3], [row[:3] for row in rows_of(shapes, 0)])


def test_all_is_shown_at_the_size_at_which_the_network_reads(shapes, draw):
    assert draw(resize=(24, 48)) == compose(COLUMNS, rows_of(shapes, 0.3, resize=(24, 48)))


def test_the_images_are_always_the_first_of_the_validation_list(shapes, draw):
    assert len(shapes.validation) == 5
    first, other = shapes.validation[:4], shapes.validation[1:]

    assert draw() == draw() == draw(dataset=replace(shapes, validation=first))
    assert draw() != draw(dataset=replace(shapes, validation=other))


def test_drawing_leaves_a_segmenter_in_training(draw):
    segmenter = Brightness()

    draw(segmenter=segmenter)

    assert segmenter.training
