from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from advseg.trainers.data.survey import survey
from advseg.trainers.errors import UserError

Add = Callable[..., Path]


def problem(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        survey(folder)
    return str(caught.value)


class TestSurvey:
    def test_pairs_images_with_masks_at_any_depth(self, add: Add) -> None:
        add("a", [0, 1])
        add("field one/b", [0, 2], suffix=".jpg")
        folder = add("c", suffix=".jpeg")

        found = survey(folder)

        assert [(pair.id, pair.size, pair.values) for pair in found.pairs] == [
            ("a", (4, 6), (0, 1)),
            ("field one/b", (4, 6), (0, 2)),
        ]
        assert (found.unlabelled, found.copies) == (("c",), ())

    def test_leaves_out_images_without_mask_that_equal_one_with(self, add: Add) -> None:
        add("a", [0, 1])
        add("b", [0, 1])
        folder = add("copy", shade=sum(b"a"))

        found = survey(folder)

        assert (found.unlabelled, found.copies) == ((), ("copy",))

    def test_asks_for_a_folder_with_images_and_masks(self, tmp_path: Path) -> None:
        assert problem(tmp_path / "no") == f"{tmp_path / 'no'} is no folder: name one with images/ and masks/"
        assert problem(tmp_path) == f"{tmp_path} has no folder images/: put images (PNG, JPEG, TIFF, BMP or WebP) there"
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
        assert problem(tmp_path) == f"{tmp_path / 'images'} is empty: put images (PNG, JPEG, TIFF, BMP or WebP) there"

    @pytest.mark.parametrize("part", ["images", "masks"])
    def test_names_the_parent_to_who_names_one_of_both_folders(self, add: Add, part: str, monkeypatch) -> None:
        folder = add("a", [0, 1])
        told = f"is a part of what is wanted: name {folder}, which has images/ and masks/"

        assert problem(folder / part) == f"{folder / part} {told}"
        monkeypatch.chdir(folder / part)
        assert problem(Path()) == f". {told}"

    def test_asks_for_masks(self, add: Add) -> None:
        folder = add("a")
        assert problem(folder) == f"{folder / 'masks'} is empty: put masks (PNG, TIFF, BMP or WebP) there"
        (folder / "masks").rmdir()
        assert problem(folder) == f"{folder} has no folder masks/: put masks (PNG, TIFF, BMP or WebP) there"

    @pytest.mark.parametrize("copy", [False, True])
    def test_asks_for_masks_of_two_different_images(self, add: Add, copy: bool) -> None:
        folder = add("a", [0, 1])
        if copy:
            add("b", [0, 1], shade=sum(b"a"))
        assert "has masks of fewer than two different images" in problem(folder)

    def test_names_the_part_of_exif_in_a_difference_of_sizes(self, add: Add) -> None:
        add("a", [0, 1])
        folder = add("b", [0, 1], suffix=".jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (6, 4)).save(folder / "images/b.jpg", exif=exif)

        assert problem(folder) == (
            f"{folder}/masks/b.png is 6 x 4, but its image is 4 x 6 once turned upright as its EXIF data say: turn the "
            f"mask, or set dataset.orientation to ignore, as `advseg data init` does by --orientation ignore"
        )

    def test_tells_once_of_an_ending_that_masks_have_in_common(self, add: Add) -> None:
        for id in ("a", "day/b", "c_1"):
            folder = add(id, [0, 1])
            path = folder / f"masks/{id}.png"
            path.rename(path.with_stem(f"{path.stem}_L"))
        Image.new("L", (6, 4)).save(folder / "masks/c_0.png")

        head, *lines = problem(folder).splitlines()

        assert head == f"2 problems in {folder}:"
        assert lines == [
            f"  3 masks, such as {folder}/masks/a_L.png, have _L after the names of their images: name each as its "
            "image is, with nothing after it or one of _mask, -mask, _masks, _label, _labels, _seg, _gt",
            f"  mask {folder}/masks/c_0.png has no image {folder}/images/c_0.jpg, .png or the like: add it or remove "
            "the mask",
        ]

    def test_lists_every_problem_in_a_line(self, add: Add) -> None:
        add("good", [0, 1])
        folder = add("size", [0, 1])
        Image.new("L", (6, 5)).save(folder / "masks/size.png")
        Image.new("L", (6, 4)).save(folder / "masks/alone.png")
        Image.new("L", (6, 4)).save(folder / "masks/good.jpg")
        add("twice", suffix=".jpg")
        add("twice", suffix=".png")
        add("x.jpg y.jpg")
        add("broken", [0, 1])
        (folder / "images/broken.png").write_text("no image")

        head, *lines = problem(folder).splitlines()

        assert head == f"6 problems in {folder}:"
        told = "\n".join(lines)
        images, masks = folder / "images", folder / "masks"
        for line in (
            f"  {images / 'twice.jpg'} and {images / 'twice.png'} both have the id twice: rename one and its mask",
            f"  {images / 'x.jpg y.jpg.png'} has a name that a list cannot hold: rename it and its mask",
            f"  mask {masks / 'alone.png'} has no image {images / 'alone'}.jpg, .png or the like: add it or remove "
            "the mask",
            f"  {masks / 'good.png'} and {masks / 'good.jpg'} are masks of one image: remove one",
            f"  {masks / 'size.png'} is 6 x 5, but its image is 6 x 4: mend either",
            f"  {images / 'broken.png'} is none of PNG, JPEG, TIFF, BMP and WebP: convert it",
        ):
            assert line in told
