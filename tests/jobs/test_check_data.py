import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from advseg.jobs.check_data import census_table
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.masks import read_mask
from advseg.trainers.data.readings import PartCensus
from advseg.trainers.data.shapes import CLASSES

Command = Callable[..., tuple[int, str, str]]

PARTS = ("labelled", "unlabelled", "validation")


@pytest.fixture
def root(shapes: Path, tmp_path: Path) -> Path:
    """A shapes dataset to break."""
    return Path(shutil.copytree(shapes, tmp_path / "broken"))


@pytest.fixture
def check(advseg: Command, document: dict[str, Any], root: Path, tmp_path: Path) -> Command:
    """Check that dataset."""
    (tmp_path / "spec.yaml").write_text(
        yaml.safe_dump({**document, "dataset": {**document["dataset"], "root": str(root)}})
    )
    return lambda *options: advseg("data", "check", "spec.yaml", *options)


def rows(out: str) -> dict[str, list[str]]:
    """The cells of a table, by the heading of their row."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    return {heading.removeprefix("██ "): values for heading, *values in cells}


class TestOfAGoodDataset:
    def test_needs_no_start_weights(self, check: Command) -> None:
        status, out, _ = check("--set", "model.weights=/nowhere/start.pth")
        assert status == 0
        assert "nothing is wrong" in out

    def test_counts_what_its_masks_hold(self, check: Command, root: Path) -> None:
        for path in (root / "SegmentationClass").iterdir():
            mask = np.zeros((16, 16), np.uint8)
            mask[:4] = 1
            mask[4:6] = 255
            write_mask(path, mask, voc_palette())

        status, out, err = check()

        assert (status, err) == (0, "")
        assert rows(out) == {
            "images": ["3", "3", "2"],
            "masks": ["3", "3", "2"],
            "background": ["480  71.43", "480  71.43", "320  71.43"],
            "circle": ["192  28.57", "192  28.57", "128  28.57"],
            **{name: ["none"] * 3 for name in CLASSES[2:]},
            "ignored": ["96  12.50", "96  12.50", "64  12.50"],
        }
        assert [line for line in out.splitlines() if line.startswith("note: ")] == [
            f"note: no labelled mask holds {', '.join(CLASSES[2:])}: what is not seen is not learnt",
            "note: 2 images validate, fewer than 20: figures of so few hang on each image",
        ]

    def test_counts_unlabelled_images_without_masks(self, check: Command, root: Path) -> None:
        for id in (root / "ImageSets/Segmentation/unlabelled.txt").read_text().split():
            (root / f"SegmentationClass/{id}.png").unlink()

        status, out, _ = check()

        assert status == 0
        assert rows(out)["masks"] == ["3", "0", "2"]
        assert {row[1] for name, row in rows(out).items() if name not in ("images", "masks")} == {"-"}

    def test_draws_samples_beside_other_state_or_where_it_is_told(self, check: Command, tmp_path: Path) -> None:
        default = tmp_path / "home" / "checks" / "tiny.png"
        assert check()[1].endswith(f"nothing is wrong; picture of samples in {default}\n")
        assert check("--picture", "new/here.png")[1].endswith("picture of samples in new/here.png\n")

        with Image.open(default) as one, Image.open(tmp_path / "new/here.png") as other:
            assert one.format == other.format == "PNG"
            assert np.array_equal(one, other)

    @pytest.mark.parametrize(
        ("options", "padded"),
        [
            ([], False),
            (["--set=trainer.augmentation.crop=[16, 17]"], True),
            (["--set=trainer.augmentation.crop=[16, 24]", "--set=trainer.augmentation.scale=[1, 2]"], False),
            (["--set=trainer.augmentation.scale=[0.5, 1]"], True),
            (["--set=trainer.augmentation.crop=[16, 17]", "--set=trainer.resize=[16, 32]"], False),
            (["--set=trainer.augmentation.crop=[16, 17]", "--set=trainer.resize={longer: 32}"], False),
        ],
    )
    def test_notes_a_crop_larger_than_most_images(self, check: Command, options: list[str], padded: bool) -> None:
        status, out, _ = check(*options)

        assert status == 0
        assert ("is larger than 6 of 6 training images, which are padded" in out) == padded

    @pytest.mark.parametrize(("orientation", "noted"), [(1, False), (2, True), (3, True), (4, True)])
    def test_notes_turns_that_no_size_shows(self, check: Command, root: Path, orientation: int, noted: bool) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = root / "JPEGImages" / "shapes_00000.jpg"
        Image.new("RGB", (16, 16), "blue").save(image, exif=exif)

        out = check()[1]

        assert ("1 images with masks are turned by 180 degrees or mirrored" in out) == noted
        assert (f"such as {image}" in out) == noted
        # The picture shows others of so many.
        assert "in the picture" not in out

    def test_knows_which_way_up_a_photograph_is(self, check: Command, root: Path) -> None:
        # Photographs of 24 x 16 on their side: 16 x 24 when upright, as their masks are.
        turned = Image.Exif()
        turned[0x0112] = 6
        for path in (root / "JPEGImages").iterdir():
            Image.new("RGB", (24, 16)).save(path, exif=turned)
            write_mask(root / "SegmentationClass" / f"{path.stem}.png", np.zeros((24, 16), np.uint8), voc_palette())
        for id in (root / "ImageSets/Segmentation/val.txt").read_text().split():
            Image.new("RGB", (16, 24), "red").save(root / "JPEGImages" / f"{id}.jpg")

        assert "is larger than" not in check("--set=trainer.augmentation.crop=[24, 16]")[1]
        assert "is larger than" in check("--set=trainer.augmentation.crop=[16, 24]")[1]


class TestOfABadDataset:
    def test_names_the_part_of_exif_in_a_difference_of_sizes_or_ignores_it(self, check: Command, root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        id = (root / "ImageSets/Segmentation/val.txt").read_text().split()[0]
        Image.new("RGB", (24, 16)).save(root / "JPEGImages" / f"{id}.jpg", exif=exif)
        write_mask(root / "SegmentationClass" / f"{id}.png", np.zeros((16, 24), np.uint8), voc_palette())

        assert check()[2] == (
            f"error: {root}/SegmentationClass/{id}.png is 24 x 16, but its image is 16 x 24 once turned upright as its "
            f"EXIF data say: turn the mask, or set dataset.orientation to ignore, as `advseg data init` does by "
            f"--orientation ignore\n"
        )
        assert check("--set=dataset.orientation=ignore")[0] == 0

    def test_lists_all_that_is_wrong_and_counts_what_can_be_read(
        self, check: Command, root: Path, tmp_path: Path
    ) -> None:
        masks = sorted((root / "SegmentationClass").iterdir())
        for path in masks[:3]:
            path.unlink()
        mask = read_mask(masks[6]).copy()
        mask[0, 0] = 77
        write_mask(masks[6], mask, voc_palette())
        (root / "JPEGImages" / f"{masks[3].stem}.jpg").write_text("no image")

        status, out, err = check()

        assert status == 2
        head, *lines = err.splitlines()
        assert head == f"error: 5 problems in dataset {root}:"
        assert len(lines) == 5
        assert sum("has no mask" in line for line in lines) == 3
        assert any("holds class id 77" in line for line in lines)
        assert any("none of PNG, JPEG, TIFF, BMP and WebP" in line for line in lines)
        assert rows(out)["masks"] == ["0", "3", "2"]
        assert list(rows(out))[2:-1] == list(CLASSES)
        assert not (tmp_path / "home").exists()

    def test_cuts_no_list_off(self, check: Command, root: Path) -> None:
        ids = [f"absent_{number}" for number in range(60)]
        (root / "ImageSets/Segmentation/unlabelled.txt").write_text("\n".join(ids))

        err = check()[2]

        assert err.startswith("error: 60 problems")
        assert all(f"{id}.jpg does not exist" in err for id in ids)

    def test_says_a_single_problem_in_a_line(self, check: Command, root: Path) -> None:
        (root / "ImageSets/Segmentation/val.txt").unlink()

        status, _, err = check()

        assert status == 2
        assert err.startswith("error: list ")
        assert err.count("\n") == 1

    def test_of_another_tree_has_no_table(self, check: Command) -> None:
        status, out, err = check("--set=dataset.layout=cityscapes")

        assert (status, out) == (2, "")
        assert "has no folder leftImg8bit/" in err


def test_a_spec_that_is_wrong_is_refused_before_a_file_is_read(check: Command) -> None:
    status, out, err = check("--set=trainer.augmentation.jitter.hue=2")

    assert (status, out) == (2, "")
    assert "trainer.augmentation.jitter.hue: must be in [0, 0.5], but is 2.0" in err


def test_no_row_of_the_table_takes_two_lines_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("traffic light", "a class whose name is longer than any column", "road")
    pixels = np.array([6_238_976_000, 12_345_678, 0])
    parts = {name: PartCensus(images=2975, masks=2975, pixels=pixels, ignored=9_999_999) for name in PARTS}
    console = Console(file=io.StringIO())

    with console.capture() as capture:
        console.print(census_table(parts, names, ((0, 0, 0),) * 3))

    lines = capture.get().splitlines()
    cells = rows(capture.get())
    assert all(len(line) <= 80 for line in lines)
    assert list(cells)[2:] == ["traffic light", "a class whose n…", "road", "ignored"]
    assert cells["traffic light"] == ["6,239.0 M  99.80"] * 3
    assert cells["ignored"] == ["9,999,999   0.16"] * 3
