import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.classes import CITYSCAPES_CLASSES, CITYSCAPES_PALETTE, VOC_CLASSES
from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.opening import inspect_dataset, open_dataset
from advseg.trainers.data.samples import FileSample


def ids(samples: tuple[FileSample, ...]) -> list[str]:
    return [sample.id for sample in samples]


def masks(samples: tuple[FileSample, ...]) -> list[str | None]:
    return [sample.mask.parent.name if sample.mask else None for sample in samples]


def problem(settings: DatasetSettings) -> str:
    """The one problem that a dataset has."""
    problems = inspect_dataset(settings).problems
    assert len(problems) == 1
    assert "\n" not in problems[0]
    return problems[0]


def save(path: Path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, np.uint8)).save(path)


class TestVoc:
    def settings(self, root: Path, **changes) -> DatasetSettings:
        parts = {"labelled": "train", "unlabelled": "train_aug", "validation": "val"}
        return DatasetSettings(**{"root": root, **parts, **changes})

    def open(self, root: Path, **changes) -> Dataset:
        return open_dataset(self.settings(root, **changes))

    def test_it_has_vocs_classes_and_palette(self, voc_tree):
        dataset = self.open(voc_tree)

        assert dataset.classes == VOC_CLASSES
        assert dataset.palette == tuple(voc_palette(21))
        assert dataset.ignore_index == 255

    def test_masks_lie_in_both_folders(self, voc_tree):
        dataset = self.open(voc_tree)

        assert ids(dataset.labelled) == [f"2007_{n:06d}" for n in range(4)]
        assert masks(dataset.labelled) == ["SegmentationClass"] * 4
        assert ids(dataset.unlabelled) == [f"2007_{n:06d}" for n in range(4, 8)]
        assert masks(dataset.unlabelled) == ["SegmentationClassAug"] * 4

    def test_segmentation_class_aug_is_looked_at_first(self, voc_tree):
        for mask in (voc_tree / "SegmentationClass").iterdir():
            shutil.copy(mask, voc_tree / "SegmentationClassAug")

        assert set(masks(self.open(voc_tree).labelled)) == {"SegmentationClassAug"}

    @pytest.mark.parametrize("only", ["SegmentationClass", "SegmentationClassAug"])
    def test_one_merged_folder_of_masks_is_enough(self, voc_tree, only):
        other = "SegmentationClassAug" if only == "SegmentationClass" else "SegmentationClass"
        shutil.copytree(voc_tree / other, voc_tree / only, dirs_exist_ok=True)
        shutil.rmtree(voc_tree / other)

        dataset = self.open(voc_tree, labelled="train_aug", unlabelled=None)

        assert masks(dataset.labelled) == [only] * 8

    @pytest.mark.parametrize(
        ("root", "beside"), [(".", "VOCdevkit/VOCaug"), (".", "VOCaug"), ("VOCdevkit", "VOCdevkit/VOCaug")]
    )
    @pytest.mark.parametrize("folder", ["SegmentationClassAug", "dataset/cls"])
    def test_a_devkit_takes_its_further_masks_from_vocaug(self, voc_tree, tmp_path, root, beside, folder):
        (tmp_path / "VOCdevkit").mkdir()
        voc_tree.rename(tmp_path / "VOCdevkit" / "VOC2012")
        target = tmp_path / beside / folder
        target.parent.mkdir(parents=True)
        (tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClassAug").rename(target)

        dataset = self.open(tmp_path / root, labelled="train_aug", unlabelled=None)

        assert masks(dataset.labelled) == ["SegmentationClass"] * 4 + [target.name] * 4

    def test_masks_of_sbd_that_are_mat_files_are_told_once_with_their_conversion(self, voc_tree, tmp_path):
        (tmp_path / "VOCdevkit").mkdir()
        voc_tree.rename(tmp_path / "VOCdevkit" / "VOC2012")
        shutil.rmtree(tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClassAug")
        mat = tmp_path / "VOCdevkit" / "VOCaug" / "dataset" / "cls"
        mat.mkdir(parents=True)
        for number in range(4, 8):
            (mat / f"2007_{number:06d}.mat").write_bytes(b"mat")

        told = problem(self.settings(tmp_path, labelled="train_aug", unlabelled=None))

        assert told.startswith(f"{mat} holds masks as .mat files: save each as a PNG in ")
        assert "scipy.io.loadmat" in told

    def test_png_images_are_found_by_id_too(self, voc_tree):
        path = voc_tree / "JPEGImages" / "2007_000000.jpg"
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()

        assert self.open(voc_tree).labelled[0].image == path.with_suffix(".png")

    def test_suffixes_may_have_capitals_and_be_those_of_other_formats(self, voc_tree):
        images, masks = voc_tree / "JPEGImages", voc_tree / "SegmentationClass"
        (images / "2007_000000.jpg").rename(images / "2007_000000.JPG")
        (masks / "2007_000000.png").rename(masks / "2007_000000.PNG")
        for folder, suffix in ((images, "jpg"), (masks, "png")):
            with Image.open(folder / f"2007_000001.{suffix}") as image:
                image.save(folder / "2007_000001.tif")
            (folder / f"2007_000001.{suffix}").unlink()

        first, second, *_ = self.open(voc_tree).labelled

        assert (first.image.name, first.mask.name) == ("2007_000000.JPG", "2007_000000.PNG")
        assert (second.image.name, second.mask.name) == ("2007_000001.tif", "2007_000001.tif")

    @pytest.mark.parametrize(
        "line",
        [
            "2007_000000",
            "2007_000000.jpg",
            "JPEGImages/2007_000000.jpg",
            "JPEGImages/2007_000000.jpg SegmentationClass/2007_000000.png",
            "/JPEGImages/2007_000000.jpg\t/SegmentationClass/2007_000000.png",
            "/JPEGImages/2007_000000.jpg /SegmentationClassAug/2007_000000.png",
            "{root}/JPEGImages/2007_000000.jpg {root}/SegmentationClass/2007_000000.png",
            "VOC2012/JPEGImages/2007_000000.jpg VOC2012/SegmentationClass/2007_000000.png",
        ],
    )
    def test_a_list_may_name_an_image_in_every_published_form(self, voc_tree, tmp_path, line):
        file = tmp_path / "labeled.txt"
        file.write_text(line.format(root=voc_tree))

        (sample,) = self.open(voc_tree.parent, labelled=str(file)).labelled

        assert sample.id == "2007_000000"
        assert sample.image == voc_tree / "JPEGImages" / "2007_000000.jpg"
        assert sample.mask == voc_tree / "SegmentationClass" / "2007_000000.png"

    def test_a_listed_mask_that_lies_in_the_other_folder_is_found(self, voc_tree):
        (voc_tree / "one.txt").write_text("JPEGImages/2007_000004.jpg SegmentationClass/2007_000004.png")

        assert masks(self.open(voc_tree, labelled=str(voc_tree / "one.txt")).labelled) == ["SegmentationClassAug"]

    def test_a_listed_mask_of_another_name_must_be_there(self, voc_tree):
        (voc_tree / "one.txt").write_text("JPEGImages/2007_000004.jpg SegmentationClass/other.png")

        assert problem(self.settings(voc_tree, labelled=str(voc_tree / "one.txt"))).startswith(
            f"mask {voc_tree / 'SegmentationClass' / 'other.png'} does not exist: add it"
        )

    def test_masks_that_an_unlabelled_list_names_need_not_be_there(self, voc_tree):
        (voc_tree / "SegmentationClassAug" / "2007_000004.png").unlink()
        (voc_tree / "u.txt").write_text("JPEGImages/2007_000004.jpg SegmentationClass/2007_000004.png")

        assert masks(self.open(voc_tree, unlabelled=str(voc_tree / "u.txt")).unlabelled) == [None]

    @pytest.mark.parametrize("listed", ["JPEGImages/{}.jpg JPEGImages/{}.jpg", "{}"], ids=["itself", "another size"])
    def test_no_mask_of_an_unlabelled_image_is_a_problem(self, voc_tree, listed):
        save(voc_tree / "SegmentationClassAug" / "2007_000004.png", np.zeros((3, 3)))
        (voc_tree / "u.txt").write_text(listed.replace("{}", "2007_000004") + "\n2007_000005")
        settings = self.settings(voc_tree, unlabelled=str(voc_tree / "u.txt"))

        inspection = inspect_dataset(settings)

        assert inspection.problems == ()
        assert masks(inspection.dataset.unlabelled) == [None, "SegmentationClassAug"]
        assert inspection.parts["unlabelled"].masks == 1
        (told,) = (note for note in inspection.notes if "masks of 1 unlabelled images are not used" in note)
        assert "2007_000004" in told
        assert open_dataset(settings) == inspection.dataset

    def test_the_other_protocol_trains_on_a_fraction_of_all(self, voc_tree):
        dataset = self.open(voc_tree, labelled="train_aug", unlabelled=None, fraction=1 / 8)

        assert (len(dataset.labelled), len(dataset.unlabelled)) == (1, 7)

    @pytest.mark.parametrize(
        ("gone", "told"),
        [
            ([""], "VOC2012 does not exist: set dataset.root to where it lies, or put JPEGImages/<id>.jpg, "),
            (["JPEGImages"], "VOC2012 has no folder JPEGImages/: put JPEGImages/<id>.jpg, Segmentation"),
            (["SegmentationClass", "SegmentationClassAug"], "no folder SegmentationClassAug/ or SegmentationClass/: "),
            (["ImageSets"], "list .*ImageSets/Segmentation/train.txt does not exist: write one image id per line"),
        ],
    )
    def test_what_is_missing_is_said_to_be_put_where(self, voc_tree, gone, told):
        for name in gone:
            shutil.rmtree(voc_tree / name)

        with pytest.raises(DatasetError, match=told):
            self.open(voc_tree)


class TestCityscapes:
    def settings(self, root: Path, **changes) -> DatasetSettings:
        parts = {"labelled": "train", "unlabelled": None, "validation": "val"}
        return DatasetSettings(**{"layout": "cityscapes", "root": root, **parts, **changes})

    def open(self, root: Path, **changes) -> Dataset:
        return open_dataset(self.settings(root, **changes))

    def mask(self, root: Path, values, kind: str, **changes) -> np.ndarray | None:
        """The first mask, of these values in a file of this kind."""
        place = root / "gtFine" / "train" / "aachen"
        (place / "aachen_000000_000019_gtFine_labelIds.png").unlink()
        pixels = np.full((32, 64), values[0], np.uint8)
        pixels[0, : len(values)] = values
        save(place / f"aachen_000000_000019_gtFine_{kind}.png", pixels)
        mask = self.open(root, **changes).labelled[0].read_mask()
        return None if mask is None else mask[0, : len(values)]

    def test_the_name_of_a_split_lists_all_its_images_in_order(self, cityscapes_tree):
        dataset = self.open(cityscapes_tree)

        assert ids(dataset.labelled) == [f"aachen_{n:06d}_000019" for n in (0, 2, 4)] + [
            f"bochum_{n:06d}_000019" for n in (1, 3, 5)
        ]
        assert ids(dataset.validation) == ["frankfurt_000006_000019", "frankfurt_000007_000019"]

    def test_it_has_the_19_classes_and_their_palette(self, cityscapes_tree):
        dataset = self.open(cityscapes_tree)

        assert (dataset.classes, dataset.palette) == (CITYSCAPES_CLASSES, CITYSCAPES_PALETTE)

    def test_label_ids_are_mapped_by_the_published_table_and_all_else_is_ignored(self, cityscapes_tree):
        table = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, **{v: v - 13 for v in range(19, 29)}, 31: 16, 32: 17, 33: 18}

        mapped = self.mask(cityscapes_tree, list(range(64)), "labelIds")

        assert mapped.tolist() == [table.get(value, 255) for value in range(64)]

    def test_label_ids_are_mapped_to_the_ignore_index_of_the_settings(self, cityscapes_tree):
        assert self.mask(cityscapes_tree, [0, 7, 255], "labelIds", ignore_index=19).tolist() == [19, 0, 19]

    def test_in_train_ids_255_is_ignored_whatever_the_ignore_index_is(self, cityscapes_tree):
        mapped = self.mask(cityscapes_tree, [0, 18, 255], "labelTrainIds", ignore_index=300)

        assert mapped.tolist() == [0, 18, 300]
        assert mapped.dtype == np.int32

    def test_other_train_ids_are_a_problem(self, cityscapes_tree):
        with pytest.raises(DatasetError, match=r"labelTrainIds\.png holds class id 19, but ids must be 0 to 18 or 255"):
            self.mask(cityscapes_tree, [19], "labelTrainIds")

    def test_train_ids_are_looked_at_first(self, cityscapes_tree):
        place = cityscapes_tree / "gtFine" / "train" / "aachen"
        save(place / "aachen_000000_000019_gtFine_labelTrainIds.png", np.full((32, 64), 3))

        assert self.open(cityscapes_tree).labelled[0].read_mask().max() == 3

    @pytest.mark.parametrize(
        "line",
        [
            "bochum_000001_000019",
            "bochum_000001_000019_leftImg8bit.png",
            "bochum/bochum_000001_000019_leftImg8bit.png",
            "train/bochum/bochum_000001_000019_leftImg8bit.png",
            "leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png",
            "leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png "
            "gtFine/train/bochum/bochum_000001_000019_gtFine_labelTrainIds.png",
            "/leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png\t"
            "/gtFine/train/bochum/bochum_000001_000019_gtFine_labelIds.png",
            "{root}/leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png",
        ],
    )
    def test_a_list_may_name_an_image_in_every_published_form(self, cityscapes_tree, line):
        (cityscapes_tree / "some.txt").write_text(line.format(root=cityscapes_tree))

        (sample,) = self.open(cityscapes_tree, labelled="some").labelled

        assert sample.id == "bochum_000001_000019"
        assert sample.image.is_file()
        assert sample.mask.name == "bochum_000001_000019_gtFine_labelIds.png"
        assert sample.read_mask().max() == 255

    def test_a_list_in_the_root_comes_before_the_split_of_its_name(self, cityscapes_tree):
        (cityscapes_tree / "train.txt").write_text("aachen_000002_000019")

        assert ids(self.open(cityscapes_tree).labelled) == ["aachen_000002_000019"]

    @pytest.mark.parametrize(
        ("gone", "told"),
        [
            ("", "cityscapes does not exist: .* or put leftImg8bit/<split>/<city>/<id>_leftImg8bit.png and gtFine/"),
            ("leftImg8bit", "has no folder leftImg8bit/: put leftImg8bit/<split>/<city>/"),
            ("gtFine", "has no folder gtFine/: put leftImg8bit/<split>/<city>/"),
            ("leftImg8bit/val", r"list .*val\.txt does not exist"),
            ("leftImg8bit/val/frankfurt", "holds no <city>/<id>_leftImg8bit.png: put the images of the split there"),
        ],
    )
    def test_what_is_missing_is_said_to_be_put_where(self, cityscapes_tree, gone, told):
        shutil.rmtree(cityscapes_tree / gone)

        with pytest.raises(DatasetError, match=told):
            self.open(cityscapes_tree)

    def test_a_missing_mask_is_said_to_be_put_where(self, cityscapes_tree):
        mask = cityscapes_tree / "gtFine" / "val" / "frankfurt" / "frankfurt_000006_000019_gtFine_labelIds.png"
        mask.unlink()

        assert problem(self.settings(cityscapes_tree)) == (
            f"frankfurt_000006_000019 has no mask: add {mask} or list frankfurt_000006_000019 as unlabelled"
        )

    def test_a_missing_image_is_told_with_its_place(self, cityscapes_tree):
        (cityscapes_tree / "some.txt").write_text("ulm_000000_000019")

        problems = inspect_dataset(self.settings(cityscapes_tree, unlabelled="some")).problems

        assert "leftImg8bit/<split>/ulm/ulm_000000_000019_leftImg8bit.png does not exist" in problems[0]


class TestFolder:
    SKY, SEA, BORDER = (70, 130, 180), (0, 0, 142), (255, 255, 255)

    @pytest.fixture
    def root(self, tmp_path) -> Path:
        """Images of different kinds, one in a folder of its own; d has no mask."""
        root = tmp_path / "mine"
        for number, name in enumerate(("a.jpg", "deep/b.png", "c d.JPEG", "d.png")):
            save(root / "images" / name, np.full((4, 6, 3), 10 * number))
        for name in ("a", "deep/b", "c d"):
            save(root / "masks" / f"{name}.png", [[0, 1, 255, 0, 0, 0]] * 4)
        for name, listed in {"labelled": "a\ndeep/b", "unlabelled": "d", "val": "c d"}.items():
            (root / f"{name}.txt").write_text(listed)
        (root / "classes.yaml").write_text(
            f"- {{name: sky, colour: {list(self.SKY)}}}\n- {{name: sea, colour: {list(self.SEA)}}}\n"
        )
        return root

    def settings(self, root: Path, **changes) -> DatasetSettings:
        return DatasetSettings(**{"layout": "folder", "root": root, **changes})

    def open(self, root: Path, **changes) -> Dataset:
        return open_dataset(self.settings(root, **changes))

    def test_images_and_masks_are_found_by_their_path(self, root):
        dataset = self.open(root)

        assert ids(dataset.labelled) == ["a", "deep/b"]
        assert dataset.labelled[1].mask == root / "masks" / "deep" / "b.png"
        assert (ids(dataset.unlabelled), masks(dataset.unlabelled)) == (["d"], [None])
        assert [sample.image.name for sample in dataset.validation] == ["c d.JPEG"]

    def test_classes_yaml_tells_names_and_colours(self, root):
        dataset = self.open(root)

        assert (dataset.classes, dataset.palette) == (("sky", "sea"), (self.SKY, self.SEA))

    @pytest.mark.parametrize(
        "line", ["a", "a.jpg", "images/a.jpg", "images/a.jpg masks/a.png", "/images/a.jpg\t/masks/a.png", "a.jpg a.png"]
    )
    def test_a_list_may_name_ids_or_files(self, root, line):
        (root / "labelled.txt").write_text(line)

        (sample,) = self.open(root).labelled

        assert (sample.id, sample.mask) == ("a", root / "masks" / "a.png")

    def test_a_pair_may_join_files_of_different_names(self, root):
        (root / "masks" / "a.png").rename(root / "masks" / "a_mask.png")
        (root / "labelled.txt").write_text("images/a.jpg masks/a_mask.png")

        assert self.open(root).labelled[0].mask == root / "masks" / "a_mask.png"

    def test_masks_in_colour_are_read_by_the_colours_of_classes_yaml(self, root):
        with (root / "classes.yaml").open("a") as file:
            file.write(f"- {{name: border, colour: {list(self.BORDER)}, ignore: true}}\n")
        save(root / "masks" / "a.png", [[self.SEA, self.SKY, self.BORDER, self.SEA, self.SEA, self.SEA]] * 4)

        dataset = self.open(root)

        assert dataset.labelled[0].read_mask()[0].tolist() == [1, 0, 255, 1, 1, 1]
        assert dataset.classes == ("sky", "sea")

    def test_the_digest_changes_with_the_meaning_of_a_colour(self, root):
        for name in ("a", "deep/b", "c d"):
            save(root / "masks" / f"{name}.png", [[self.SKY] * 6] * 4)
        before = self.open(root).digest
        (root / "classes.yaml").write_text(
            f"- {{name: sky, colour: {list(self.SEA)}}}\n- {{name: sea, colour: {list(self.SKY)}}}\n"
        )

        assert self.open(root).digest != before

    def test_unknown_colours_are_named(self, root):
        save(root / "masks" / "a.png", [[self.SEA, (1, 2, 3), (9, 9, 9), (1, 2, 4), (200, 0, 0), self.SKY]] * 4)

        assert problem(self.settings(root)) == (
            f"{root}/masks/a.png holds colours that classes.yaml does not name, [1, 2, 3], [1, 2, 4], [9, 9, 9] "
            f"and 1 more: add them there or mend the mask"
        )

    def test_masks_in_colour_need_the_colours_of_the_classes(self, root):
        (root / "classes.yaml").write_text("- name: sky\n- name: sea\n")
        save(root / "masks" / "a.png", [[self.SEA] * 6] * 4)

        assert "a.png is an RGB image, but a mask holds class ids" in (told := problem(self.settings(root)))
        assert "name every class's colour in a classes.yaml" in told

    def test_classes_of_the_settings_stand_in_for_classes_yaml(self, root):
        (root / "classes.yaml").unlink()

        dataset = self.open(root, classes=("sky", "sea"))

        assert (dataset.classes, dataset.palette) == (("sky", "sea"), tuple(voc_palette(2)))

    def test_the_palette_is_then_that_of_the_masks(self, root):
        (root / "classes.yaml").unlink()
        write_mask(root / "masks" / "a.png", np.zeros((4, 6)), [self.BORDER, self.SEA])

        assert self.open(root, classes=("sky", "sea")).palette == (self.BORDER, self.SEA)

    def test_without_either_all_other_problems_are_told_as_well(self, root):
        (root / "classes.yaml").unlink()
        (root / "masks" / "a.png").unlink()

        problems = inspect_dataset(self.settings(root)).problems

        assert [p.partition(":")[0] for p in problems] == [f"{root}/classes.yaml does not exist", "a has no mask"]

    def test_classes_that_differ_from_classes_yaml_are_a_problem(self, root):
        assert problem(self.settings(root, classes=("sea", "sky"))) == (
            f"{root}/classes.yaml names sky, sea, but dataset.classes is sea, sky: "
            f"remove dataset.classes or mend the file"
        )

    def test_two_images_of_one_id_are_a_problem(self, root):
        save(root / "images" / "a.png", np.zeros((4, 6, 3)))

        assert "a.jpg and " in (told := problem(self.settings(root)))
        assert "both have the id a: rename one" in told

    @pytest.mark.parametrize(
        ("gone", "told"),
        [
            ("", "mine does not exist: set dataset.root to where it lies, or put images/<id>.jpg or .png, masks/"),
            ("images", "mine has no folder images/: put images/<id>.jpg or .png, masks/<id>.png, <list>.txt"),
            ("masks", "mine has no folder masks/: put images/<id>.jpg or .png, masks/<id>.png, <list>.txt"),
        ],
    )
    def test_what_is_missing_is_said_to_be_put_where(self, root, gone, told):
        shutil.rmtree(root / gone)

        with pytest.raises(DatasetError, match=told):
            self.open(root)

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "../../etc/passwd", "<>:|?*"])
    def test_a_name_that_no_file_can_have_is_a_missing_image(self, root, name):
        (root / "unlabelled.txt").write_text(name)

        assert "does not exist: add it or take" in problem(self.settings(root))
