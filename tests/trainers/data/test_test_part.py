"""The images that nothing is chosen by."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.opening import inspect_dataset, open_dataset
from advseg.trainers.data.packing import write_pack

LISTS = {"labelled": "ab", "unlabelled": "c", "val": "d", "test": "ef"}


@pytest.fixture
def settings(tmp_path: Path) -> DatasetSettings:
    """Six images of noise, two of them for the test."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, ids in LISTS.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids))
        for id in ids:
            Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(root / "JPEGImages" / f"{id}.jpg")
            mask = rng.integers(0, 2, (4, 6)).astype(np.uint8)
            write_mask(root / "SegmentationClass" / f"{id}.png", mask, voc_palette())
    return DatasetSettings(root=root, classes=("sky", "sea"), test="test")


def without(settings: DatasetSettings) -> DatasetSettings:
    return DatasetSettings(root=settings.root, classes=settings.classes)


def ids(dataset: Dataset) -> dict[str, list[str]]:
    return {part: [sample.id for sample in samples] for part, samples in dataset.parts.items()}


def test_has_a_part_of_its_own(settings: DatasetSettings) -> None:
    assert ids(open_dataset(settings)) == {"labelled": ["a", "b"], "unlabelled": ["c"], "validation": ["d"]} | {
        "test": ["e", "f"]
    }
    assert "test" not in ids(open_dataset(without(settings)))


def test_changes_nothing_that_a_training_depends_on(settings: DatasetSettings) -> None:
    ours, others = open_dataset(settings), open_dataset(without(settings))
    assert (ours.digest, ours.labelled, ours.validation) == (others.digest, others.labelled, others.validation)


def test_is_in_the_pack(settings: DatasetSettings, tmp_path: Path) -> None:
    plain = open_dataset(settings)
    card = write_pack(tmp_path / "pack", plain, settings)
    packed = open_dataset(DatasetSettings(**{**vars(settings), "pack": str(tmp_path / "pack")}))
    assert (ids(packed), packed.digest, card.digest) == (ids(plain), plain.digest, plain.digest)
    for ours, theirs in zip(packed.test, plain.test, strict=True):
        assert np.array_equal(ours.read_image(), theirs.read_image())
        assert np.array_equal(ours.read_mask(), theirs.read_mask())
    assert (
        inspect_dataset(DatasetSettings(**{**vars(settings), "pack": str(tmp_path / "pack")})).parts["test"].masks == 2
    )


def test_that_the_pack_has_not_is_asked_for(settings: DatasetSettings, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack", open_dataset(without(settings)), without(settings))
    assert ids(open_dataset(DatasetSettings(**{**vars(without(settings)), "pack": str(tmp_path / "pack")})))
    with pytest.raises(DatasetError, match=r"made with other settings: dataset\.test"):
        open_dataset(DatasetSettings(**{**vars(settings), "pack": str(tmp_path / "pack")}))


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("a", "a is in both labelled and test: each image has one part"),
        ("c", "c is in both unlabelled and test: each image has one part"),
        ("d", "d is in both validation and test: each image has one part"),
        ("", "is empty: it must name at least one image"),
        ("x", "x.jpg does not exist"),
    ],
)
def test_has_nothing_in_common_with_other_parts(settings: DatasetSettings, listed: str, told: str) -> None:
    (settings.root / "ImageSets" / "Segmentation" / "test.txt").write_text(listed)
    with pytest.raises(DatasetError) as raised:
        open_dataset(settings)
    assert told in str(raised.value)


@pytest.mark.parametrize("part", ["labelled", "unlabelled", "validation"])
def test_is_no_copy_of_what_was_chosen_by(settings: DatasetSettings, part: str) -> None:
    images = settings.root / "JPEGImages"
    twin = {"labelled": "a", "unlabelled": "c", "validation": "d"}[part]
    (images / "e.jpg").write_bytes((images / f"{twin}.jpg").read_bytes())
    with pytest.raises(DatasetError, match=rf"{twin}\.jpg \({part}\) and .*e\.jpg \(test\) are the same image"):
        open_dataset(settings)


def test_needs_masks(settings: DatasetSettings) -> None:
    (settings.root / "SegmentationClass" / "e.png").unlink()
    with pytest.raises(DatasetError, match="e"):
        open_dataset(settings)
