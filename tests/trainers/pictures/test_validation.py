from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from advseg.models.architectures import IMAGENET
from advseg.models.resize import LongerSide
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.resize import resize_image, resize_mask
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.pictures.panels import IGNORED, colour, compose, heat
from advseg.trainers.pictures.validation import draw_validation
from advseg.trainers.speed import SpeedSettings

COLUMNS = ["image", "truth", "prediction", "confidence", "selected"]


class Brightness(nn.Module):
    """A segmenter that calls bright pixels class 2 and dark ones class 1."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0]
        return torch.stack([torch.full_like(red, -9), -red, red, *[torch.full_like(red, -9)] * 3], 1)


class Sloped:
    """A method whose confidence rises from left to right, in images large enough for it."""

    def __init__(self, threshold: float | None = 0.3, least_side: int = 16) -> None:
        self.segmenter = Brightness()
        self._threshold, self._least_side = threshold, least_side

    def maps(self, probabilities: Tensor) -> dict[str, Tensor]:
        count, _, height, width = probabilities.shape
        if min(height, width) < self._least_side:
            return {}
        confidence = torch.linspace(-2, 2, width).sigmoid().expand(count, height, width)
        found = {"confidence": confidence}
        return found if self._threshold is None else {**found, "selected": confidence >= self._threshold}


@pytest.fixture
def draw(shapes: Dataset) -> Callable[..., Image.Image]:
    """The panel of the shapes, with every column unless told otherwise."""

    def drawn(**options) -> Image.Image:
        usual = {"dataset": shapes, "method": Sloped(), "resize": None}
        return draw_validation(
            **{**usual, **options},
            normalisation=IMAGENET,
            device=torch.device("cpu"),
            dtype=torch.float32,
            speed=SpeedSettings(),
        )

    return drawn


def rows_of(dataset: Dataset, threshold: float, size: tuple[int, int] | None = None) -> list[list[np.ndarray]]:
    """What the panel is to show, every column, worked out without torch."""
    rows = []
    for sample in dataset.validation[:4]:
        image, truth = sample.read_image(), sample.read_mask()
        assert truth is not None
        if size:
            image, truth = resize_image(image, size), resize_mask(truth, size)
        predicted = np.where(image[..., 0] > IMAGENET.mean[0], 2, 1)
        confidence = np.broadcast_to(1 / (1 + np.exp(-np.linspace(-2, 2, truth.shape[1]))), truth.shape)
        painted = [colour(ids, dataset.palette, dataset.ignore_index) for ids in (truth, predicted)]
        selected = np.where((confidence >= threshold)[..., None], painted[1], np.array(IGNORED, np.uint8))
        rows.append([image, *painted, heat(confidence), selected])
    return rows


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_chosen_pixels_keep_their_predicted_colours_and_all_others_are_grey(shapes, draw, threshold):
    assert draw(method=Sloped(threshold)) == compose(COLUMNS, rows_of(shapes, threshold))


def test_a_method_that_chooses_nothing_has_no_column_for_it(shapes, draw):
    assert draw(method=Sloped(None)) == compose(COLUMNS[:4], [row[:4] for row in rows_of(shapes, 0)])


def test_a_method_without_maps_has_the_prediction_alone(shapes, draw):
    assert draw(method=Sloped(least_side=33)) == compose(COLUMNS[:3], [row[:3] for row in rows_of(shapes, 0)])


def test_a_map_of_some_of_the_images_only_is_not_shown(tmp_path, program, shapes, draw):
    write_shapes(tmp_path, ShapesSettings(labelled=2, unlabelled=1, val=1, test=1, size=64))
    larger = program.open_shapes(tmp_path).validation
    mixed = replace(shapes, validation=(*shapes.validation[:1], *larger))

    rows = [row[:3] for row in rows_of(mixed, 0)]
    assert draw(dataset=mixed, method=Sloped(least_side=33)) == compose(COLUMNS[:3], rows)


@pytest.mark.parametrize(("resize", "size"), [((24, 48), (24, 48)), (LongerSide(longer=48), (48, 48))])
def test_all_is_shown_at_the_size_at_which_the_network_reads(shapes, draw, resize, size):
    assert draw(resize=resize) == compose(COLUMNS, rows_of(shapes, 0.3, size))


def test_the_images_are_always_the_first_of_the_validation_list(shapes, draw):
    assert len(shapes.validation) == 5
    first, other = shapes.validation[:4], shapes.validation[1:]

    assert draw() == draw() == draw(dataset=replace(shapes, validation=first))
    assert draw() != draw(dataset=replace(shapes, validation=other))


def test_drawing_leaves_a_segmenter_in_training(draw):
    method = Sloped()

    draw(method=method)

    assert method.segmenter.training
