import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from advseg.models import manifest
from advseg.models.manifest import MANIFEST, write_directory
from advseg.models.resize import LongerSide, size_of
from advseg.trainers.checkpoint import CHECKPOINTS, newest_checkpoint
from advseg.trainers.data import pack, packing
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.images import voc_palette, write_mask
from advseg.trainers.data.notes import few_note
from advseg.trainers.data.opening import inspect_dataset, open_dataset
from advseg.trainers.data.pack import PackedSample
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.scaled import ScaledSamples, resized
from advseg.trainers.data.shapes import CLASSES
from advseg.trainers.data.streams import Stream
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.reporter import Report, Reporters

PARTS = ("labelled", "unlabelled", "validation")
SHARDS = [f"{part}-00000.arrow" for part in PARTS]


def voc(root: Path) -> DatasetSettings:
    """Images of several sizes, one of them on its side, and an unlabelled one without a mask."""
    (root / "SegmentationClassAug" / "2007_000005.png").unlink()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.effect_noise((24, 16), 99).convert("RGB").save(root / "JPEGImages" / "2007_000000.jpg", exif=exif)
    mask = np.arange(24 * 16, dtype=np.uint8).reshape(24, 16) % 21
    write_mask(root / "SegmentationClass" / "2007_000000.png", mask, voc_palette())
    return DatasetSettings(root=root, labelled="train", unlabelled="train_aug")


def sixteen_bits(root: Path) -> DatasetSettings:
    """Ids above 255."""
    for number, path in enumerate(sorted(root.glob("SegmentationClass*/*.png"))):
        with Image.open(path) as mask:
            size = mask.size[::-1]
        ids = np.random.default_rng(number).choice(np.array([0, 7, 299, 1000], np.uint16), size)
        Image.fromarray(ids).save(path)
    classes = tuple(f"class {id}" for id in range(300))
    return DatasetSettings(root=root, labelled="train", unlabelled="train_aug", classes=classes, ignore_index=1000)


def some_of_sixteen_bits(root: Path) -> DatasetSettings:
    """Masks of one byte a pixel and of four in one part, of odd sizes."""
    for number, path in enumerate(sorted(root.glob("SegmentationClass*/*.png"))):
        ids = np.full((5, 3 + 2 * (number % 3)), number, np.uint16 if number % 2 else np.uint8)
        Image.fromarray(ids).save(path)
        Image.new("RGB", ids.shape[::-1], (20 * number, 0, 0)).save(root / "JPEGImages" / f"{path.stem}.jpg")
    return DatasetSettings(root=root, labelled="train", unlabelled="train_aug", fraction=0.5)


def colours(root: Path) -> DatasetSettings:
    """A folder of one's own with masks of colours."""
    for folder in ("images/deep", "masks/deep"):
        (root.parent / "own" / folder).mkdir(parents=True)
    root = root.parent / "own"
    (root / "classes.yaml").write_text("[{name: sky, colour: [1, 2, 3]}, {name: sea, colour: [9, 8, 7]}]")
    for number, part in enumerate(("labelled", "unlabelled", "val")):
        (root / f"{part}.txt").write_text(f"deep/{part}")
        Image.new("RGB", (6, 4), (number, 0, 0)).save(root / f"images/deep/{part}.png")
        table = np.array([[1, 2, 3], [9, 8, 7]], np.uint8)
        ids = np.random.default_rng(number).integers(0, 2, (4, 6))
        Image.fromarray(table[ids]).save(root / f"masks/deep/{part}.png")
    return DatasetSettings(root=root, layout="folder")


def sixteen_bits_of_light(root: Path) -> DatasetSettings:
    """Images of 16 bits, read by a scale, and not turned."""
    settings = voc(root)
    for number, path in enumerate(sorted((root / "JPEGImages").iterdir())):
        with Image.open(path) as image:
            values = np.random.default_rng(number).integers(0, 4096, image.size[::-1], np.uint16)
        path.unlink()
        Image.fromarray(values).save(path.with_suffix(".png"))
    write_mask(root / "SegmentationClass" / "2007_000000.png", np.zeros((16, 24), np.uint8), voc_palette())
    return replace(settings, scale=(0, 4095), orientation="ignore")


def only_labelled(root: Path) -> DatasetSettings:
    """No unlabelled images at all."""
    return DatasetSettings(root=root, labelled="train", unlabelled=None)


KINDS: dict[str, Callable[[Path], DatasetSettings]] = {
    kind.__name__: kind
    for kind in (voc, sixteen_bits, sixteen_bits_of_light, some_of_sixteen_bits, colours, only_labelled)
}


@pytest.fixture
def plain(voc_tree: Path) -> DatasetSettings:
    """A dataset in files, of which `packed` holds a pack."""
    return voc(voc_tree)


@pytest.fixture
def packed(plain: DatasetSettings, tmp_path: Path) -> DatasetSettings:
    """The settings that read its pack."""
    write_pack(tmp_path / "pack", open_dataset(plain), plain)
    return replace(plain, pack=str(tmp_path / "pack"))


def assert_same(one: Dataset, other: Dataset) -> None:
    for name in ("classes", "palette", "ignore_index", "decoding", "digest", "notes"):
        assert getattr(one, name) == getattr(other, name)
    for ours, theirs in zip(one.parts.values(), other.parts.values(), strict=True):
        assert [sample.id for sample in ours] == [sample.id for sample in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert (a.has_mask, a.read_size()) == (b.has_mask, b.read_size())
            for x, y in ((a.read_image(), b.read_image()), (a.read_mask(), b.read_mask())):
                assert (x is None) == (y is None)
                if x is not None and y is not None:
                    assert (x.dtype, x.shape) == (y.dtype, y.shape)
                    assert np.array_equal(x, y)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_holds_what_the_files_hold(voc_tree, tmp_path, kind):
    plain = KINDS[kind](voc_tree)
    dataset = open_dataset(plain)
    write_pack(tmp_path / "pack", dataset, plain)

    assert_same(open_dataset(replace(plain, pack=str(tmp_path / "pack"))), dataset)


def test_an_image_without_a_mask_has_none_in_the_pack(packed):
    with_mask = {sample.id: sample.has_mask for sample in open_dataset(packed).unlabelled}

    assert [id for id, has in with_mask.items() if not has] == ["2007_000005"]
    assert len(with_mask) == 4


class Pictured:
    """A sample in memory."""

    def __init__(self, id: str, image: np.ndarray, mask: np.ndarray | None) -> None:
        self.id, self.has_mask = id, mask is not None
        self.read_image, self.read_mask, self.read_size = lambda: image, lambda: mask, lambda: image.shape[:2]


@st.composite
def samples(draw: st.DrawFn) -> Pictured:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from([None, np.uint8, np.int32]))
    mask = None if dtype is None else rng.integers(0, 256 if dtype == np.uint8 else 65536, (height, width), dtype)
    return Pictured(draw(st.text(max_size=5)), rng.integers(0, 256, (height, width, 3), np.uint8), mask)


@settings(deadline=None, max_examples=25)
@given(drawn=st.lists(samples(), max_size=6), shard_bytes=st.integers(1, 999))
def test_any_samples_survive_in_shards_of_any_size(tmp_path_factory, drawn, shard_bytes):
    dataset = Dataset(
        labelled=tuple(drawn),
        unlabelled=(),
        validation=tuple(drawn[:1]),
        classes=("a", "b"),
        palette=((0, 0, 0), (1, 2, 3)),
        ignore_index=255,
        digest="0",
    )
    folder, chosen = tmp_path_factory.mktemp("drawn") / "pack", DatasetSettings(root=Path("nowhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHARD_BYTES", shard_bytes)
        write_pack(folder, dataset, chosen)

    assert_same(open_dataset(replace(chosen, pack=str(folder))), dataset)


def test_shards_are_small_and_in_order(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "SHARD_BYTES", 17_000)

    card = write_pack(tmp_path / "pack", open_dataset(plain), plain)

    assert [shard.images for shard in card.shards["labelled"]] == [2, 2]
    batches = [pa.ipc.open_file(tmp_path / "pack" / f"labelled-{number:05}.arrow").read_all() for number in (0, 1)]
    ids = [id for batch in batches for id in batch["id"].to_pylist()]
    assert ids == [sample.id for sample in open_dataset(plain).labelled]


class TestTheBytesOfAPack:
    def test_are_the_same_whenever_and_wherever_it_is_made(self, plain, packed, tmp_path):
        elsewhere = replace(plain, root=Path(shutil.copytree(plain.root, tmp_path / "elsewhere")))

        write_pack(tmp_path / "again", open_dataset(elsewhere), elsewhere)

        assert files(tmp_path / "again") == files(Path(packed.pack))
        assert sorted(files(Path(packed.pack))) == sorted([MANIFEST, "pack.json", *SHARDS])

    def test_are_the_same_from_a_pack(self, plain, packed, tmp_path):
        write_pack(tmp_path / "again", open_dataset(packed), plain)

        assert files(tmp_path / "again") == files(Path(packed.pack))

    def test_are_not_compressed(self, packed):
        content = (Path(packed.pack) / "validation-00000.arrow").read_bytes()

        assert all(sample.read_image().tobytes() in content for sample in open_dataset(packed).validation)


class TestReading:
    def test_copies_nothing_and_decodes_nothing(self, packed):
        before = pa.total_allocated_bytes()
        for samples in open_dataset(packed).parts.values():
            for sample in samples:
                image, again = sample.read_image(), sample.read_image()
                assert np.shares_memory(image, again)
                assert not image.flags.owndata
                assert image.flags.c_contiguous
                if (mask := sample.read_mask()) is not None:
                    assert np.shares_memory(mask, sample.read_mask())
                    assert not mask.flags.owndata
        assert pa.total_allocated_bytes() - before < 1000

    def test_gives_arrays_that_nobody_can_write_into(self, packed):
        sample = open_dataset(packed).labelled[0]

        for array in (sample.read_image(), sample.read_mask()):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_needs_neither_the_images_nor_the_pack_by_its_name(self, plain, packed, tmp_path):
        expected = [sample.read_image() for sample in open_dataset(plain).labelled]
        shutil.rmtree(plain.root)
        dataset = open_dataset(packed)
        Path(packed.pack).rename(tmp_path / "moved")

        assert all(np.array_equal(s.read_image(), image) for s, image in zip(dataset.labelled, expected, strict=True))

    def test_goes_on_where_a_sample_outlives_its_dataset(self, packed):
        sample = open_dataset(packed).labelled[1]
        image = sample.read_image()
        del sample

        assert image.sum() == open_dataset(packed).labelled[1].read_image().sum()

    def test_of_another_process_maps_the_file_itself(self, packed):
        sample = open_dataset(packed).labelled[1]
        image = sample.read_image()

        sent = pickle.dumps(sample)

        assert image.tobytes()[:64] not in sent
        assert np.array_equal(pickle.loads(sent).read_image(), image)

    def test_is_safe_from_many_threads(self, packed):
        samples = open_dataset(packed).labelled
        expected = [int(sample.read_image().sum()) for sample in samples]
        asked = np.random.default_rng(0).integers(0, len(samples), 400)

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda index: int(samples[index].read_image().sum()), asked))

        assert found == [expected[index] for index in asked]


class TestTrainingFromAPack:
    @pytest.fixture
    def both(self, program, shapes_root, tmp_path) -> tuple[Dataset, Dataset]:
        """The shapes, in files and packed."""
        plain = DatasetSettings(root=shapes_root, classes=CLASSES)
        write_pack(tmp_path / "pack", open_dataset(plain), plain)
        return open_dataset(plain), open_dataset(replace(plain, pack=str(tmp_path / "pack")))

    @pytest.mark.parametrize("resize", [None, (40, 28)])
    def test_shows_the_same_crops(self, plain, packed, resize):
        chosen = AugmentationSettings(crop=(30, 30), scale=(0.5, 1.5))
        shown = []
        for dataset in (open_dataset(plain), open_dataset(packed)):
            options = {"digest": dataset.digest, "split": "x", "seed": 1, "ignore_index": dataset.ignore_index}
            for samples in dataset.parts.values():
                stream = Stream(samples, **options, batch_size=4, augmentation=chosen, scaled=ScaledSamples(resize))
                crops = [stream.crops(step, range(4)) for step in range(3)]
                shown.append([(crop.images, crop.labels, crop.valid) for crop in crops])

        for ours, theirs in zip(shown[:3], shown[3:], strict=True):
            assert all(torch.equal(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))

    @pytest.mark.parametrize("resize", [(12, 20), LongerSide(longer=16, multiple=4), LongerSide(longer=99)])
    def test_at_its_size_shows_the_same_crops_and_judges_by_the_same_images(self, plain, tmp_path, resize):
        dataset, settings = open_dataset(plain), replace(plain, pack=str(tmp_path / "pack"))
        write_pack(tmp_path / "pack", resized(dataset, resize), plain)
        packed = open_dataset(settings)

        assert (packed.digest, packed.resized) == (dataset.digest, resize)
        chosen = AugmentationSettings(crop=(10, 10), scale=(0.5, 1.5))
        options = {"digest": "d", "split": "x", "seed": 1, "ignore_index": 255, "batch_size": 4, "augmentation": chosen}
        for part in ("labelled", "unlabelled"):
            ours, theirs = (
                Stream(each.parts[part], **options, scaled=ScaledSamples(resize)).crops(1, range(4))
                for each in (dataset, packed)
            )
            assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in vars(ours))
            assert [sample.read_size() for sample in packed.parts[part]] == [
                size_of(resize, sample.read_size()) for sample in dataset.parts[part]
            ]
        assert_same(*(replace(each, labelled=(), unlabelled=()) for each in (packed, dataset)))

    def test_of_another_size_is_refused(self, program, shapes, tmp_path):
        message = (
            r"^the pack holds training images at trainer\.resize \[12, 20\], but here it is {longer: 16, multiple: 1}: "
        )
        with pytest.raises(UserError, match=message):
            Training(program.recipe_of(resize=LongerSide(longer=16)), resized(shapes, (12, 20)), tmp_path)

    def test_ends_in_the_same_bits_and_figures(self, program, both, tmp_path):
        ends = [run(program, dataset, tmp_path / str(number)) for number, dataset in enumerate(both)]

        assert ends[0] == ends[1]

    @pytest.mark.parametrize("first", [0, 1], ids=["from files", "from a pack"])
    def test_goes_on_where_the_other_stopped(self, program, both, tmp_path, first):
        expected = run(program, both[first], tmp_path / "alone")
        with pytest.raises(InterruptedError):
            run(program, both[first], tmp_path / "stopped", StopAt(4))

        assert run(program, both[1 - first], tmp_path / "stopped") == expected

    def test_warns_of_nothing_where_images_are_resized_and_jittered(self, program, both, tmp_path):
        recipe = program.recipe_of(steps=2, evaluate_every=2, resize=(40, 40))

        outcome = Training(recipe, both[1], tmp_path / "run").run(Reporters())

        assert outcome.step == 2


class StopAt:
    """Interrupts a run at a report."""

    def __init__(self, step: int) -> None:
        self.step = step

    def report(self, report: Report) -> None:
        if report.step == self.step:
            raise InterruptedError


def run(program, dataset: Dataset, folder: Path, *reporters: StopAt) -> tuple[dict[str, float], dict[str, bytes]]:
    """Figures and last checkpoint of six steps."""
    recipe = program.recipe_of(steps=6, evaluate_every=2, semi_start=1)
    outcome = Training(recipe, dataset, folder).run(Reporters(*reporters))
    found = newest_checkpoint(folder / CHECKPOINTS)
    assert found
    return outcome.metrics, files(found[0])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def reseal(folder: Path, **changes: object) -> None:
    """Write a whole pack whose card says something else; of None nothing."""
    kept = {name: content for name, content in files(folder).items() if name != MANIFEST}
    said = {**json.loads(kept["pack.json"]), **changes}
    kept["pack.json"] = json.dumps({key: value for key, value in said.items() if value is not None}).encode()
    write_directory(folder, lambda place: [(place / name).write_bytes(content) for name, content in kept.items()])


def replace_shard(folder: Path, table: pa.Table) -> None:
    path = folder / "labelled-00000.arrow"
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    shards = json.loads((folder / "pack.json").read_text())["shards"]
    reseal(folder, shards=shards | {"labelled": [{"images": 1, "bytes": path.stat().st_size}]})


def rows(**changes: object) -> pa.Table:
    row = {"id": "a", "height": 2, "width": 3, "image": bytes(18), "mask": bytes(6)}
    return pa.Table.from_pylist([{**row, **changes}], schema=pack.SCHEMA)


def other_manifest(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 99)
        reseal(folder)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"pack does not exist: write it by `advseg data pack`, or remove dataset\.pack"),
    "another folder": (lambda folder: (folder / "pack.json").unlink(), r"is no pack, as it has no pack\.json: name a"),
    "a file": (lambda folder: shutil.rmtree(folder) or folder.touch(), "pack does not exist"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), f"has no {MANIFEST}.*: remove it and write it again"),
    "a damaged card": (lambda folder: flip(folder / "pack.json", 9), r"pack\.json differs from its checksum"),
    "a truncated part": (
        lambda folder: os.truncate(folder / "labelled-00000.arrow", 999),
        r"labelled-00000\.arrow has 999 bytes, but must have \d+: copy the pack as a whole",
    ),
    "a missing part": (
        lambda folder: (folder / "validation-00000.arrow").unlink(),
        r"validation-00000\.arrow does not exist",
    ),
    "a damaged footer": (
        lambda folder: flip(folder / "labelled-00000.arrow", -9),
        r"labelled-00000\.arrow cannot be read",
    ),
    "another format version": (
        lambda folder: reseal(folder, format_version=7),
        "has format version 7, but this program reads 2: remove it",
    ),
    "a card of other parts": (
        lambda folder: reseal(folder, shards={"labelled": []}),
        r"pack\.json is no card of a pack \(it must list the shards of labelled, unlabelled, validation\): remove it",
    ),
    "a card of other keys": (lambda folder: reseal(folder, more=1), r"pack\.json is no card of a pack \("),
    "a card of other types": (lambda folder: reseal(folder, palette=3), r"pack\.json is no card of a pack \("),
    "a card of odd shards": (
        lambda folder: reseal(folder, shards={part: [{"images": "1", "bytes": 9}] for part in PARTS}),
        r"pack\.json is no card of a pack \(it must count the images and bytes of each shard\): remove it",
    ),
    "another format version of the manifest": (other_manifest, "has format version 99, but this program reads"),
    "other columns": (
        lambda folder: replace_shard(folder, rows().drop_columns("mask")),
        r"labelled-00000\.arrow cannot be read \(its columns are not those of a pack\)",
    ),
    "an image of another size": (
        lambda folder: replace_shard(folder, rows(image=bytes(17))),
        "lengths of images or masks do not match their heights and widths",
    ),
    "a mask of another size": (lambda folder: replace_shard(folder, rows(mask=bytes(7))), "lengths of images or masks"),
    "a negative size": (
        lambda folder: replace_shard(folder, rows(height=-2, width=-3)),
        "lengths of images or masks",
    ),
    "no pixels": (lambda folder: replace_shard(folder, rows(width=0, image=b"", mask=b"")), "lengths of images or mas"),
    "no samples": (
        lambda folder: replace_shard(folder, rows().slice(0, 0)),
        "it has 0 record batches, but a shard has one",
    ),
    "more samples": (
        lambda folder: replace_shard(folder, pa.concat_tables([rows(), rows()]).combine_chunks()),
        "has 2 samples, but must have 1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_pack_is_refused_in_a_line_with_its_remedy(packed, damage):
    harm, message = DAMAGES[damage]
    harm(Path(packed.pack))

    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(packed)

    assert packed.pack in str(caught.value)
    assert "\n" not in str(caught.value)
    assert inspect_dataset(packed).problems == (str(caught.value),)


def test_a_row_that_lies_outside_its_file_is_refused(packed):
    path = Path(packed.pack) / "labelled-00000.arrow"
    content = path.read_bytes()
    starts = pa.ipc.open_file(path).get_batch(0).column("image").buffers()[1].to_pybytes()
    far = np.frombuffer(starts, np.int64) + 2**40
    path.write_bytes(content.replace(starts, far.tobytes()))

    with pytest.raises(DatasetError, match="images or masks lie outside the file"):
        open_dataset(packed)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_wrong_with_its_bytes_a_pack_is_read_or_refused(packed, data):
    path = Path(packed.pack) / "labelled-00000.arrow"
    whole = path.read_bytes()
    content = bytearray(whole)
    # What is not pixels lies at the front and at the end.
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 2000) | st.integers(-2000, -1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    try:
        images = [sample.read_image() for sample in open_dataset(packed).labelled]
    except DatasetError as error:
        assert str(path) in str(error)
    else:
        assert [image.ndim for image in images] == [3] * 4
    finally:
        path.write_bytes(whole)


class TestInspection:
    def test_of_a_pack_of_before_there_were_notes_finds_those_of_its_masks(self, packed):
        reseal(Path(packed.pack), notes=None)
        assert open_dataset(packed).notes == ()
        assert few_note(3) in inspect_dataset(packed).notes

    def test_of_a_pack_shows_what_that_of_the_files_shows(self, plain, packed):
        ours, theirs = inspect_dataset(packed), inspect_dataset(plain)

        assert ours.problems == theirs.problems == ()
        assert ours.classes == theirs.classes
        for part in PARTS:
            assert ours.parts[part] == theirs.parts[part]
            assert np.array_equal(ours.parts[part].pixels, theirs.parts[part].pixels)
        assert packed.pack in ours.notes[0]
        assert ours.notes[1:] == theirs.notes != ()

    @pytest.mark.parametrize("part", PARTS)
    def test_finds_a_pixel_that_has_changed_which_opening_does_not(self, packed, part):
        flip(path := Path(packed.pack) / f"{part}-00000.arrow", path.stat().st_size // 2)

        open_dataset(packed)
        inspection = inspect_dataset(packed)

        assert inspection.dataset is None
        (problem,) = inspection.problems
        assert f"{part}-00000.arrow differs from its checksum in {MANIFEST}: remove it and write it again" in problem


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"layout": "folder"}, 'dataset.layout is "folder", but the pack has "voc"'),
            ({"labelled": "train_aug"}, 'dataset.labelled is "train_aug", but the pack has "train"'),
            ({"unlabelled": None}, 'dataset.unlabelled is null, but the pack has "train_aug"'),
            ({"validation": "test"}, 'dataset.validation is "test", but the pack has "val"'),
            ({"fraction": 0.5}, "dataset.fraction is 0.5, but the pack has 1.0"),
            ({"split_seed": 3}, "dataset.split_seed is 3, but the pack has 0"),
            ({"order": "ranks"}, 'dataset.order is "ranks", but the pack has null'),
            ({"classes": ("sky", "sea")}, 'dataset.classes is ["sky", "sea"], but the pack has []'),
            ({"scale": (0, 4095)}, "dataset.scale is [0, 4095], but the pack has null"),
            ({"orientation": "ignore"}, 'dataset.orientation is "ignore", but the pack has "exif"'),
            ({"ignore_index": 0}, "dataset.ignore_index is 0, but the pack has 255"),
            (
                {"ignore_index": 0, "fraction": 0.5},
                "dataset.fraction is 0.5, but the pack has 1.0; dataset.ignore_index is 0, but the pack has 255",
            ),
        ],
    )
    def test_other_than_the_packs_are_refused_with_both_values(self, packed, changes, told):
        with pytest.raises(DatasetError) as caught:
            open_dataset(replace(packed, **changes))

        remedy = "restore them, or write a pack of these into another folder by `advseg data pack`"
        assert str(caught.value) == f"pack {packed.pack} was made with other settings: {told}: {remedy}"

    def test_that_an_older_pack_does_not_name_are_the_usual_ones(self, packed):
        card = json.loads((Path(packed.pack) / "pack.json").read_text())
        del card["settings"]["scale"], card["settings"]["orientation"]
        reseal(Path(packed.pack), settings=card["settings"])

        assert open_dataset(packed).digest == card["digest"]
        with pytest.raises(DatasetError, match=r'dataset\.orientation is "ignore", but the pack has "exif"'):
            open_dataset(replace(packed, orientation="ignore"))

    def test_may_name_another_place(self, plain, packed):
        assert open_dataset(replace(packed, root=Path("nowhere"))).digest == open_dataset(plain).digest

    @pytest.fixture
    def listed(self, plain: DatasetSettings, tmp_path: Path) -> DatasetSettings:
        """A pack whose labelled list is the file 1_4/labeled.txt."""
        for share, ids in (("1_4", "2007_000000"), ("1_8", "2007_000001")):
            (tmp_path / share).mkdir()
            (tmp_path / share / "labeled.txt").write_text(ids)
        chosen = replace(plain, labelled=str(tmp_path / "1_4" / "labeled.txt"))
        write_pack(tmp_path / "listed", open_dataset(chosen), chosen)
        return replace(chosen, pack=str(tmp_path / "listed"))

    def test_may_name_the_same_list_in_another_place(self, listed, tmp_path):
        copied = str(shutil.copy(tmp_path / "1_4" / "labeled.txt", tmp_path / "copy.txt"))

        assert [sample.id for sample in open_dataset(replace(listed, labelled=copied)).labelled] == ["2007_000000"]

    def test_may_not_name_another_list_of_the_same_name(self, listed, tmp_path):
        other = replace(listed, labelled=str(tmp_path / "1_8" / "labeled.txt"))

        with pytest.raises(
            DatasetError, match=r"dataset\.labelled is 1_8/labeled\.txt \(SHA-256 \w{8}\), but the pack"
        ):
            open_dataset(other)

    def test_may_not_name_a_list_that_has_changed(self, listed, tmp_path):
        (tmp_path / "1_4" / "labeled.txt").write_text("2007_000002")

        with pytest.raises(DatasetError, match="was made with other settings"):
            open_dataset(listed)

    def test_are_compared_by_a_lists_name_where_it_does_not_lie(self, listed):
        moved = replace(listed, labelled="/another/machine/1_4/labeled.txt")

        assert open_dataset(moved).digest == open_dataset(listed).digest
        with pytest.raises(DatasetError, match=r"is 1_8/labeled\.txt, but the pack has 1_4/labeled\.txt \(SHA"):
            open_dataset(replace(listed, labelled="/another/machine/1_8/labeled.txt"))


class TestWriting:
    def test_that_is_killed_leaves_no_half_pack_and_is_made_up_for(self, plain, packed, tmp_path):
        program = f"""
import os, signal
from pathlib import Path
from advseg.trainers.data import packing
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.samples import FileSample

reads, read_image = iter(range(99)), FileSample.read_image

def dying(sample):
    if next(reads) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_image(sample)

FileSample.read_image, packing.SHARD_BYTES = dying, 1
settings = DatasetSettings(root=Path({str(plain.root)!r}), labelled="train", unlabelled="train_aug")
packing.write_pack(Path({str(tmp_path / "killed" / "pack")!r}), open_dataset(settings), settings)
"""
        done = subprocess.run([sys.executable, "-c", program])

        assert done.returncode == -signal.SIGKILL
        (left,) = (tmp_path / "killed").iterdir()
        assert left.match(".pack.*.partial")
        write_pack(tmp_path / "killed" / "pack", open_dataset(plain), plain)
        assert files(tmp_path / "killed" / "pack") == files(Path(packed.pack))
        assert [path.name for path in (tmp_path / "killed").iterdir()] == ["pack"]

    def test_of_an_image_that_breaks_meanwhile_leaves_nothing(self, plain, tmp_path):
        dataset = open_dataset(plain)
        os.truncate(dataset.validation[-1].image, 700)

        with pytest.raises(UserError, match=r"\.jpg cannot be decoded"):
            write_pack(tmp_path / "new" / "pack", dataset, plain)

        assert not list((tmp_path / "new").iterdir())

    def test_is_refused_before_it_starts_where_there_is_no_room(self, plain, tmp_path, monkeypatch):
        dataset = open_dataset(plain)
        pixels = sum(np.prod(s.read_size()) * (3 + s.has_mask) for part in dataset.parts.values() for s in part)
        asked = []

        def usage(place: Path) -> SimpleNamespace:
            asked.append(place)
            return SimpleNamespace(free=pixels - 1)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(UserError, match=r"pack needs 0\.00 GB, but its disk has 0\.00 GB free: make room, or name"):
            write_pack(tmp_path / "not" / "there" / "pack", dataset, plain)

        assert asked == [tmp_path]
        assert not (tmp_path / "not").exists()

    def test_on_a_disk_that_fills_up_is_told_in_a_line_and_leaves_nothing(self, plain, tmp_path):
        resource = pytest.importorskip("resource")
        dataset = open_dataset(plain)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
            with pytest.raises(UserError, match=r"cannot be written \(File too large\): make room, or name") as caught:
                write_pack(tmp_path / "new" / "pack", dataset, plain)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "new").iterdir())


def test_a_packed_sample_is_light_to_show(packed):
    sample = open_dataset(packed).labelled[0]

    assert isinstance(sample, PackedSample)
    assert repr(sample) == "PackedSample(row=0)"


class TestBringing:
    """Where shards come when they are first read."""

    @pytest.fixture
    def whole(self, plain: DatasetSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A pack of a shard for each image."""
        monkeypatch.setattr(packing, "SHARD_BYTES", 1)
        write_pack(tmp_path / "whole", open_dataset(plain), plain)
        return tmp_path / "whole"

    @pytest.fixture
    def beginning(self, whole: Path, tmp_path: Path) -> Path:
        """What has to be there first."""
        (tmp_path / "here").mkdir()
        for name in ("pack.json", MANIFEST):
            shutil.copy(whole / name, tmp_path / "here")
        return tmp_path / "here"

    def test_shows_the_same_and_brings_a_shard_when_it_is_read(self, plain, whole, beginning):
        brought = []

        def bring(name: str) -> None:
            brought.append(name)
            shutil.copy(whole / name, beginning)

        dataset = pack.open_pack(beginning, plain, bring)
        assert brought == []
        dataset.labelled[2].read_mask()
        dataset.labelled[2].read_image()
        assert brought == ["labelled-00002.arrow"]
        assert_same(dataset, open_dataset(plain))
        assert len(brought) == len(set(brought)) == sum(map(len, dataset.parts.values()))

    def test_what_is_wrong_with_a_shard_is_told_when_it_is_read(self, plain, beginning):
        dataset = pack.open_pack(beginning, plain, lambda name: (beginning / name).touch())

        with pytest.raises(DatasetError, match=r"labelled-00001\.arrow has 0 bytes, but must have \d+"):
            dataset.labelled[1].read_image()
