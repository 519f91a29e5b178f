import socket
from pathlib import Path

import numpy as np
import pytest

from advseg.trainers.data import shapes
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.data.images import IGNORE_INDEX
from advseg.trainers.data.masks import read_mask
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, scene, write_shapes
from advseg.trainers.errors import UserError

FEW = ShapesSettings(labelled=2, unlabelled=3, val=2, test=1, size=16)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_equal_settings_write_equal_bytes(tmp_path):
    assert write_shapes(tmp_path / "one", FEW)
    assert write_shapes(tmp_path / "two", FEW)

    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert len(files_of(tmp_path / "one")) == 2 * 8 + 4 + 1


def test_another_seed_draws_other_scenes():
    assert not np.array_equal(scene(0, 0, 16)[0], scene(1, 0, 16)[0])
    assert not np.array_equal(scene(0, 0, 16)[0], scene(0, 1, 16)[0])


def test_the_lists_share_no_image_and_open_as_a_dataset(tmp_path):
    write_shapes(tmp_path / "shapes", FEW)

    dataset = open_dataset(DatasetSettings(root=tmp_path / "shapes", classes=CLASSES, ignore_index=IGNORE_INDEX))

    parts = (dataset.labelled, dataset.unlabelled, dataset.validation)
    assert [len(part) for part in parts] == [2, 3, 2]
    assert all(sample.mask for part in parts for sample in part)


def test_writing_again_changes_nothing(tmp_path):
    root = tmp_path / "shapes"
    write_shapes(root, FEW)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    assert not write_shapes(root, FEW)

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_empty_folder_is_filled(tmp_path):
    assert write_shapes(tmp_path, FEW)
    assert (tmp_path / "shapes.txt").is_file()


@pytest.mark.parametrize("content", ["foreign.txt", "shapes.txt"])
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, content):
    root = tmp_path / "shapes"
    root.mkdir()
    (root / content).write_text("mine")

    with pytest.raises(UserError, match="holds something else"):
        write_shapes(root, FEW)

    assert files_of(root) == {content: b"mine"}


def test_shapes_of_other_settings_are_refused(tmp_path):
    write_shapes(tmp_path / "shapes", FEW)

    with pytest.raises(UserError, match="holds something else"):
        write_shapes(tmp_path / "shapes", ShapesSettings(labelled=3, unlabelled=3, val=2, test=1, size=16))


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "shapes").write_text("mine")

    with pytest.raises(UserError, match="is a file"):
        write_shapes(tmp_path / "shapes", FEW)


@pytest.mark.parametrize("root", ["shapes", "deep/down/shapes"])
def test_a_failure_half_way_leaves_no_file_behind(tmp_path, monkeypatch, root):
    calls = iter(range(100))

    def failing(*args) -> None:
        if next(calls) == 3:
            raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(shapes, "write_mask", failing)
        with pytest.raises(UserError, match=r"shapes cannot be written \(disk full\): make room"):
            write_shapes(tmp_path / root, FEW)

    assert files_of(tmp_path) == {}
    assert not (tmp_path / root).exists()
    assert write_shapes(tmp_path / root, FEW)


def test_what_a_killed_writer_left_does_not_matter(tmp_path):
    leftover = tmp_path / f".shapes.{socket.gethostname()}-1.partial" / "new" / "JPEGImages"
    leftover.mkdir(parents=True)
    (leftover / "stray.jpg").write_text("half")

    write_shapes(tmp_path / "shapes", FEW)

    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert "JPEGImages/stray.jpg" not in files_of(tmp_path / "shapes")


def test_all_classes_occur():
    found = {int(id) for number in range(40) for id in np.unique(scene(0, number, 32)[1])}

    assert found == set(range(len(CLASSES)))


def test_a_written_mask_is_that_of_its_scene(tmp_path):
    write_shapes(tmp_path / "shapes", FEW)

    mask = read_mask(tmp_path / "shapes" / "SegmentationClass" / "shapes_00004.png")

    assert np.array_equal(mask, scene(FEW.seed, 4, FEW.size)[1])
