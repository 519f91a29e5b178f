import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from advseg.jobs import predict as job
from advseg.jobs.evaluate import evaluate_model
from advseg.jobs.picture import picture
from advseg.jobs.predict import load_model
from advseg.jobs.scenes import find_images, find_scenes
from advseg.jobs.train import train
from advseg.models import load
from advseg.models.bundle import save as save_model
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.packs import open_dataset
from advseg.trainers.data.images import write_mask
from advseg.trainers.data.masks import read_mask
from advseg.trainers.errors import UserError
from advseg.trainers.metrics import class_iou, confusion, mean
from advseg.trainers.reporter import Reporters

TILE, GAP = 144, 4
SLIDING = ["trainer.evaluation.mode=sliding", "trainer.evaluation.window=[8, 12]", "trainer.evaluation.stride=0.5"]


@pytest.fixture
def images(shapes: Path) -> list[Path]:
    return sorted((shapes / "JPEGImages").iterdir())[:2]


@pytest.fixture(scope="module")
def sliding(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that was judged window by window, and at several scales."""
    folder = tmp_path_factory.mktemp("sliding")
    averages = ["trainer.evaluation.scales=[0.75, 1.25]", "trainer.evaluation.flip=true"]
    # Of few steps it would give all pixels one class, whichever way it reads them.
    optimizer = ["trainer.segmenter_optimizer.name=sgd", "trainer.segmenter_optimizer.lr=0.01"]
    steps = ["trainer.steps=40", "trainer.evaluate_every=40", *optimizer]
    train(load_spec(spec, [*SLIDING, *averages, *steps]), folder, Reporters())
    return folder / "model"


def predict(model: Path, images: list[Path], to: Path, *, averaged: bool = False) -> list[Path]:
    return [Path(mask) for mask in job.predict(model, [str(image) for image in images], str(to), averaged=averaged)]


def save(path: Path, width: int, height: int, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height)).save(path)
    return path


class TestPredicting:
    def test_writes_masks_of_class_ids_in_the_models_palette(
        self, model: Path, images: list[Path], tmp_path: Path
    ) -> None:
        wide = save(tmp_path / "wide.png", 40, 24)
        written = predict(model, [*images, wide], tmp_path / "to" / "masks")
        assert [path.name for path in written] == [f"{images[0].stem}.png", f"{images[1].stem}.png", "wide.png"]
        card = load(model).card
        for path, size in zip(written, [(16, 16), (16, 16), (40, 24)], strict=True):
            with Image.open(path) as mask:
                assert (mask.mode, mask.size, mask.format) == ("P", size, "PNG")
                flat = mask.getpalette("RGB")
                assert flat
                assert flat[: 3 * len(card.palette)] == [value for colour in card.palette for value in colour]
                assert np.asarray(mask).max() < len(card.classes)

    def test_gives_the_most_probable_class(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        (path,) = predict(model, images[:1], tmp_path)
        with Image.open(images[0]) as image, Image.open(path) as mask:
            expected = load(model).probabilities(np.asarray(image)).argmax(0).numpy()
            assert (np.asarray(mask) == expected).all()

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
    def test_takes_images_of_every_mode(self, model: Path, tmp_path: Path, mode: str) -> None:
        assert len(predict(model, [save(tmp_path / "image.png", 16, 16, mode)], tmp_path / "to")) == 1

    def test_refuses_an_image_too_small_for_the_network(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"dot.png is 1 x 16, but an image must be at least 8 x 8 pixels"):
            predict(model, [save(tmp_path / "dot.png", 1, 16)], tmp_path / "to")
        assert len(predict(model, [save(tmp_path / "least.png", 8, 8)], tmp_path / "to")) == 1

    def test_writes_nothing_if_one_image_is_bad(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        bad = tmp_path / "bad.png"
        bad.write_text("no image")
        with pytest.raises(UserError, match="none of PNG, JPEG, TIFF, BMP and WebP"):
            predict(model, [*images, bad], tmp_path / "to")
        assert not (tmp_path / "to").exists()

    def test_refuses_two_images_of_one_name(self, model: Path, tmp_path: Path) -> None:
        twins = [save(tmp_path / folder / "image.png", 16, 16) for folder in "ab"]
        with pytest.raises(UserError, match="would have the same mask"):
            predict(model, twins, tmp_path / "to")

    def test_refuses_to_replace_an_image(self, model: Path, tmp_path: Path) -> None:
        image = save(tmp_path / "image.png", 16, 16)
        before = image.read_bytes()
        with pytest.raises(UserError, match=r"would replace image .* name another folder with --to"):
            predict(model, [tmp_path], tmp_path)
        assert image.read_bytes() == before

    @pytest.mark.parametrize("name", ["elsewhere.png", "nowhere.png", "images"])
    def test_never_writes_through_a_link(self, model: Path, images: list[Path], tmp_path: Path, name: str) -> None:
        (tmp_path / "elsewhere.png").write_text("mine")
        (tmp_path / "images").mkdir()
        (tmp_path / "to").mkdir()
        (tmp_path / "to" / f"{images[1].stem}.png").symlink_to(tmp_path / name)
        with pytest.raises(UserError, match=r"\.png is there and no regular file: remove it, or name another place"):
            predict(model, images, tmp_path / "to")
        assert len(list((tmp_path / "to").iterdir())) == 1
        assert (tmp_path / "elsewhere.png").read_text() == "mine"
        assert not (tmp_path / "nowhere.png").exists()

    def test_replaces_masks_of_before(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        before = [path.read_bytes() for path in predict(model, images, tmp_path)]
        (tmp_path / f"{images[0].stem}.png").write_bytes(before[1])
        assert [path.read_bytes() for path in predict(model, images, tmp_path)] == before
        assert {path.suffix for path in tmp_path.iterdir()} == {".png"}

    @pytest.mark.parametrize("what", ["photograph", "drawn mask", "notes", "empty"])
    def test_replaces_nothing_that_it_did_not_write(
        self, model: Path, images: list[Path], tmp_path: Path, what: str
    ) -> None:
        image, other = save(tmp_path / "a.jpg", 16, 16), tmp_path / "a.png"
        match what:
            case "photograph":
                save(other, 16, 16)
            case "drawn mask":
                write_mask(other, np.zeros((16, 16)), [(0, 0, 0)])
            case "notes":
                other.write_text("mine")
            case "empty":
                other.touch()
        before = other.read_bytes()
        with pytest.raises(UserError, match=r"a\.png is there and no mask that this version of predict wrote: remove"):
            predict(model, [images[0], image], tmp_path)
        assert other.read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a.png"}

    def test_refuses_a_mask_in_the_place_of_a_folder_that_another_needs(self, model: Path, tmp_path: Path) -> None:
        for name in ("a.jpg", "a.png/b.jpg", "z.jpg"):
            save(tmp_path / "s" / name, 16, 16)
        with pytest.raises(UserError, match=r"to/a\.png would be the mask of \S*a\.jpg and the folder of that of \S*b"):
            predict(model, [tmp_path / "s" / "**" / "*.jpg"], tmp_path / "to")
        assert not (tmp_path / "to").exists()

    @pytest.mark.parametrize("taken", ["to", "to/monday"])
    def test_refuses_a_file_where_it_needs_a_folder(self, model: Path, tmp_path: Path, taken: str) -> None:
        for name in ("a.jpg", "monday/a.jpg"):
            save(tmp_path / "s" / name, 16, 16)
        (tmp_path / taken).parent.mkdir(exist_ok=True)
        (tmp_path / taken).write_text("mine")
        with pytest.raises(UserError, match=rf"{taken} is no folder, as mask \S+\.png needs: remove it"):
            predict(model, [tmp_path / "s" / "**" / "*.jpg"], tmp_path / "to")
        assert [path.name for path in tmp_path.rglob("*.png")] == []

    @pytest.mark.parametrize("what", ["pipe", "device", "loop"])
    def test_refuses_what_is_called_an_image_and_no_file(self, model: Path, tmp_path: Path, what: str) -> None:
        path = tmp_path / "images" / "odd.png"
        save(tmp_path / "images" / "even.png", 16, 16)
        match what:
            case "pipe":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "loop":
                path.symlink_to("odd.png")
        with pytest.raises(UserError, match=r"odd\.png cannot be read \((no regular file|.*symbolic links)\)"):
            predict(model, [tmp_path / "images"], tmp_path / "to")
        assert not (tmp_path / "to").exists()

    def test_refuses_a_network_that_computes_nothing(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        loaded = load(model)
        huge = {name: torch.full_like(tensor, 1e38) for name, tensor in loaded.segmenter.state_dict().items()}
        save_model(tmp_path / "model", replace(loaded.card, discriminator=None), huge, None)
        with pytest.raises(UserError, match=r"model is of no use .the network computes NaN.*pull or train"):
            predict(tmp_path / "model", images, tmp_path / "to")
        assert not (tmp_path / "to").exists()

    def test_an_image_that_breaks_off_goes_without_and_is_told_at_the_end(
        self, model: Path, images: list[Path], tmp_path: Path
    ) -> None:
        whole = images[0].read_bytes()
        (tmp_path / "half.jpg").write_bytes(whole[: len(whole) * 3 // 4])
        with pytest.raises(UserError, match=r"^\S*half\.jpg cannot be decoded.*\n2 of 3 images have masks now in"):
            predict(model, [tmp_path / "half.jpg", *images], tmp_path / "to")
        assert {path.stem for path in (tmp_path / "to").iterdir()} == {image.stem for image in images}

    def test_takes_an_image_that_is_named_twice_once(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        assert len(predict(model, [images[0], images[0]], tmp_path)) == 1


class TestProtocol:
    @pytest.mark.parametrize(("averaged", "figure"), [(False, "miou"), (True, "miou_multiscale")])
    def test_masks_are_those_by_which_the_model_was_judged(
        self, sliding: Path, spec: Path, shapes: Path, tmp_path: Path, averaged: bool, figure: str
    ) -> None:
        read = load_spec(spec, [*SLIDING, "trainer.evaluation.scales=[0.75, 1.25]", "trainer.evaluation.flip=true"])
        judged = evaluate_model(sliding, read, tmp_path / "results")
        dataset = open_dataset(read.dataset)
        images = [shapes / "JPEGImages" / f"{sample.id}.jpg" for sample in dataset.validation]

        masks = predict(sliding, images, tmp_path / "masks", averaged=averaged)

        predicted = [torch.from_numpy(read_mask(mask)).long()[None] for mask in masks]
        truth = [torch.from_numpy(read_mask(shapes / "SegmentationClass" / mask.name)).long()[None] for mask in masks]
        classes = len(dataset.classes)
        matrix = sum(confusion(ours, theirs, classes, 255) for ours, theirs in zip(predicted, truth, strict=True))
        assert isinstance(matrix, torch.Tensor)
        assert mean(class_iou(matrix, 255)) == judged[figure]
        if not averaged:
            assert judged[figure] == load(sliding).card.metrics["val/miou"]
            whole = [load(sliding).probabilities(np.asarray(Image.open(image))).argmax(0)[None] for image in images]
            # That model has other masks where it reads images whole.
            assert any((ours != theirs).any() for ours, theirs in zip(predicted, whole, strict=True))

    def test_without_a_second_figure_there_is_nothing_to_average_as(
        self, model: Path, images: list[Path], tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="has neither scales nor flip; leave out --averaged"):
            predict(model, images, tmp_path / "to", averaged=True)
        assert not (tmp_path / "to").exists()

    @pytest.mark.parametrize("trainer", [{"evaluation": {"mode": "odd"}}, {"evaluation": 3}, {"speed": 3}])
    def test_a_card_that_does_not_say_how_is_refused(
        self, model: Path, images: list[Path], tmp_path: Path, trainer: dict[str, Any]
    ) -> None:
        loaded = load(model)
        card = replace(loaded.card, discriminator=None, lineage={"spec": {"trainer": trainer}})
        save_model(tmp_path / "model", card, loaded.segmenter.state_dict(), None)
        with pytest.raises(UserError, match=r"does not say how it reads images, .*install that which trained it"):
            predict(tmp_path / "model", images, tmp_path / "to")


class TestPatterns:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "photos"
        for name in ("a.png", "monday/a.png", "monday/late/b.png", "monday/._a.png", ".trash/c.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            save(root / name, 16, 16)
        (root / "notes.txt").touch()
        return root

    @pytest.mark.parametrize(
        ("pattern", "masks"),
        [
            ("**/*.png", ["a.png", "monday/a.png", "monday/late/b.png"]),
            ("**", ["a.png", "monday/a.png", "monday/late/b.png"]),
            ("monday/*", ["a.png"]),
            ("*/[a-b].png", ["monday/a.png"]),
        ],
    )
    def test_keep_the_folders_below_their_fixed_part(
        self, model: Path, tree: Path, tmp_path: Path, pattern: str, masks: list[str]
    ) -> None:
        written = predict(model, [tree / pattern], tmp_path / "to")
        assert sorted(path.relative_to(tmp_path / "to").as_posix() for path in written) == masks
        assert all(path.is_file() for path in written)

    def test_of_no_image_are_refused(self, model: Path, tree: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no PNG or JPEG images in \S*/photos/\*\.txt: name images"):
            predict(model, [tree / "*.txt"], tmp_path / "to")

    def test_a_file_of_that_very_name_is_that_file(self, model: Path, tree: Path, tmp_path: Path) -> None:
        save(tree / "x[1].png", 16, 16)
        assert [path.name for path in predict(model, [tree / "x[1].png"], tmp_path / "to")] == ["x[1].png"]


class TestS3:
    @pytest.fixture
    def bucket(self, new_bucket: Any, moto_server: str, images: list[Path]) -> str:
        bucket = new_bucket(moto_server)
        store = open_store(f"{bucket}/photos")
        for key in ("a.jpg", "monday/a.jpg", "monday/late/b.JPG", ".trash/a.jpg"):
            store.write(key, images[0].read_bytes())
        store.write("notes.txt", b"")
        return bucket

    @pytest.mark.parametrize(
        ("source", "masks"),
        [
            ("photos", [".trash/a.png", "a.png", "monday/a.png", "monday/late/b.png"]),
            ("photos/monday", ["a.png", "late/b.png"]),
            ("photos/a.jpg", ["a.png"]),
            ("photos/**/a.jpg", ["a.png", "monday/a.png"]),
            ("photos/*/*.jpg", ["monday/a.png"]),
            ("photos/**", ["a.png", "monday/a.png", "monday/late/b.png"]),
        ],
    )
    def test_images_below_a_prefix_get_masks_below_another(
        self, model: Path, images: list[Path], bucket: str, tmp_path: Path, source: str, masks: list[str]
    ) -> None:
        (local,) = predict(model, images[:1], tmp_path)
        written = job.predict(model, [f"{bucket}/{source}"], f"{bucket}/masks")
        assert written == [f"{bucket}/masks/{mask}" for mask in masks]
        store = open_store(f"{bucket}/masks")
        assert store.keys() == masks
        assert {store.read(key) for key in masks} == {local.read_bytes()}

    def test_a_bad_image_goes_without_and_is_told_at_the_end(self, model: Path, bucket: str, tmp_path: Path) -> None:
        store = open_store(f"{bucket}/photos")
        store.write("bad.png", b"no image")
        store.write("worse.png", b"no image")
        with pytest.raises(UserError) as caught:
            job.predict(model, [f"{bucket}/photos"], str(tmp_path / "to"))
        head, *lines, last = str(caught.value).splitlines()
        assert (head, last) == ("2 problems in 6 images:", f"4 of 6 images have masks now in {tmp_path / 'to'}")
        assert [line.split(" is ")[0] for line in lines] == [f"  {bucket}/photos/{n}.png" for n in ("bad", "worse")]
        assert (tmp_path / "to" / "monday" / "late" / "b.png").is_file()

    def test_no_image_is_replaced(self, model: Path, bucket: str) -> None:
        open_store(bucket).write("photos/c.png", b"no matter")
        with pytest.raises(UserError, match=r"mask s3://\S+/photos/c\.png would replace image"):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/photos")

    def test_masks_of_before_alone_are_replaced(self, model: Path, bucket: str) -> None:
        for _ in range(2):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/masks")
        open_store(f"{bucket}/masks").write("monday/a.png", b"mine")
        with pytest.raises(UserError, match=r"s3://\S+/masks/monday/a\.png is there and no mask that this version"):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/masks")
        assert open_store(f"{bucket}/masks").read("monday/a.png") == b"mine"

    def test_nothing_there_is_refused(self, model: Path, bucket: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no PNG or JPEG images in s3://\S+/nothing: name"):
            job.predict(model, [f"{bucket}/nothing"], str(tmp_path / "to"))


class TestFinding:
    def test_takes_files_as_they_are_and_images_of_folders(self, tmp_path: Path) -> None:
        for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg"):
            (tmp_path / name).touch()
        found = find_images([tmp_path, tmp_path / "notes.txt"])
        assert [path.name for path in found] == ["a.png", "b.JPG", "c.jpeg", "notes.txt"]

    def test_in_folders_of_a_folder_take_a_pattern(self, tmp_path: Path) -> None:
        (tmp_path / "photos" / "monday").mkdir(parents=True)
        (tmp_path / "photos" / "monday" / "a.jpg").touch()
        pattern = f"{tmp_path}/photos/**/*.jpg"
        with pytest.raises(UserError, match=f"named by a pattern in quotes, as '{re.escape(pattern)}'$"):
            find_images([tmp_path / "photos"])
        assert len(find_scenes([pattern])) == 1

    def test_of_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no PNG or JPEG images in"):
            find_images([tmp_path])
        with pytest.raises(UserError, match="does not exist"):
            find_images([tmp_path / "no.png"])


class TestModel:
    def test_that_is_none_is_refused(self, tmp_path: Path, model: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        for path in (tmp_path, file, model.parent / "checkpoints" / "step-00000004"):
            with pytest.raises(UserError, match="pull or train the model again"):
                load_model(path)

    def test_that_was_changed_is_refused(self, model: Path, tmp_path: Path) -> None:
        shutil.copytree(model, tmp_path / "model")
        with (tmp_path / "model" / "model.json").open("a") as card:
            card.write(" ")
        with pytest.raises(UserError, match="differs from its checksum"):
            load_model(tmp_path / "model")


class TestPicture:
    @pytest.mark.parametrize(("names", "columns"), [("a", 4), ("ab", 5)])
    def test_has_a_column_for_image_truth_each_model_and_confidence(
        self, model: Path, images: list[Path], shapes: Path, tmp_path: Path, names: str, columns: int
    ) -> None:
        out = tmp_path / "new" / "picture.png"
        picture(out, images, shapes / "SegmentationClass", dict.fromkeys(names, model))
        with Image.open(out) as drawn:
            assert drawn.format == "PNG"
            assert drawn.width == columns * (TILE + GAP) + GAP
            assert drawn.height > len(images) * TILE

    def test_has_no_confidence_without_a_discriminator(
        self, spec: Path, images: list[Path], shapes: Path, tmp_path: Path
    ) -> None:
        lambdas = [f"method.{name}=0" for name in ("lambda_adv", "lambda_semi", "lambda_semi_adv")]
        train(load_spec(spec, ["trainer.steps=1", *lambdas]), tmp_path / "run", Reporters())
        picture(tmp_path / "out.png", images, shapes / "SegmentationClass", {"plain": tmp_path / "run" / "model"})
        with Image.open(tmp_path / "out.png") as drawn:
            assert drawn.width == 3 * (TILE + GAP) + GAP

    def test_is_never_written_through_a_link(
        self, model: Path, images: list[Path], shapes: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        (tmp_path / "out.png").symlink_to("mine.txt")
        with pytest.raises(UserError, match=r"out\.png is there and no regular file"):
            picture(tmp_path / "out.png", images, shapes / "SegmentationClass", {"a": model})
        assert (tmp_path / "mine.txt").read_text() == "mine"

    def test_needs_the_truth_of_every_image(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match=f"{images[0].stem}.png does not exist"):
            picture(tmp_path / "out.png", images, tmp_path, {"a": model})
        assert not (tmp_path / "out.png").exists()
