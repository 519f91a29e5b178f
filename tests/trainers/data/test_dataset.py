import os
import pickle
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data import opening
from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.masks import read_mask
from advseg.trainers.data.opening import SHOWN_PROBLEMS, inspect_dataset, open_dataset
from advseg.trainers.progress import ticks

LISTS = {"labelled": ["a", "b"], "unlabelled": ["c", "d"], "val": ["e"]}
CLASSES = ("sky", "sea", "land")


@pytest.fixture
def root(tmp_path) -> Path:
    """Five images of 6 x 4 pixels; d, an unlabelled one, has no mask."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, ids in LISTS.items():
        write_list(root, name, ids)
        for id in ids:
            Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8)).save(image_of(root, id))
            mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), (4, 6))
            if id != "d":
                write_mask(mask_of(root, id), mask, voc_palette())
    return root


def image_of(root: Path, id: str) -> Path:
    return root / "JPEGImages" / f"{id}.jpg"


def mask_of(root: Path, id: str) -> Path:
    return root / "SegmentationClass" / f"{id}.png"


def write_list(root: Path, name: str, ids: list[str]) -> None:
    (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids))


def read(root: Path, **changes) -> Dataset:
    return open_dataset(DatasetSettings(**{"root": root, "classes": CLASSES, **changes}))


def write_ids(root: Path, id: str, ids: np.ndarray) -> None:
    write_mask(mask_of(root, id), ids.astype(np.uint8), voc_palette())


def parts(root: Path, **changes) -> list[list[str]]:
    """The ids of the labelled, unlabelled and validation images."""
    dataset = read(root, **changes)
    return [[sample.id for sample in part] for part in (dataset.labelled, dataset.unlabelled, dataset.validation)]


def test_every_part_has_its_samples_with_the_masks_that_there_are(root):
    dataset = read(root)

    assert [s.id for s in dataset.labelled] == ["a", "b"]
    assert [s.id for s in dataset.unlabelled] == ["c", "d"]
    assert [s.id for s in dataset.validation] == ["e"]
    assert dataset.unlabelled[0].mask == mask_of(root, "c")
    assert dataset.unlabelled[1].mask is None
    assert (dataset.classes, dataset.ignore_index) == (CLASSES, 255)


def test_other_lists_are_chosen_by_name(root):
    write_list(root, "one", ["a"])

    assert [s.id for s in read(root, labelled="one").labelled] == ["a"]


def test_the_palette_is_that_of_the_first_mask(root):
    for path in mask_of(root, "a").parent.iterdir():
        write_mask(path, np.zeros_like(read_mask(path)), [(9, 8, 7), (1, 2, 3), (4, 5, 6)])

    assert read(root).palette == ((9, 8, 7), (1, 2, 3), (4, 5, 6))


def test_for_greyscale_masks_the_palette_is_that_of_voc(root):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(mask_of(root, "a"))

    assert read(root).palette == tuple(voc_palette(3))


def test_a_missing_folder_is_named_with_its_setting(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere does not exist: set dataset\.root"):
        read(tmp_path / "nowhere")


def test_images_of_the_labelled_list_are_left_out_of_the_unlabelled_one_and_told(root):
    write_list(root, "unlabelled", ["a", "c", "b", "d"])

    inspection = inspect_dataset(DatasetSettings(root=root, classes=CLASSES))

    assert parts(root) == [["a", "b"], ["c", "d"], ["e"]]
    assert inspection.notes[0] == (
        "2 images of the unlabelled list are left out of it, as they are on the labelled list too"
    )


def test_the_rest_of_a_fraction_joins_the_unlabelled_images_and_is_told(root):
    inspection = inspect_dataset(DatasetSettings(root=root, classes=CLASSES, fraction=0.5))

    labelled, unlabelled, _ = parts(root, fraction=0.5)
    assert len(labelled) == 1
    assert sorted([*labelled, *unlabelled]) == ["a", "b", "c", "d"]
    assert inspection.notes[0] == "masks of 1 of 2 labelled images are trained on, 1 go without"


def test_labelled_and_unlabelled_never_overlap_though_one_list_plays_both_parts(root):
    labelled, unlabelled, _ = parts(root, unlabelled="labelled", fraction=0.5)

    assert sorted([*labelled, *unlabelled]) == ["a", "b"]


def test_a_whole_labelled_list_keeps_its_order_whatever_the_seed(root):
    write_list(root, "labelled", ["b", "a"])

    assert read(root, split_seed=3).digest == read(root).digest
    assert parts(root)[0] == ["b", "a"]


def test_another_seed_draws_another_fraction(root):
    assert {parts(root, fraction=0.5, split_seed=seed)[0][0] for seed in range(10)} == {"a", "b"}


@pytest.mark.parametrize("order", ["ranks", "{root}/ranks.pkl"])
def test_a_published_order_takes_the_place_of_the_draw(root, order):
    write_list(root, "ranks", ["1", "0"])
    (root / "ranks.pkl").write_bytes(pickle.dumps([1, 0]))

    for seed in range(5):
        labelled = parts(root, fraction=0.5, order=order.format(root=root), split_seed=seed)[0]
        assert labelled == ["b"]


def test_only_images_that_keep_their_masks_need_one(root):
    write_list(root, "labelled", ["a", "d"])
    write_list(root, "unlabelled", ["c"])
    write_list(root, "ranks", ["0", "1"])

    assert parts(root, fraction=0.5, order="ranks") == [["a"], ["c", "d"], ["e"]]


def test_there_may_be_no_unlabelled_images(root):
    assert parts(root, unlabelled=None) == [["a", "b"], [], ["e"]]


def test_the_census_counts_the_pixels_of_every_class_and_part(root):
    write_ids(root, "a", np.array([[0, 0, 1, 2, 255, 255]] * 4))
    write_ids(root, "b", np.array([[0, 0, 0, 0, 0, 0]] * 4))
    mask_of(root, "c").unlink()

    census = inspect_dataset(DatasetSettings(root=root, classes=CLASSES)).parts

    assert {part: (c.images, c.masks) for part, c in census.items()} == {
        "labelled": (2, 2),
        "unlabelled": (2, 0),
        "validation": (1, 1),
    }
    assert (census["labelled"].pixels.tolist(), census["labelled"].ignored) == ([32, 4, 4], 8)
    assert census["labelled"].pixels.dtype == np.int64


def test_the_census_counts_what_can_be_read_where_there_are_problems(root):
    Image.fromarray(np.array([[0, 0, 1, 77, 300, 255]] * 4, np.uint16)).save(mask_of(root, "a"))
    mask_of(root, "b").write_text("text")

    inspection = inspect_dataset(DatasetSettings(root=root, classes=CLASSES))

    assert inspection.dataset is None
    assert len(inspection.problems) == 2
    census = inspection.parts["labelled"]
    assert (census.images, census.masks, census.pixels.tolist(), census.ignored) == (2, 1, [8, 4, 0], 4)


def test_pixels_of_a_class_that_is_the_ignore_index_are_ignored(root):
    for id in "abce":
        write_ids(root, id, np.array([[0, 0, 1, 2, 2, 2]] * 4))

    census = inspect_dataset(DatasetSettings(root=root, classes=CLASSES, ignore_index=0)).parts["validation"]

    assert (census.pixels.tolist(), census.ignored) == ([0, 4, 12], 8)


def test_ids_above_255_are_read_from_masks_of_sixteen_bits(root):
    for id in "abce":
        Image.fromarray(np.array([[0, 299, 1000, 0, 0, 0]] * 4, np.uint16)).save(mask_of(root, id))

    dataset = read(root, classes=tuple(f"class {n}" for n in range(300)), ignore_index=1000)

    mask = dataset.labelled[0].read_mask()
    assert mask is not None
    assert (mask.dtype, mask[0, :3].tolist()) == (np.int32, [0, 299, 1000])
    assert len(set(dataset.palette)) == 300


PROBLEMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a list is missing": (
        lambda root: (root / "ImageSets" / "Segmentation" / "unlabelled.txt").unlink(),
        r"unlabelled\.txt does not exist: write one image id per line",
    ),
    "a list is empty": (lambda root: write_list(root, "val", [" "]), r"val\.txt is empty"),
    "the unlabelled list is empty": (
        lambda root: write_list(root, "unlabelled", [" "]),
        r"unlabelled\.txt is empty: it must name at least one image, or set dataset\.unlabelled to null",
    ),
    "an image is missing": (
        lambda root: image_of(root, "d").unlink(),
        r"d\.jpg does not exist: add it or take d off its list",
    ),
    "an image is missing, its mask is there": (
        lambda root: image_of(root, "a").unlink(),
        r"a\.jpg does not exist, though mask .*a\.png does",
    ),
    "a labelled image has no mask": (
        lambda root: mask_of(root, "a").unlink(),
        "a has no mask in SegmentationClass/: add it or list a as unlabelled",
    ),
    "a validation image has no mask": (lambda root: mask_of(root, "e").unlink(), "e has no mask"),
    "sizes differ": (
        lambda root: write_ids(root, "a", np.zeros((6, 4))),
        r"a\.png is 4 x 6, but its image is 6 x 4",
    ),
    "an id is out of range": (
        lambda root: write_ids(root, "a", np.full((4, 6), 3)),
        r"a\.png holds class id 3, but ids must be 0 to 2 or 255 \(ignore\)",
    ),
    "an image is in two parts": (
        lambda root: write_list(root, "val", ["e", "a"]),
        "a is in both labelled and validation: each image has one part",
    ),
    "an image is listed twice": (
        lambda root: write_list(root, "val", ["e", "e"]),
        "e is on the validation list twice: list each image once",
    ),
    "a validation image is a copy of a labelled one": (
        lambda root: shutil.copy(image_of(root, "b"), image_of(root, "e")),
        r"b\.jpg \(labelled\) and .*e\.jpg \(validation\) are the same image: take one of them off its list",
    ),
    "a validation image is a copy of an unlabelled one": (
        lambda root: shutil.copy(image_of(root, "d"), image_of(root, "e")),
        r"d\.jpg \(unlabelled\) and .*e\.jpg \(validation\) are the same image",
    ),
    "a mask is empty": (
        lambda root: os.truncate(mask_of(root, "a"), 0),
        r"a\.png is empty: replace it",
    ),
    "a mask has lost ids to JPEG": (
        lambda root: Image.new("L", (6, 4)).save(mask_of(root, "a"), format="JPEG"),
        r"a\.png is a JPEG, which does not keep class ids: save the mask as PNG",
    ),
    "a mask is in colour": (
        lambda root: Image.new("RGB", (6, 4)).save(mask_of(root, "a")),
        r"a\.png is an RGB image, but a mask holds class ids",
    ),
    "an image is truncated": (
        lambda root: image_of(root, "a").write_bytes(image_of(root, "a").read_bytes()[:-40]),
        r"a\.jpg cannot be decoded",
    ),
    "an image is none": (
        lambda root: image_of(root, "a").write_text("text"),
        r"a\.jpg is none of PNG, JPEG",
    ),
    "a mask is none": (
        lambda root: mask_of(root, "a").write_text("text"),
        r"a\.png is none of PNG, JPEG",
    ),
}


def test_an_order_that_does_not_fit_is_told_with_all_other_problems(root):
    write_list(root, "ranks", ["0", "1", "2"])
    mask_of(root, "e").unlink()

    problems = inspect_dataset(DatasetSettings(root=root, classes=CLASSES, order="ranks")).problems

    assert len(problems) == 2
    assert "must hold each of 0 to 1 once" in problems[0]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_is_told_in_one_line_with_its_remedy(root, problem):
    spoil, message = PROBLEMS[problem]
    spoil(root)

    with pytest.raises(DatasetError, match=message) as caught:
        read(root)

    assert "\n" not in str(caught.value)


def test_all_problems_are_listed_at_once(root):
    image_of(root, "a").write_text("text")
    mask_of(root, "b").unlink()
    write_list(root, "val", ["e", "c"])
    write_list(root, "unlabelled", ["c", "missing"])

    with pytest.raises(DatasetError) as caught:
        read(root)

    lines = str(caught.value).splitlines()
    assert lines[0] == f"4 problems in dataset {root}:"
    assert len(lines) == 5
    for part in ("a.jpg is none of", "b has no mask", "c is in both", "missing.jpg does not exist"):
        assert sum(part in line for line in lines) == 1


def test_a_long_list_of_problems_is_cut(root):
    write_list(root, "unlabelled", [f"x{i}" for i in range(SHOWN_PROBLEMS + 7)])

    with pytest.raises(DatasetError) as caught:
        read(root)

    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + SHOWN_PROBLEMS + 1
    assert lines[-1].strip() == "and 7 more"


def test_the_digest_is_the_same_wherever_the_dataset_lies(root, tmp_path):
    shutil.copytree(root, tmp_path / "elsewhere" / "copy")

    assert read(tmp_path / "elsewhere" / "copy").digest == read(root).digest


def change_a_pixel(path: Path) -> None:
    with Image.open(path) as image:
        changed = np.array(image)
    changed[1, 1] = changed[1, 1] // 2 + 7
    Image.fromarray(changed).save(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: change_a_pixel(image_of(root, "a")),
        lambda root: change_a_pixel(image_of(root, "d")),
        lambda root: write_ids(root, "b", np.zeros((4, 6))),
        lambda root: write_ids(root, "e", np.zeros((4, 6))),
        lambda root: write_ids(root, "d", np.zeros((4, 6))),
        lambda root: write_list(root, "labelled", ["b", "a"]),
        lambda root: write_list(root, "unlabelled", ["c"]),
    ],
    ids=["image", "unlabelled image", "mask", "validation mask", "new mask", "order of a list", "shorter list"],
)
def test_the_digest_changes_with_what_is_read(root, change):
    before = read(root).digest

    change(root)

    assert read(root).digest != before


@pytest.mark.parametrize("changes", [{"classes": ("sky", "sea", "sand")}, {"classes": (*CLASSES, "more")}])
def test_the_digest_changes_with_the_classes(root, changes):
    assert read(root, **changes).digest != read(root).digest


def test_the_digest_changes_with_the_ignore_index(root):
    for id in "abce":
        write_ids(root, id, np.zeros((4, 6)))

    assert read(root, ignore_index=254).digest != read(root).digest


def test_a_digest_hangs_on_how_images_are_read_if_that_is_not_the_usual_way(root: Path) -> None:
    usual = read(root).digest
    assert read(root, orientation="exif", scale=None).digest == usual
    others = [
        read(root, scale=(0, 4095)).digest,
        read(root, scale=(0, 255)).digest,
        read(root, orientation="ignore").digest,
    ]
    assert len({usual, *others}) == 4


def test_a_scale_that_does_not_rise_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="scale must rise from 0 or more to 65535 or less, but is"):
        DatasetSettings(root=root, scale=(9, 3))


def test_a_problem_and_a_note_of_a_name_of_two_lines_take_one(tmp_path: Path) -> None:
    for path in ("images/a\nb.png", "images/a\nb.jpg", "masks/un\nread.png"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"no image")
    settings = DatasetSettings(root=tmp_path, layout="folder", classes=CLASSES)
    inspection = inspect_dataset(settings)
    assert r"un\nread.png" in inspection.notes[-1]
    with pytest.raises(DatasetError) as caught:
        open_dataset(settings)
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + len(inspection.problems)
    assert r"a\nb.png" in lines[1]


def test_each_sample_that_is_read_counts_once_as_progress(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "stamp_of", lambda *_: None)
    before = ticks()
    read(root)
    assert ticks() == before + sum(map(len, LISTS.values()))


def test_a_copy_whose_accents_stand_apart_is_the_same_dataset(tmp_path: Path) -> None:
    opened = []
    for form in ("NFC", "NFD"):
        folder, lists = tmp_path / form, {"labelled": "café", "val": "hôtel"}
        for number, (part, id) in enumerate(lists.items()):
            name = unicodedata.normalize(form, id)
            for place in ("images", "masks"):
                (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8)).save(folder / f"images/{name}.png")
            write_mask(folder / f"masks/{name}.png", np.eye(8, dtype=np.uint8), voc_palette())
            (folder / f"{part}.txt").write_text(name)
        settings = DatasetSettings(root=folder, layout="folder", classes=("dark", "light"), unlabelled=None)
        assert not any("on no list" in note for note in inspect_dataset(settings).notes)
        opened.append(open_dataset(settings))
    assert opened[0].digest == opened[1].digest
    assert [sample.id for sample in opened[1].labelled] == ["café"]
