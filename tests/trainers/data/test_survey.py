from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.survey import Pair, draw_validation, find_classes, given_validation, survey
from advseg.trainers.errors import UserError

Add = Callable[..., Path]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Add an image of one colour, and a mask with given ids or colours, to a folder; return the folder."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()

    def add(id: str, mask: object = None, *, shade: int | None = None, suffix: str = ".png", mode: str = "P") -> Path:
        shade = sum(id.encode()) % 256 if shade is None else shade
        image = tmp_path / "images" / f"{id}{suffix}"
        image.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(image)
        if mask is not None:
            values = np.resize(np.array(mask, np.uint8), (4, 6, 3) if mode == "RGB" else (4, 6))
            path = tmp_path / "masks" / f"{id}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            if mode == "P":
                write_mask(path, values, voc_palette())
            else:
                Image.fromarray(values).save(path)
        return tmp_path

    return add


def problem(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        find_classes(survey(folder).pairs)
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
        assert problem(tmp_path) == f"{tmp_path} has no folder images/: put JPEG or PNG images there"
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
        assert problem(tmp_path) == f"{tmp_path / 'images'} is empty: put JPEG or PNG images there"

    def test_asks_for_masks(self, add: Add) -> None:
        folder = add("a")
        assert problem(folder) == f"{folder / 'masks'} is empty: put PNG masks there"
        (folder / "masks").rmdir()
        assert problem(folder) == f"{folder} has no folder masks/: put PNG masks there"

    @pytest.mark.parametrize("copy", [False, True])
    def test_asks_for_masks_of_two_different_images(self, add: Add, copy: bool) -> None:
        folder = add("a", [0, 1])
        if copy:
            add("b", [0, 1], shade=sum(b"a"))
        assert "has masks of fewer than two different images" in problem(folder)

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
            f"  mask {masks / 'alone.png'} has no image {images / 'alone'}.jpg or .png: add it or remove the mask",
            f"  {masks / 'good.png'} and {masks / 'good.jpg'} are masks of one image: remove one",
            f"  {masks / 'size.png'} is 6 x 5, but its image is 6 x 4: mend either",
            f"  {images / 'broken.png'} is none of PNG, JPEG, TIFF, BMP and WebP: convert it",
        ):
            assert line in told


class TestClasses:
    def test_of_ids_go_up_to_the_highest_and_have_the_colours_of_the_palette(self, add: Add) -> None:
        add("a", [0, 1, 255])
        folder = add("b", [0, 4])

        found = find_classes(survey(folder).pairs)

        assert found.colours == tuple(voc_palette(5))
        assert found.absent == (2, 3)

    def test_of_a_palette_that_tells_them_apart_by_nothing_have_the_colours_of_voc(self, add: Add) -> None:
        add("a", [0, 1])
        folder = add("b", [0, 1])
        write_mask(folder / "masks/a.png", np.resize(np.array([0, 1]), (4, 6)), [(9, 9, 9)] * 256)

        assert find_classes(survey(folder).pairs).colours == tuple(voc_palette(2))

    def test_of_colours_are_all_that_the_masks_hold(self, add: Add) -> None:
        add("a", [[0, 0, 0], [255, 255, 255]], mode="RGB")
        folder = add("b", [[0, 0, 0], [1, 2, 30]], mode="RGB")

        assert find_classes(survey(folder).pairs).colours == ((0, 0, 0), (1, 2, 30), (255, 255, 255))

    def test_cannot_be_told_by_colours_and_ids_at_once(self, add: Add) -> None:
        add("a", [0, 1], mode="L")
        folder = add("b", [[0, 0, 0], [1, 2, 30]], mode="RGB")

        masks = folder / "masks"
        assert (
            problem(folder) == f"mask {masks / 'b.png'} holds colours, but {masks / 'a.png'} class ids: convert either"
        )

    @pytest.mark.parametrize(
        ("ids", "held", "also"),
        [
            ([0], "0", ""),
            (
                [0, 255],
                "0 and 255",
                ", or write classes.yaml, which names the value of each: - {name: class_0, value: 0}, "
                "- {name: class_1, value: 255}",
            ),
            ([255], "255", ""),
        ],
        ids=["one", "binary", "ignored"],
    )
    def test_are_two_at_least(self, add: Add, ids: list[int], held: str, also: str) -> None:
        add("a", ids, mode="L")
        folder = add("b", ids, mode="L")

        expected = f"the masks hold {held} alone, but need two class ids or more, and 255 means ignored: "
        assert problem(folder) == f"{expected}save the classes as 0, 1 and so on{also}"

    @pytest.mark.parametrize(
        "greys", [[0, 127, 255], [0, 85, 170, 255], [50, 100, 150, 200], [0, 2, 3, 9, 249, 255], [0, 10]]
    )
    def test_are_not_a_few_greys_of_many(self, add: Add, greys: list[int]) -> None:
        add("a", greys, mode="L")
        folder = add("b", greys, mode="L")

        lines = ", ".join(f"- {{name: class_{id}, value: {grey}}}" for id, grey in enumerate(greys))
        assert problem(folder) == (
            f"the masks hold {len(greys)} different greys, {', '.join(map(str, greys))}, which are no class ids from 0 "
            f"on: write classes.yaml, which names the value of each class: {lines}"
        )

    @pytest.mark.parametrize("mode", ["L", "grey palette"])
    def test_are_not_the_greys_of_smoothed_edges(self, add: Add, mode: str) -> None:
        add("a", [0, 255], mode="L")
        folder = add("b", [0, 255], mode="L")
        for name in ("images", "masks"):
            smooth = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
            if mode != "L" and name == "masks":
                smooth.putpalette([grey for grey in range(256) for _ in "rgb"])
            smooth.save(folder / name / "b.png")

        told = problem(folder)

        assert told.startswith("the masks hold 256 different greys, 0, 1, 2, 3, 4, 5, 6, 7 … 255, which are no class")
        assert "save the masks without smoothing or JPEG compression" in told

    def test_of_palettes_that_contradict_each_other_are_their_colours(self, add: Add) -> None:
        folder = add("a", [0, 1])
        for id, colour in (("a", (255, 0, 0)), ("b", (0, 255, 0)), ("c", (255, 0, 0))):
            add(id, [0, 1])
            write_mask(folder / f"masks/{id}.png", np.resize(np.array([0, 1]), (4, 6)), [(0, 0, 0), colour])

        assert find_classes(survey(folder).pairs).colours == ((0, 0, 0), (0, 255, 0), (255, 0, 0))

    def test_of_palettes_and_greys_beside_colours_are_colours_too(self, add: Add) -> None:
        folder = add("a", [[0, 0, 0], [255, 0, 0]], mode="RGB")
        add("b", [0], mode="L")
        add("c", [0, 1])
        write_mask(folder / "masks/c.png", np.resize(np.array([0, 1]), (4, 6)), [(0, 0, 0), (0, 255, 0)])

        assert find_classes(survey(folder).pairs).colours == ((0, 0, 0), (0, 255, 0), (255, 0, 0))

    @pytest.mark.parametrize("near", [[1, 1, 1], [7, 0, 7]], ids=["ids in three channels", "smoothed"])
    def test_are_not_colours_that_hardly_differ(self, add: Add, near: list[int]) -> None:
        add("a", [[0, 0, 0], [255, 255, 255]], mode="RGB")
        folder = add("b", [[0, 0, 0], near], mode="RGB")

        assert problem(folder) == (
            f"the masks hold the colours [0, 0, 0] and {near}, which smoothing or JPEG compression makes of one: save "
            f"them without, or class ids as greyscale; or write classes.yaml yourself"
        )

    def test_of_one_colour_are_too_few(self, add: Add) -> None:
        add("a", [1, 2, 3], mode="RGB")
        assert "the masks hold one colour alone" in problem(add("b", [1, 2, 3], mode="RGB"))

    def test_of_a_smoothed_mask_are_too_many(self, add: Add) -> None:
        add("a", [1, 2, 3], mode="RGB")
        folder = add("b", [1, 2, 3], mode="RGB")
        for name in ("images", "masks"):
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(
                folder / name / "b.png"
            )
        assert "the masks hold over 100 different colours, but 2 to 100 can be classes" in problem(folder)

    def test_of_ids_beyond_a_byte_are_refused(self, add: Add) -> None:
        add("a", [0, 1])
        folder = add("b", [0, 1])
        Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(folder / "masks/b.png")
        assert "the masks hold class id 1000, but ids must be 0 to 254 or 255 (ignore)" in problem(folder)


class TestSplit:
    def test_of_folders_for_training_and_validation_is_kept(self, add: Add) -> None:
        for id in ("train/a", "train/b", "val/c", "val/deep/d"):
            folder = add(id, [0, 1])

        assert given_validation(survey(folder).pairs) == {"val/c", "val/deep/d"}

    @pytest.mark.parametrize("ids", [("train/a", "train/b"), ("train/a", "other/b", "val/c"), ("val/a", "b"), "ab"])
    def test_is_none_unless_all_images_lie_in_both(self, add: Add, ids: tuple[str, ...]) -> None:
        for id in ids:
            folder = add(id, [0, 1])

        assert given_validation(survey(folder).pairs) is None


def pair_of(number: int, image: int, values: list[int]) -> Pair:
    mask = Path(f"{number}.png")
    return Pair(id=str(number), mask=mask, size=(1, 1), digest=str(image), kind="grey", values=tuple(values))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(0, 3), min_size=1)), min_size=2, max_size=40).filter(
        lambda images: len({image for image, _ in images}) > 1
    ),
    st.integers(0, 5),
)
def test_validation_takes_some_images_and_leaves_some_and_parts_no_equal_ones(images, seed):
    pairs = [pair_of(number, image, sorted(values)) for number, (image, values) in enumerate(images)]

    chosen = draw_validation(pairs, seed)

    judged = {pair.digest for pair in pairs if pair.id in chosen}
    trained = {pair.digest for pair in pairs if pair.id not in chosen}
    assert judged
    assert trained
    assert not judged & trained
    assert chosen == draw_validation(pairs[::-1], seed)


def test_validation_is_a_fifth_that_hangs_on_the_seed():
    pairs = [pair_of(number, number, [0, 1]) for number in range(50)]

    draws = [draw_validation(pairs, seed) for seed in range(5)]

    assert [len(draw) for draw in draws] == [10] * 5
    assert len(set(map(frozenset, draws))) == 5


def test_one_more_image_changes_few_sides():
    pairs = [pair_of(number, number, [0, 1]) for number in range(51)]

    assert len(draw_validation(pairs, 0) ^ draw_validation(pairs[:-1], 0)) <= 2


def test_the_last_image_that_holds_a_class_is_trained_on():
    pairs = [pair_of(number, number, [0, 1, 2] if number == 7 else [0, 1]) for number in range(10)]

    assert not any("7" in draw_validation(pairs, seed) for seed in range(30))
