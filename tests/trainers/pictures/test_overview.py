from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.samples import FileSample
from advseg.trainers.pictures.overview import PER_PART, draw_overview

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (220, 220, 220)
TILE, STEP = 144, 148


@pytest.fixture
def sample(tmp_path: Path):
    """A blue image whose mask is class 1, or an image without a mask."""

    def make(id: str, size: tuple[int, int] = (20, 20), *, masked: bool = True) -> FileSample:
        image, mask = tmp_path / f"{len(list(tmp_path.iterdir()))}.png", tmp_path / f"mask {id[:20]}.png"
        Image.fromarray(np.full((*size, 3), BLUE, np.uint8)).save(image)
        if masked:
            values = np.ones(size, np.uint8)
            values[: size[0] // 2] = 255
            Image.fromarray(values).save(mask)
        return FileSample(id=id, image=image, mask=mask if masked else None)

    return make


@pytest.fixture
def dataset(sample) -> Dataset:
    return Dataset(
        labelled=(sample("a"),),
        unlabelled=(sample("b", masked=False),),
        validation=(sample("c"),),
        classes=("sky", "leaf"),
        palette=(RED, GREEN),
        ignore_index=255,
        digest="0",
    )


def draw(dataset: Dataset, resize: tuple[int, int] | None = None, **augmentation) -> np.ndarray:
    chosen = AugmentationSettings(**{"crop": (20, 20), "mirror": False, **augmentation})
    return np.asarray(draw_overview(dataset, chosen, seed=0, resize=resize))


def tile(picture: np.ndarray, row: int, column: int, height: int = TILE) -> np.ndarray:
    top = 18 + row * (height + 30 + 4)
    return picture[top : top + height, 4 + column * STEP :][:, :TILE]


def test_a_row_is_image_mask_mask_on_image_and_for_training_parts_a_crop(dataset):
    picture = draw(dataset)

    whole = tile(picture, 0, 0)
    upper, lower = np.s_[4:68, 4:140], np.s_[76:140, 4:140]
    assert (whole == BLUE).all()
    assert (tile(picture, 0, 1)[upper] == GREY).all()
    assert (tile(picture, 0, 1)[lower] == GREEN).all()
    assert (tile(picture, 0, 2)[upper] == BLUE).all()
    assert (tile(picture, 0, 2)[lower] == (0, 127, 127)).all()
    assert (tile(picture, 0, 3) == BLUE).all()
    assert (tile(picture, 0, 4)[lower] == GREEN).all()
    assert (tile(picture, 1, 3) == BLUE).all()
    assert (tile(picture, 2, 2)[lower] == (0, 127, 127)).all()
    assert (tile(picture, 2, 3) == 255).all()


def test_where_there_is_no_mask_it_says_so(dataset):
    blank = tile(draw(dataset), 1, 1)

    assert (blank == 255).mean() > 0.9
    assert (blank != 255).any()


def test_a_crop_is_scaled_and_augmented_as_the_settings_say(dataset):
    padded = tile(draw(dataset, crop=(40, 40)), 0, 3)
    resized = tile(draw(dataset, crop=(40, 40), resize=(40, 40)), 0, 3)

    assert (padded[4:68, 4:68] == BLUE).all()
    assert (padded[76:, 76:] == 0).all()
    assert (resized == BLUE).all()


def test_parts_of_many_samples_show_a_few_and_empty_parts_none(dataset, sample):
    many = replace(dataset, labelled=tuple(sample(f"{n}") for n in range(9)), unlabelled=())

    assert draw(many).shape[0] - draw(dataset).shape[0] == (PER_PART - 2) * (TILE + 34)


def test_images_of_any_shape_are_whole_and_undistorted(dataset, sample):
    picture = draw(replace(dataset, labelled=(sample("wide", (10, 40)), sample("tall", (40, 10)))))

    assert (tile(picture, 0, 0)[:36] == BLUE).all()
    assert (tile(picture, 0, 0)[40:] == 255).all()
    assert (tile(picture, 1, 0)[:, :36] == BLUE).all()
    assert (tile(picture, 1, 0)[:, 40:] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_least_and_the_longest_images_are_drawn(dataset, sample, size):
    assert draw(replace(dataset, labelled=(sample("a", size),), validation=(sample("c", size),))).size


def test_ids_of_any_length_and_script_are_drawn(dataset, sample):
    ids = ("long/" * 60, "叶子 é ß")

    assert draw(replace(dataset, labelled=tuple(sample(id.replace("/", "_")) for id in ids))).size


def test_the_legend_names_every_class(dataset):
    many = replace(
        dataset, classes=tuple(f"class {n}" for n in range(60)), palette=tuple((n, 9, 200) for n in range(60))
    )
    picture = draw(many)

    legend = {tuple(pixel) for pixel in picture[draw(dataset).shape[0] - 22 :].reshape(-1, 3).tolist()}
    assert set(many.palette) <= legend


def test_the_same_dataset_and_seed_are_drawn_alike(dataset):
    assert np.array_equal(draw(dataset, scale=(0.5, 1.5)), draw(dataset, scale=(0.5, 1.5)))
