"""Images on end among lying ones, each read in its own proportions."""

import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from advseg.models import load
from advseg.models.resize import LongerSide
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.resize import resize_mask
from advseg.trainers.errors import ForeignCheckpointError
from advseg.trainers.loop import Training
from advseg.trainers.metrics import confusion, metrics_of
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import Reporters

LYING, ON_END = (36, 60), (60, 36)
READ = LongerSide(longer=40, multiple=8)
READ_AS = {LYING: (24, 40), ON_END: (40, 24)}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A bright disc on noise in each image; each part has a lying image and one on end."""
    root = tmp_path_factory.mktemp("mixed")
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    draws = np.random.default_rng(0)
    for number in range(6):
        height, width = size = (LYING, ON_END)[number % 2]
        rows, columns = np.mgrid[:height, :width]
        disc = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 <= 12**2
        image = np.where(disc[..., None], 200, draws.integers(0, 120, (*size, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / f"JPEGImages/{number}.jpg", format="PNG")
        write_mask(root / f"SegmentationClass/{number}.png", disc.astype(np.uint8), voc_palette())
    for place, part in enumerate(("labelled", "unlabelled", "val")):
        (root / f"ImageSets/Segmentation/{part}.txt").write_text(f"{2 * place}\n{2 * place + 1}\n")
    return open_dataset(DatasetSettings(root=root, classes=("field", "disc")))


@pytest.fixture
def recipe(program: ModuleType) -> Recipe:
    crop = AugmentationSettings(crop=(40, 40), mirror=False)
    return program.recipe_of(steps=4, evaluate_every=4, resize=READ, augmentation=crop, collapse_patience=None)


def test_one_batch_shows_both_with_discs_that_are_round(recipe: Recipe, mixed: Dataset, tmp_path: Path) -> None:
    (batch,) = Training(recipe, mixed, tmp_path / "run").batch(0)

    assert batch.images.shape == (2, 3, 40, 40)
    masks = [resize_mask(sample.read_mask(), READ_AS[sample.read_size()]) for sample in mixed.labelled]
    shown = [labels[labels != mixed.ignore_index] for labels in batch.labels]
    assert {len(labels) for labels in shown} == {24 * 40}
    assert sorted(int(labels.sum()) for labels in shown) == sorted(int(mask.sum()) for mask in masks)
    for labels in batch.labels:
        rows, columns = torch.where(labels == 1)
        assert len(rows.unique()) == len(columns.unique())


def test_the_exported_model_predicts_what_the_training_was_judged_by(
    recipe: Recipe, mixed: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "advseg")
    training = Training(recipe, mixed, tmp_path / "run", device=torch.device("cpu"))
    training.run(Reporters())
    training.export(tmp_path / "model", {})

    model, seen = load(tmp_path / "model"), []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    matrix = torch.zeros(2, 2, dtype=torch.int64)
    for sample in mixed.validation:
        predicted, truth = model.predict(sample.read_image()), sample.read_mask()
        assert truth is not None
        assert predicted.shape == truth.shape
        matrix += confusion(torch.from_numpy(predicted).long()[None], torch.from_numpy(truth)[None], 2, 255)

    assert seen == [READ_AS[LYING], READ_AS[ON_END]]
    figures = {name: value for name, value in model.card.metrics.items() if name.startswith("val/")}
    assert metrics_of(matrix, mixed.classes, mixed.ignore_index) == figures
    assert model.card.resize == READ
    assert any(" images of 40 pixels on the longer side, in crops of 40 x 40" in line for line in caplog.messages)


def test_a_training_goes_on_at_its_own_size_alone(
    recipe: Recipe, program: ModuleType, mixed: Dataset, tmp_path: Path
) -> None:
    Training(recipe, mixed, tmp_path / "run").run(Reporters())
    again = Training(recipe, mixed, tmp_path / "run")
    again.saved.resume()
    assert again.step == 4

    other = program.recipe_of(steps=4, evaluate_every=4, resize=LongerSide(longer=48), collapse_patience=None)
    with pytest.raises(ForeignCheckpointError, match=r"trainer\.resize\.longer is 48, but the checkpoint has 40"):
        Training(other, mixed, tmp_path / "run").saved.resume()
