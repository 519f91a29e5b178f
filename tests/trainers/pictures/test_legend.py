"""Which colour is which class, below a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from advseg.models.architectures import IMAGENET
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.evaluate import Evaluation
from advseg.trainers.pictures import report
from advseg.trainers.pictures.legend import with_legend
from advseg.trainers.pictures.panels import IGNORED
from advseg.trainers.pictures.report import PANELS, draw_report

PALETTE = [(0, 0, 0), (0, 200, 0), (0, 0, 200)]
CLASSES = ["sky", "sea", "land"]


def colours_below(picture: Image.Image, height: int) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(picture)[height:].reshape(-1, 3).tolist()))


def test_names_every_class_and_what_is_ignored() -> None:
    assert {*PALETTE, IGNORED} <= colours_below(with_legend(Image.new("RGB", (400, 40)), CLASSES, PALETTE), 40)


def test_names_the_classes_asked_for_alone() -> None:
    legend = colours_below(with_legend(Image.new("RGB", (400, 40)), CLASSES, PALETTE, [2]), 40)
    assert PALETTE[2] in legend
    assert {PALETTE[1], IGNORED}.isdisjoint(legend)


def test_a_picture_keeps_its_pixels() -> None:
    picture = Image.new("RGB", (400, 40), (1, 2, 3))
    assert with_legend(picture, CLASSES, PALETTE).crop((0, 0, 400, 40)) == picture


def test_the_panel_of_a_training_has_one(shapes: Dataset, program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "draw_validation", lambda *_, **__: Image.new("RGB", (400, 40), "white"))
    count = len(shapes.classes)
    evaluation = Evaluation(matrix=torch.eye(count, dtype=torch.int64), images=1, metrics={})
    settings = program.recipe_of().trainer
    drawn = draw_report(8, evaluation, shapes, None, IMAGENET, settings, torch.device("cpu"))
    assert {*shapes.palette, IGNORED} <= colours_below(drawn[f"{PANELS}/step-00000008.png"], 40)
