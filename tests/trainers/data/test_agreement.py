"""Masks of one dataset that say different things by the same index, grey or colour."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.masks import MaskCoding, read_mask
from advseg.trainers.data.opening import inspect_dataset, open_dataset

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
COLOURS = (
    "- {name: ground, colour: [0, 0, 0]}\n- {name: red, colour: [255, 0, 0]}\n- {name: green, colour: [0, 255, 0]}\n"
)
BLACK_WHITE = "- {name: ground, colour: [0, 0, 0]}\n- {name: object, colour: [255, 255, 255]}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images a and b to train on, c to validate by, d without a mask; no masks yet."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number, id in enumerate("abcd"):
        Image.fromarray(np.full((4, 6, 3), 9 * number, np.uint8)).save(tmp_path / "images" / f"{id}.png")
    (tmp_path / "labelled.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("c\n")
    (tmp_path / "unlabelled.txt").write_text("d\n")
    return tmp_path


def settings(root: Path) -> DatasetSettings:
    return DatasetSettings(layout="folder", root=root)


def problems(root: Path) -> tuple[str, ...]:
    return inspect_dataset(settings(root)).problems


def put(root: Path, id: str, values: list[int], palette: list[tuple[int, int, int]] | None = None) -> None:
    """Write a mask of indices, or of greys."""
    pixels = np.resize(np.array(values, np.uint8), (4, 6))
    path = root / "masks" / f"{id}.png"
    if palette:
        write_mask(path, pixels, palette)
    else:
        Image.fromarray(pixels).save(path)


def first_row(dataset: Dataset, id: str) -> list[int]:
    (sample,) = (each for part in dataset.parts.values() for each in part if each.id == id)
    mask = sample.read_mask()
    assert mask is not None
    return mask[0].tolist()


def test_palettes_that_a_tool_has_sorted_anew_are_read_by_the_colours_of_classes_yaml(root):
    (root / "classes.yaml").write_text(COLOURS)
    put(root, "a", [0, 1], [BLACK, RED])
    put(root, "b", [0, 1], [BLACK, GREEN])
    put(root, "c", [0, 1, 2], [GREEN, BLACK, RED])

    dataset = open_dataset(settings(root))

    assert [first_row(dataset, id)[:3] for id in "abc"] == [[0, 1, 0], [0, 2, 0], [2, 0, 1]]


def test_what_digests_hold_of_colours_is_as_it_was_before_masks_had_values():
    coding = MaskCoding(ignore_index=254, colours=(BLACK, RED), ignored=(WHITE,))

    assert coding.described == (
        "MaskCoding(ignore_index=254, table=(), colours=((0, 0, 0), (255, 0, 0)), ignored=((255, 255, 255),))"
    )
    assert MaskCoding(ignore_index=254).described == ""


def test_without_names_for_the_colours_they_are_refused_by_name(root):
    (root / "classes.yaml").write_text("- {name: ground}\n- {name: leaf}\n")
    put(root, "a", [0, 1], [BLACK, RED])
    put(root, "b", [0, 1], [BLACK, GREEN])
    put(root, "c", [0, 1], [BLACK, GREEN])

    assert problems(root) == (
        f"the palette of {root}/masks/b.png gives index 1 the colour [0, 255, 0], but the palette of "
        f"{root}/masks/a.png gives index 1 the colour [255, 0, 0] (and 1 more masks contradict others): save them with "
        f"one palette; or name in a classes.yaml in dataset.root each class's colour, or its value",
    )


def test_one_colour_of_two_indices_is_a_contradiction_too(root):
    (root / "classes.yaml").write_text("- {name: ground}\n- {name: leaf}\n- {name: stem}\n")
    put(root, "a", [0, 1], [BLACK, RED])
    put(root, "b", [0, 2], [BLACK, GREEN, RED])
    put(root, "c", [0], [BLACK])

    (told,) = problems(root)

    assert "b.png gives index 2 the colour [255, 0, 0], but the palette of" in told


@pytest.mark.parametrize("other", [[BLACK, RED, GREEN], [RED, RED, RED], [(n, n, n) for n in range(3)], None])
def test_palettes_that_agree_or_tell_nothing_are_read_by_their_indices(root, other):
    (root / "classes.yaml").write_text("- {name: ground}\n- {name: leaf}\n- {name: stem}\n")
    put(root, "a", [0, 1], [BLACK, RED])
    put(root, "b", [0, 1, 255], [BLACK, RED, GREEN, *[BLACK] * 253])
    put(root, "c", [0, 1, 2], other)

    assert problems(root) == ()
    assert first_row(open_dataset(settings(root)), "c")[:3] == [0, 1, 2]


def test_a_palette_with_half_of_the_colours_of_classes_yaml_is_refused(root):
    (root / "classes.yaml").write_text(COLOURS)
    for id in "abc":
        put(root, id, [0, 1], [RED, (1, 2, 3)])

    assert problems(root)[0] == (
        f"the palette of {root}/masks/a.png gives index 0 the colour [255, 0, 0], which classes.yaml gives to another "
        f"class, and [1, 2, 3] to others, which it does not name: name all colours there, or each class's value if "
        f"indices count"
    )


def test_values_settle_that_indices_count(root):
    (root / "classes.yaml").write_text(
        "- {name: ground, value: 0, colour: [255, 0, 0]}\n- {name: leaf, value: 1, colour: [0, 0, 0]}\n"
    )
    put(root, "a", [0, 1], [BLACK, RED])
    put(root, "b", [0, 1], [BLACK, GREEN])
    put(root, "c", [0, 1, 255])

    dataset = open_dataset(settings(root))

    assert [first_row(dataset, id)[:3] for id in "abc"] == [[0, 1, 0], [0, 1, 0], [0, 1, 255]]


def test_a_palette_with_nearly_the_right_colours_is_refused_where_others_are_read_by_theirs(root):
    (root / "classes.yaml").write_text(COLOURS)
    put(root, "a", [0, 1], [BLACK, GREEN])
    put(root, "b", [0, 1], [BLACK, (254, 0, 0)])
    put(root, "c", [0, 1], [BLACK, RED])

    (*_, told) = problems(root)

    assert f"{root}/masks/b.png has a palette with colours that classes.yaml does not name" in told


def test_of_the_classes_of_voc_the_published_palette_is_known(voc_tree):
    colours = voc_palette()
    for name in ("SegmentationClass", "SegmentationClassAug"):
        for path in (voc_tree / name).iterdir():
            write_mask(path, np.resize(np.array([0, 1]), (4, 6)), [colours[0], colours[15]])
    told = inspect_dataset(DatasetSettings(root=voc_tree, labelled="train", unlabelled=None)).problems

    assert any("gives index 1 the colour [192, 128, 128], but the classes give index 15 the colour" in t for t in told)


def test_indices_count_in_layout_voc_too_where_classes_yaml_names_values(voc_tree: Path) -> None:
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        for number, path in enumerate(sorted((voc_tree / folder).iterdir())):
            write_mask(path, np.resize(np.array([0, 1]), read_mask(path).shape), [BLACK, (number, 9, 9)])
    settings = DatasetSettings(root=voc_tree, labelled="train", unlabelled=None)
    assert "name in a classes.yaml in dataset.root" in inspect_dataset(settings).problems[-1]

    (voc_tree / "classes.yaml").write_text("[{name: sky, value: 1}, {name: sea, value: 0}]")

    dataset = open_dataset(settings)
    assert dataset.classes == ("sky", "sea")
    assert first_row(dataset, dataset.labelled[0].id)[:2] == [1, 0]


class TestGreys:
    def test_of_which_one_can_be_no_id_are_colours_of_classes_yaml(self, root):
        (root / "classes.yaml").write_text(
            "- {name: a, colour: [0, 0, 0]}\n- {name: b, colour: [127, 127, 127]}\n"
            "- {name: c, colour: [255, 255, 255]}\n"
        )
        for id in "abc":
            put(root, id, [0, 127, 255])

        assert first_row(open_dataset(settings(root)), "a")[:3] == [0, 1, 2]

    def test_of_black_and_white_are_refused_as_white_is_also_the_ignore_index(self, root):
        (root / "classes.yaml").write_text(BLACK_WHITE)
        for id in "abc":
            put(root, id, [0, 255])

        assert problems(root) == (
            f"{root}/masks/a.png and 2 more masks have greys that are class ids or the ignore index as numbers, but "
            f"other classes by their colours in classes.yaml, and no other mask tells which: name there the value of "
            f"each class, as in {{name: object, value: 255}}",
        )

    def test_are_ids_and_ignored_where_another_mask_can_only_be_so(self, root):
        (root / "classes.yaml").write_text(BLACK_WHITE)
        put(root, "a", [0, 255])
        put(root, "b", [0, 1, 255])
        put(root, "c", [0, 1])

        assert first_row(open_dataset(settings(root)), "a")[:2] == [0, 255]

    def test_are_refused_beside_masks_in_colour_that_read_them_otherwise(self, root):
        (root / "classes.yaml").write_text(BLACK_WHITE)
        put(root, "a", [0, 255])
        Image.fromarray(np.array([[BLACK, WHITE] * 3] * 4, np.uint8)).save(root / "masks/b.png")
        put(root, "c", [0, 1])

        (told,) = problems(root)

        assert told.startswith(f"{root}/masks/a.png has greys that are class ids or the ignore index as numbers, but")
        assert f"in others, such as {root}/masks/b.png, colours count" in told

    @pytest.mark.parametrize("in_three_channels", [False, True])
    def test_stand_for_what_classes_yaml_says(self, root, in_three_channels):
        (root / "classes.yaml").write_text(
            "- {name: a, value: [0, 30]}\n- {name: b, value: 255}\n- {name: edge, value: [7, 8], ignore: true}\n"
        )
        for id in "abc":
            put(root, id, [0, 30, 255, 7, 8])
            if in_three_channels:
                with Image.open(root / f"masks/{id}.png") as image:
                    image.convert("RGB").save(root / f"masks/{id}.png")

        dataset = open_dataset(settings(root))

        assert first_row(dataset, "a")[:5] == [0, 0, 1, 255, 255]

    def test_that_stand_for_nothing_are_named(self, root):
        (root / "classes.yaml").write_text("- {name: a, value: 0}\n- {name: b, value: 200}\n")
        put(root, "a", [0, 1, 2, 3, 4, 200])
        put(root, "b", [0, 200, 255])
        put(root, "c", [0, 200])

        assert problems(root) == (
            f"{root}/masks/a.png holds values that classes.yaml does not name, 1, 2, 3 and 1 more: add them there, "
            f"with `ignore: true` if they are to count nowhere, or mend the mask",
        )

    def test_mean_another_dataset_if_classes_yaml_says_so(self, root):
        for id in "abc":
            put(root, id, [0, 1])
        digests = []
        for text in (
            "- {name: a}\n- {name: b}\n",
            "- {name: a, value: 0}\n- {name: b, value: 1}\n",
            "- {name: a, value: 1}\n- {name: b, value: 0}\n",
        ):
            (root / "classes.yaml").write_text(text)
            digests.append(open_dataset(settings(root)).digest)

        assert len(set(digests)) == 3
