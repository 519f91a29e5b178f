from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.found_classes import FoundClasses, find_classes
from advseg.trainers.data.images import Colour, voc_palette, write_mask
from advseg.trainers.data.survey import survey
from advseg.trainers.errors import UserError

Add = Callable[..., Path]


def found(folder: Path) -> FoundClasses:
    return find_classes(survey(folder).pairs)


def colours(classes: FoundClasses) -> tuple[Colour, ...]:
    return tuple(each.colour for each in classes.classes)


def problem(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        found(folder)
    return str(caught.value)


class TestClasses:
    def test_of_ids_go_up_to_the_highest_and_have_the_colours_of_the_palette(self, add: Add) -> None:
        add("a", [0, 1, 255])
        folder = add("b", [0, 4])

        classes = found(folder)

        assert colours(classes) == tuple(voc_palette(5))
        assert [id for id, each in enumerate(classes.classes) if not each.masks] == [2, 3]

    def test_of_a_palette_that_tells_them_apart_by_nothing_have_the_colours_of_voc(self, add: Add) -> None:
        add("a", [0, 1])
        folder = add("b", [0, 1])
        write_mask(folder / "masks/a.png", np.resize(np.array([0, 1]), (4, 6)), [(9, 9, 9)] * 256)

        assert colours(found(folder)) == tuple(voc_palette(2))

    def test_are_not_told_by_masks_whose_white_is_one_and_such_whose_white_is_ignored(self, add: Add) -> None:
        add("a", [0, 255], mode="L")
        folder = add("b", [0, 255], mode="L")
        masks = folder / "masks"
        with Image.open(masks / "b.png") as image:
            image.convert("1").save(masks / "b.png")

        assert problem(folder) == (
            f"mask {masks / 'b.png'} of 1 bit has 1 where it is white, but {masks / 'a.png'} has 255, which means "
            f"ignored: save all in one way, or write classes.yaml, which names the values of each class: "
            f"[{{name: class_0, value: 0}}, {{name: class_1, value: [1, 255]}}]"
        )

    def test_of_one_bit_stand_beside_ids_and_ignored_pixels(self, add: Add) -> None:
        add("a", [0, 1, 255], mode="L")
        folder = add("b", [0, 255], mode="L")
        with Image.open(folder / "masks/b.png") as image:
            image.convert("1").save(folder / "masks/b.png")

        assert len(found(folder).classes) == 2

    def test_of_colours_are_all_that_the_masks_hold(self, add: Add) -> None:
        add("a", [[0, 0, 0], [255, 255, 255]], mode="RGB")
        folder = add("b", [[0, 0, 0], [1, 2, 30]], mode="RGB")

        assert colours(found(folder)) == ((0, 0, 0), (1, 2, 30), (255, 255, 255))

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
                ", or write classes.yaml, which names the value of each: [{name: class_0, value: 0}, "
                "{name: class_1, value: 255}]",
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

        classes = ", ".join(f"{{name: class_{id}, value: {grey}}}" for id, grey in enumerate(greys))
        assert problem(folder) == (
            f"the masks hold {len(greys)} different greys, {', '.join(map(str, greys))}, which are no class ids from 0 "
            f"on: write classes.yaml, which names the value of each class: [{classes}]"
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

        assert colours(found(folder)) == ((0, 0, 0), (0, 255, 0), (255, 0, 0))

    def test_of_palettes_and_greys_beside_colours_are_colours_too(self, add: Add) -> None:
        folder = add("a", [[0, 0, 0], [255, 0, 0]], mode="RGB")
        add("b", [0], mode="L")
        add("c", [0, 1])
        write_mask(folder / "masks/c.png", np.resize(np.array([0, 1]), (4, 6)), [(0, 0, 0), (0, 255, 0)])

        assert colours(found(folder)) == ((0, 0, 0), (0, 255, 0), (255, 0, 0))

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
