"""ADE20K and COCO: images and masks in a folder for each split."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.published_classes import ADE20K_CLASSES

SPLITS = {"ade20k": ("training", "validation"), "coco": ("train2017", "val2017")}
MASKS = {"ade20k": "annotations", "coco": "stuffthingmaps"}


@pytest.fixture(params=["ade20k", "coco"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def write(root: Path, layout: str, masks: str | None = None, values: tuple[int, ...] = (0, 1, 2, 255)) -> None:
    """Two images a split; their masks hold the values."""
    for place, split in enumerate(SPLITS[layout]):
        for number in range(2):
            name = f"{split}/{place}{number}"
            pixels = np.resize(np.array(values, np.uint8), (4, 6))
            for path in (root / "images" / f"{name}.jpg", root / (masks or MASKS[layout]) / f"{name}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
                shade = np.full((4, 6, 3), 40 * (2 * place + number), np.uint8)
                Image.fromarray(shade if path.suffix == ".jpg" else pixels).save(path)
        (root / "images" / split / "._hidden.jpg").touch()


def opened(root: Path, layout: str, **changes) -> Dataset:
    train, val = SPLITS[layout]
    parts = {"labelled": train, "unlabelled": None, "validation": val}
    return open_dataset(DatasetSettings(**{"layout": layout, "root": root, **parts, **changes}))


def test_of_ade20k_zero_counts_nowhere_and_one_is_the_first_of_150_classes(tmp_path):
    write(tmp_path, "ade20k", values=(0, 1, 150, 255))

    dataset = opened(tmp_path, "ade20k")

    assert (dataset.classes, len(dataset.palette)) == (ADE20K_CLASSES, 150)
    assert [sample.id for sample in dataset.labelled] == ["training/00", "training/01"]
    assert [sample.id for sample in dataset.validation] == ["validation/10", "validation/11"]
    assert dataset.labelled[0].read_mask()[0].tolist() == [255, 0, 149, 255, 255, 0]


def test_of_ade20k_other_classes_begin_at_one_too_unless_their_values_are_named(tmp_path):
    write(tmp_path, "ade20k")

    assert opened(tmp_path, "ade20k", classes=("a", "b")).labelled[0].read_mask()[0].tolist()[:4] == [255, 0, 1, 255]
    (tmp_path / "classes.yaml").write_text("[{name: a, value: [0, 1]}, {name: b, value: 2}]")
    assert opened(tmp_path, "ade20k").labelled[0].read_mask()[0].tolist()[:4] == [0, 0, 1, 255]


@pytest.mark.parametrize("masks", ["stuffthingmaps", "annotations"])
def test_of_coco_values_are_named_in_classes_yaml(tmp_path, masks):
    write(tmp_path, "coco", masks, values=(0, 90, 181, 255))
    (tmp_path / "classes.yaml").write_text("[{name: a, value: [0, 181]}, {name: b, value: 90}]")

    dataset = opened(tmp_path, "coco")

    assert dataset.classes == ("a", "b")
    assert dataset.labelled[1].read_mask()[0].tolist() == [0, 1, 0, 255, 0, 1]


def test_lists_name_ids_or_paths_and_leave_images_unlabelled(tmp_path, layout):
    write(tmp_path, layout)
    train, _ = SPLITS[layout]
    (tmp_path / "few.txt").write_text(f"{train}/00.jpg {MASKS[layout]}/{train}/00.png\n")
    (tmp_path / MASKS[layout] / train / "01.png").unlink()
    (tmp_path / "rest.txt").write_text(f"{train}/01\n")

    dataset = opened(tmp_path, layout, labelled="few", unlabelled="rest", classes=("a", "b", "c"))

    assert [(sample.id, sample.has_mask) for sample in dataset.labelled] == [(f"{train}/00", True)]
    assert [(sample.id, sample.has_mask) for sample in dataset.unlabelled] == [(f"{train}/01", False)]


def test_what_is_missing_is_said_to_be_put_where(tmp_path, layout):
    train, _ = SPLITS[layout]
    with pytest.raises(DatasetError, match=r"has no folder images/: put images/<split>/<id>.jpg"):
        opened(tmp_path, layout, classes=("a", "b"))
    (tmp_path / "images" / train).mkdir(parents=True)
    with pytest.raises(DatasetError, match=f"has no folder {MASKS[layout]}/"):
        opened(tmp_path, layout, classes=("a", "b"))
    write(tmp_path, layout)
    (tmp_path / MASKS[layout] / train / "00.png").unlink()
    with pytest.raises(DatasetError, match=f"{train}/00 has no mask: add .*/{MASKS[layout]}/{train}/00.png or list"):
        opened(tmp_path, layout, classes=("a", "b", "c"))
    with pytest.raises(DatasetError, match=r"list .*/elsewhere.txt does not exist"):
        opened(tmp_path, layout, classes=("a", "b", "c"), validation="elsewhere")
    for image in (tmp_path / "images" / train).iterdir():
        image.unlink()
    with pytest.raises(DatasetError, match=f"images/{train} holds no images"):
        opened(tmp_path, layout, classes=("a", "b", "c"))


def test_coco_without_names_of_classes_is_told_of(tmp_path):
    write(tmp_path, "coco")

    with pytest.raises(DatasetError, match=r"classes.yaml does not exist: write a list"):
        opened(tmp_path, "coco")
