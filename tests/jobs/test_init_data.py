"""From a folder of images and masks to a trained model, by the commands that each step names."""

import os
import re
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from advseg.jobs.init_data import init_data
from advseg.models import load
from advseg.models.resize import LongerSide
from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.opening import inspect_dataset, open_dataset
from advseg.trainers.data.shapes import scene
from advseg.trainers.errors import UserError
from advseg.trainers.pace import Pace

Command = Callable[..., tuple[int, str, str]]
Make = Callable[..., Path]

MADE = ("classes.yaml", "labelled.txt", "val.txt", "unlabelled.txt", "advseg.yaml")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder of photographs as a user may have it: several sizes and suffixes, some with a mask."""

    def make(
        name: str = "My Leaves", *, masked: int = 6, bare: int = 3, rgb: bool = False, size: tuple[int, int] = (32, 40)
    ) -> Path:
        folder = tmp_path / name
        for below in ("images/day 1", "masks/day 1"):
            (folder / below).mkdir(parents=True)
        for number in range(masked + bare):
            image, mask = (np.resize(part, (*size, *part.shape[2:])) for part in scene(3, number, 40))
            id = f"day 1/leaf {number}" if number % 2 else f"leaf_{number}"
            Image.fromarray(image).save(folder / "images" / f"{id}.{'jpg' if number % 3 else 'png'}")
            if number < masked:
                path = folder / "masks" / f"{id}.png"
                if rgb:
                    Image.fromarray(np.array(voc_palette(6), np.uint8)[mask]).save(path)
                else:
                    write_mask(path, mask, voc_palette())
        return folder

    return make


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def init(folder: Path, seed: int = 0) -> list[str]:
    """`advseg data init` on a machine of a known pace."""
    return init_data(
        folder, seed, pace_of=lambda recipe, dataset: Pace(step=0.5, reading=0.1, judging=0.5, drawing=0.5)
    )


def error_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        init(folder)
    return str(caught.value)


class TestTheWay:
    @pytest.mark.parametrize("rgb", [False, True], ids=["ids", "colours"])
    def test_from_images_to_a_model(self, make: Make, advseg: Command, tmp_path: Path, rgb: bool) -> None:
        folder = make(rgb=rgb)

        status, out, _ = advseg("data", "init", folder.name)

        assert status == 0
        said = out.splitlines()
        assert said[:3] == [
            "6 images with a mask, 3 without",
            "all images have 40 x 32 pixels",
            "1 images validate, fewer than 20: figures of so few hang on each image",
        ]
        assert re.fullmatch(
            r"a first training takes about \d+ (minutes|seconds) on cpu with \d+ threads?, and about \d+ "
            r"(minutes|seconds) to its first figure, as a few steps were measured",
            said[3],
        )
        assert said[4:] == [
            *(f"written  My Leaves/{name}" for name in MADE),
            "next:",
            "  advseg data check 'My Leaves/advseg.yaml'",
            "  advseg train 'My Leaves/advseg.yaml'",
            "then a sweep, as the end of the spec says:",
            "  advseg up",
            "  advseg submit 'My Leaves/advseg.yaml' --follow",
        ]

        status, out, err = advseg("data", "check", folder / "advseg.yaml")

        assert (status, err) == (0, "")
        assert (tmp_path / "home/checks/my-leaves.png").is_file()

        fast = ["--set=trainer.steps=2", "--set=method.semi_start=1", "--set=trainer.batch_size=2"]
        status, out, _ = advseg("train", folder / "advseg.yaml", "--to", "run", *fast)

        assert status == 0
        assert load(tmp_path / "run/model").card.classes == tuple(f"class_{id}" for id in range(6))

    def test_without_unlabelled_images(self, make: Make, advseg: Command) -> None:
        folder = make(bare=0)

        said = init(folder)

        assert said[0] == "6 images with a mask, 0 without"
        assert not (folder / "unlabelled.txt").exists()
        assert "Two need unlabelled images and are 0, as there are none" in (folder / "advseg.yaml").read_text()
        method = load_spec(folder / "advseg.yaml").method
        assert (method.lambda_semi, method.lambda_semi_adv) == (0, 0)
        assert method.lambda_adv > 0
        assert advseg("train", folder / "advseg.yaml", "--to", "run", "--set=trainer.steps=1")[0] == 0

    def test_from_images_of_sixteen_bits(self, make: Make, advseg: Command) -> None:
        folder = make(masked=3, bare=1)
        for path in [*(folder / "images").rglob("*.*")]:
            with Image.open(path) as image:
                deep = np.asarray(image.convert("L")).astype(np.uint16) * 16
            path.unlink()
            Image.fromarray(deep).save(path.with_suffix(".png"))

        status, _, err = advseg("data", "init", folder)

        assert status == 2
        assert "by --scale LOW HIGH, or convert it to 8 bits" in err
        assert advseg("data", "init", folder, "--scale", "9", "9")[1:] == (
            "",
            "error: --scale must rise from 0 or more to 65535 or less, but is [9, 9]\n",
        )

        assert advseg("data", "init", folder, "--scale", "0", "4095")[0] == 0
        assert load_spec(folder / "advseg.yaml").dataset.scale == (0, 4095)
        assert advseg("data", "check", folder / "advseg.yaml")[0] == 0

    def test_from_photographs_whose_masks_lie_as_their_pixels_do(self, make: Make, advseg: Command) -> None:
        folder = make(masked=3, bare=0)
        exif = Image.Exif()
        exif[0x0112] = 6
        path = next((folder / "images").rglob("*.jpg"))
        with Image.open(path) as image:
            image.save(path, exif=exif)

        status, _, err = advseg("data", "init", folder)

        assert status == 2
        assert "once turned upright as its EXIF data say: turn the mask, or set" in err
        assert advseg("data", "init", folder, "--orientation", "ignore")[0] == 0
        assert load_spec(folder / "advseg.yaml").dataset.orientation == "ignore"
        assert advseg("data", "check", folder / "advseg.yaml")[0] == 0


class TestWhatItWrites:
    def test_is_a_dataset_with_nothing_wrong(self, make: Make) -> None:
        folder = make(masked=10, bare=4)
        init(folder)

        inspection = inspect_dataset(load_spec(folder / "advseg.yaml").dataset)

        assert inspection.problems == ()
        assert {part: census.images for part, census in inspection.parts.items()} == {
            "labelled": 8,
            "unlabelled": 4,
            "validation": 2,
        }

    def test_is_the_same_for_the_same_seed_alone(self, make: Make) -> None:
        drawn = []
        for number, seed in enumerate((0, 0, 1, 2)):
            folder = make(f"copy {number}", masked=20)
            init(folder, seed)
            drawn.append(lines(folder / "val.txt"))

        assert drawn[0] == drawn[1]
        assert drawn[0] != drawn[2] or drawn[0] != drawn[3]

    def test_keeps_equal_images_together_and_leaves_unlabelled_copies_out(self, make: Make) -> None:
        folder = make(masked=6, bare=1)
        for id in ("leaf_0", "leaf_2", "leaf_4"):
            for kind in ("images", "masks"):
                (found,) = (folder / kind).glob(f"{id}.*")
                found.with_stem(f"copy of {id}").write_bytes(found.read_bytes())
        (image,) = (folder / "images/day 1").glob("leaf 1.*")
        image.with_stem("another leaf 1").write_bytes(image.read_bytes())

        said = init(folder)

        assert "left out, as they equal images with a mask: day 1/another leaf 1" in said
        assert lines(folder / "unlabelled.txt") == ["leaf_6"]
        assert inspect_dataset(load_spec(folder / "advseg.yaml").dataset).problems == ()

    @pytest.mark.parametrize("kept", [["classes.yaml"], ["labelled.txt", "val.txt"], ["advseg.yaml"], list(MADE)])
    def test_never_replaces_a_file(self, make: Make, kept: list[str]) -> None:
        folder = make()
        mine = {
            "classes.yaml": "\n".join(f"- {{name: mine {id}}}" for id in range(6)),
            "labelled.txt": "leaf_0\nleaf_2",
            "val.txt": "leaf_4",
            "unlabelled.txt": "leaf_6",
            "advseg.yaml": "mine",
        }
        for name in kept:
            (folder / name).write_text(mine[name])

        said = init(folder)

        assert [line for line in said if line.startswith("kept")] == [
            f"kept     {folder / name}" for name in MADE if name in kept
        ]
        assert {name for name in MADE if (folder / name).read_text() == mine[name]} == set(kept)

    def test_is_all_or_nothing_beside_a_file_of_the_users_that_is_wrong(self, make: Make) -> None:
        folder = make()
        (folder / "classes.yaml").write_text("mine")

        assert f"{folder / 'classes.yaml'} must be a list of classes" in error_of(folder)
        assert {path.name for path in folder.iterdir()} == {"images", "masks", "classes.yaml"}

    def test_offers_none_whose_accents_only_stand_apart(self, make: Make) -> None:
        folder = make()
        init(folder)
        for name, number in (("NFC", 20), ("NFD", 21)):
            id = unicodedata.normalize(name, f"h\u00f4tel {number}")
            Image.fromarray(np.full((32, 40, 3), number, np.uint8)).save(folder / f"images/{id}.png")
            other = unicodedata.normalize("NFD" if name == "NFC" else "NFC", id)
            with (folder / "unlabelled.txt").open("a") as file:
                file.write(f"{other}\n")

        assert not any("on no list" in line for line in init(folder))

    def test_offers_images_that_came_later_to_the_lists(self, make: Make, advseg: Command) -> None:
        folder = make()
        init(folder)
        assert not any("on no list" in line for line in init(folder))
        for number in range(20, 25):
            Image.fromarray(np.full((32, 40, 3), number, np.uint8)).save(folder / f"images/new {number}.png")
        write_mask(folder / "masks/new 20.png", np.zeros((32, 40), np.uint8), voc_palette())

        said = init(folder)

        labelled, unlabelled = folder / "labelled.txt", folder / "unlabelled.txt"
        place = said.index(f"1 images are on no list, add them to {labelled}: new 20")
        assert said[place + 1 : place + 3] == [
            f"4 images are on no list, add them to {unlabelled}: new 21, new 22, new 23, …",
            "or remove the lists, and they are drawn anew",
        ]
        out = advseg("data", "check", folder / "advseg.yaml")[1]
        assert f"note: 5 images in {folder}/images are on no list of this spec: new 20, new 21, new 22, …" in out

    def test_says_that_masks_came_for_images_that_are_listed_without(self, make: Make, advseg: Command) -> None:
        folder = make(masked=6, bare=5)
        init(folder)
        bare = lines(folder / "unlabelled.txt")
        for id in bare[:4]:
            write_mask(folder / f"masks/{id}.png", np.zeros((32, 40), np.uint8), voc_palette())

        said = init(folder)

        shown = f"{', '.join(bare[:3])}, …"
        place = said.index(
            f"4 images of {folder}/unlabelled.txt have masks now, move them to {folder}/labelled.txt: {shown}"
        )
        assert said[place + 1] == "or remove the lists, and they are drawn anew"
        status, out, _ = advseg("data", "check", folder / "advseg.yaml")
        assert status == 0
        assert (
            "note: 4 images of the unlabelled list have masks now, which are not trained on: move them to the labelled "
            f"list: {shown}\n" in out
        )

        (folder / "unlabelled.txt").write_text(f"{bare[4]}\n")
        with (folder / "labelled.txt").open("a") as file:
            file.writelines(f"{id}\n" for id in bare[:4])

        assert not any("have masks now" in line for line in init(folder))
        assert "have masks now" not in advseg("data", "check", folder / "advseg.yaml")[1]

    def test_keeps_a_split_into_folders(self, make: Make) -> None:
        folder = make()
        for part, numbers in (("train", (0, 1, 2, 6, 7, 8)), ("val", (3, 4, 5))):
            for kind in ("images", "masks"):
                (folder / kind / part).mkdir()
                for path in sorted((folder / kind).rglob("leaf*")):
                    if int(re.findall(r"\d+", path.stem)[0]) in numbers:
                        path.rename(folder / kind / part / path.name)

        said = init(folder)

        assert "validation images are those of the folders, 3 of them; none were drawn" in said
        assert lines(folder / "val.txt") == ["val/leaf 3", "val/leaf 5", "val/leaf_4"]

    def test_trains_on_nothing_in_folders_for_validation_or_tests(self, make: Make) -> None:
        folder = make(masked=7, bare=4)
        for part, numbers in (("train2017", (0, 1, 2, 7)), ("val2017", (3, 4, 8)), ("test2017", (5, 6, 9))):
            for kind in ("images", "masks"):
                (folder / kind / part).mkdir()
                for path in sorted((folder / kind).rglob("leaf*")):
                    if int(re.findall(r"\d+", path.stem)[0]) in numbers:
                        path.rename(folder / kind / part / path.name)

        said = init(folder)

        assert "test images are those of the folders, 2 of them; no training reads them" in said
        assert (
            "left out, as they lie in folders for validation or tests and have no masks: 2 images; add them to "
            "unlabelled.txt if they are to be learnt from"
        ) in said
        dataset = open_dataset(load_spec(folder / "advseg.yaml").dataset)
        assert {part: [sample.id for sample in samples] for part, samples in dataset.parts.items()} == {
            "labelled": ["train2017/leaf 1", "train2017/leaf_0", "train2017/leaf_2"],
            "unlabelled": ["leaf_10", "train2017/leaf 7"],
            "validation": ["val2017/leaf 3", "val2017/leaf_4"],
            "test": ["test2017/leaf 5", "test2017/leaf_6"],
        }
        (folder / "test.txt").write_text("test2017/leaf_6\n")
        assert f"1 images are on no list, add them to {folder / 'test.txt'}: test2017/leaf 5" in init(folder)

    def test_writes_no_list_for_the_test_beside_lists_of_before(self, make: Make) -> None:
        folder = make(masked=4, bare=0)
        (folder / "labelled.txt").write_text("test/leaf_0\n")
        (folder / "val.txt").write_text("leaf_2\n")
        for kind in ("images", "masks"):
            (folder / kind / "test").mkdir()
            (found,) = (folder / kind).glob("leaf_0.*")
            found.rename(folder / kind / "test" / found.name)

        init(folder)

        assert not (folder / "test.txt").exists()
        assert load_spec(folder / "advseg.yaml").dataset.test is None

    def test_says_that_a_split_is_not_kept(self, make: Make) -> None:
        folder = make(masked=4, bare=0)
        for kind in ("images", "masks"):
            (folder / kind).rename(folder / "val")
            (folder / kind).mkdir()
            (folder / "val").rename(folder / kind / "val")

        assert (
            "all images with masks, or all but one, lie in folders for validation or tests: that split is not kept"
        ) in init(folder)

    def test_leaves_nothing_out_in_silence(self, make: Make) -> None:
        folder = make()
        (folder / "images/x.gif").write_bytes(b"GIF89a")
        (folder / "images/y.HEIC").write_bytes(b"heic")
        (folder / "images/._leaf_0.png").write_bytes(b"")

        assert f"not read in {folder / 'images'}: 1 .gif, 1 .heic, 1 hidden" in init(folder)

    @pytest.mark.parametrize("list", ["val.txt", "test.txt"])
    def test_is_not_half_a_draw_beside_a_list_of_the_users(self, make: Make, list: str) -> None:
        folder = make()
        (folder / list).write_text("leaf_0\n")

        expected = f"{folder / list} exists, but labelled.txt does not: write it, or remove {list} so that all"
        assert error_of(folder).startswith(expected)
        assert not (folder / "advseg.yaml").exists()

    def test_tells_sizes_and_keeps_proportions_where_images_are_large(self, make: Make) -> None:
        folder = make(masked=4, bare=0, size=(300, 400))
        for kind, suffix in (("images", "png"), ("masks", "png")):
            path = folder / kind / f"leaf_0.{suffix}"
            with Image.open(path) as image:
                image.resize((300, 500), Image.Resampling.NEAREST).save(path)

        said = init(folder)

        assert "images have 400 x 300 to 300 x 500 pixels, the median 400 x 300; 1 of 4 are on end" in said
        trainer = load_spec(folder / "advseg.yaml").trainer
        assert trainer.resize == LongerSide(longer=256)
        assert trainer.augmentation.crop == (128, 128)

    def test_reads_small_images_at_their_own_size(self, make: Make) -> None:
        folder = make(masked=2, bare=0)
        init(folder)

        trainer = load_spec(folder / "advseg.yaml").trainer

        assert trainer.resize is None
        assert trainer.augmentation.crop == (32, 40)

    def test_says_how_long_it_takes_and_is_of_that_length(self, make: Make) -> None:
        folder = make()

        said = init(folder)

        text, trainer = (folder / "advseg.yaml").read_text(), load_spec(folder / "advseg.yaml").trainer
        assert (trainer.steps, trainer.evaluate_every) == (900, 90)
        assert [line for line in said if line.startswith("a first training takes about 8 minutes on cpu")]
        assert "it takes about 8 minutes, and about 50 seconds to its first figure" in text

    @pytest.mark.parametrize("bare", [0, 3])
    def test_holds_a_sweep_for_whoever_takes_the_hashes_away(self, make: Make, bare: int) -> None:
        folder = make(bare=bare)
        init(folder)
        spec = folder / "advseg.yaml"
        training, _, sweep = spec.read_text().partition("# sweep:")
        uncommented = "".join(line.removeprefix("# ") for line in f"# sweep:{sweep}".splitlines(keepends=True))
        spec.write_text(training.replace("job: train", "job: sweep") + uncommented)

        found = load_spec(spec).sweep

        assert found
        assert found.register_as == "my-leaves"
        assert ("method.lambda_semi" in found.space) == bool(bare)
        assert "#   advseg up\n#   advseg submit advseg.yaml --follow\n" in training

    def test_holds_a_comparison_of_methods_for_whoever_puts_it_in_the_place_of_the_space(self, make: Make) -> None:
        folder = make(bare=3)
        init(folder)
        spec = folder / "advseg.yaml"
        training, _, sweep = spec.read_text().partition("# sweep:")
        searched, told, compared = sweep.partition("# # Which method is best")
        lines = [line.removeprefix("# # ") for line in compared.splitlines()[1:]]
        sections = yaml.safe_load("sweep:" + searched.replace("\n# ", "\n")) | yaml.safe_load(training)
        arms = {"arms": None, **yaml.safe_load("\n".join(lines))}
        kept = {key: value for key, value in sections["sweep"].items() if key not in ("trials", "space", "confirm")}
        spec.write_text(yaml.safe_dump({**sections, "job": "sweep", "sweep": kept | arms}))

        found = load_spec(spec)

        assert [arm.method.name for arm in found.arms.values()] == ["adversarial", "consistency"]
        assert told
        assert found.sweep and found.sweep.budget == 20

    @pytest.mark.parametrize(
        ("name", "expected"),
        [("Äpfel & Birnen 2", "pfel-birnen-2"), ("2024", "2024"), ("1e5", "1e5"), ("no", "no"), ("叶", "my-images")],
    )
    def test_is_named_as_the_folder_is(self, make: Make, name: str, expected: str) -> None:
        folder = make(name, masked=2, bare=0)
        init(folder)

        assert load_spec(folder / "advseg.yaml").name == expected

    def test_says_how_much_of_the_masks_each_class_has(self, make: Make) -> None:
        folder = make(masked=2)
        paths = sorted((folder / "masks").rglob("*.png"))
        write_mask(paths[0], np.resize(np.array([0, 0, 0, 3], np.uint8), (32, 40)), voc_palette())
        write_mask(paths[1], np.zeros((32, 40), np.uint8), voc_palette())
        init(folder)

        assert lines(folder / "classes.yaml")[3:] == [
            "- {name: class_0, colour: [0, 0, 0]} # 87.5 % of the pixels, on 2 of 2 masks",
            "- {name: class_1, colour: [128, 0, 0]} # no mask holds it",
            "- {name: class_2, colour: [0, 128, 0]} # no mask holds it",
            "- {name: class_3, colour: [128, 128, 0]} # 12.5 % of the pixels, on 1 of 2 masks",
        ]

    @pytest.mark.parametrize("rgb", [True, False], ids=["colours", "ids"])
    @pytest.mark.parametrize("black", [2, 8], ids=["rare", "common"])
    def test_asks_whether_a_rare_black_is_void(self, make: Make, rgb: bool, black: int) -> None:
        folder = make(masked=2, bare=0)
        mask = np.resize(np.array([0] * black + [1] * (9 - black) + [2], np.uint8), (32, 40))
        for path in (folder / "masks").rglob("*.png"):
            if rgb:
                Image.fromarray(np.array(voc_palette(3), np.uint8)[mask]).save(path)
            else:
                write_mask(path, mask, voc_palette())
        init(folder)
        path = folder / "classes.yaml"

        asked = [line for line in lines(path) if line.endswith("; is it void? then add `ignore: true`")]

        assert len(asked) == (rgb and black == 2)
        for line in asked:
            assert line.startswith("- {name: class_0, colour: [0, 0, 0]} # 20.0 % of the pixels")
            path.write_text(path.read_text().replace("[0, 0, 0]}", "[0, 0, 0], ignore: true}"))
            dataset = open_dataset(load_spec(folder / "advseg.yaml").dataset)
            assert dataset.classes == ("class_1", "class_2")
            assert np.array_equal(dataset.labelled[0].read_mask(), np.where(mask, 2 - mask, 255))

    def test_ignores_a_contour_and_says_that_this_is_a_guess(self, make: Make) -> None:
        folder = make(rgb=True, size=(32, 160))
        colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192]], np.uint8)
        ids = np.repeat(np.array([0, 3, 1, 3, 2], np.uint8), [48, 4, 56, 4, 48])
        for path in (folder / "masks").rglob("*.png"):
            Image.fromarray(colours[np.resize(ids, (32, 160))]).save(path)
        said = init(folder)

        *_, guess, contour = lines(folder / "classes.yaml")

        assert (
            "colour [224, 224, 192], 5.0 % of the masks' pixels, is ignored: a guess, as it only runs between "
            f"others, in thin lines; is it a class, take `ignore: true` away from it in {folder / 'classes.yaml'}"
        ) in said
        assert guess.startswith("# A guess: this colour only runs between others")
        assert (
            contour == "- {name: contour, colour: [224, 224, 192], ignore: true} # 5.0 % of the pixels, on 6 of 6 masks"
        )
        dataset = open_dataset(load_spec(folder / "advseg.yaml").dataset)
        assert dataset.classes == ("class_0", "class_1", "class_2")


class TestMistakes:
    def test_of_names_that_are_not_utf_8_are_told_before_anything_is_written(self, make: Make, advseg: Command) -> None:
        folder = make()
        (folder / "images/leaf_6.png").rename(os.fsdecode(bytes(folder / "images") + b"/caf\xe9.png"))

        status, out, err = advseg("data", "init", folder)

        assert (status, out) == (2, "")
        assert err == f"error: {folder}/images/caf\\udce9.png has a name that is not UTF-8: rename it and its mask\n"
        assert {path.name for path in folder.iterdir()} == {"images", "masks"}

    def test_are_one_line(self, make: Make, advseg: Command) -> None:
        folder = make(masked=1)

        status, out, err = advseg("data", "init", folder)

        assert (status, out) == (2, "")
        assert err.startswith(f"error: {folder / 'masks'} has masks of fewer than two different images")
        assert err.count("\n") == 1

    @pytest.mark.parametrize("greys", [[0, 255], [0, 127, 255]])
    def test_of_greys_are_mended_by_the_classes_that_are_offered(self, make: Make, greys: list[int]) -> None:
        folder = make()
        for path in (folder / "masks").rglob("*.png"):
            Image.fromarray(np.resize(np.array(greys, np.uint8), (32, 40))).save(path)
        offered = error_of(folder).partition("class: ")[2] or error_of(folder).partition("of each: ")[2]
        (folder / "classes.yaml").write_text(offered)

        init(folder)

        dataset = open_dataset(load_spec(folder / "advseg.yaml").dataset)
        assert dataset.classes == tuple(f"class_{id}" for id in range(len(greys)))
        assert np.unique(dataset.labelled[0].read_mask()).tolist() == list(range(len(greys)))

    def test_leave_nothing_behind(self, make: Make) -> None:
        folder = make()
        for path in (folder / "masks").rglob("*.png"):
            write_mask(path, np.zeros((32, 40), np.uint8), voc_palette())

        assert error_of(folder).startswith("the masks hold 0 alone")
        assert {path.name for path in folder.iterdir()} == {"images", "masks"}

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_nor_does_a_signal(
        self, make: Make, advseg: Command, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        folder, unheard = make(), []

        def measured(*_: object) -> tuple[str, str]:
            assert (folder / "classes.yaml").exists()
            for _ in range(2):
                os.kill(os.getpid(), number)
            return "", ""

        def not_heard(*_: object) -> None:
            unheard.append(number)

        monkeypatch.setattr("advseg.jobs.init_data.measured_spec", measured)
        before = signal.signal(number, not_heard)
        try:
            assert advseg("data", "init", folder) == (130, "", "interrupted\n")
            assert signal.getsignal(number) is not_heard
        finally:
            signal.signal(number, before)
        assert not unheard
        assert {path.name for path in folder.iterdir()} == {"images", "masks"}

    @pytest.mark.parametrize("name", MADE)
    def test_a_folder_is_not_kept_as_a_file(self, make: Make, name: str) -> None:
        folder = make()
        (folder / name).mkdir()

        assert str(folder / name) in error_of(folder)
        assert {path.name for path in folder.iterdir()} == {"images", "masks", name}
