import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from advseg.jobs import mask_writer
from advseg.jobs import predict as job
from advseg.jobs.encoding import Kind
from advseg.jobs.evaluate import evaluate_model
from advseg.jobs.picture import picture
from advseg.jobs.predict import load_model
from advseg.jobs.scenes import find_images, find_scenes
from advseg.jobs.train import train
from advseg.models import load
from advseg.models.bundle import save as save_model
from advseg.models.decoding import Decoding
from advseg.models.model import Model, Prediction
from advseg.platform.spec.spec_file import load_spec
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.packs import open_dataset
from advseg.platform.storage.s3_client import AT_ONCE, s3_client
from advseg.trainers.data.images import write_mask
from advseg.trainers.data.masks import read_mask
from advseg.trainers.errors import IncompleteError, UserError
from advseg.trainers.metrics import class_iou, confusion, mean
from advseg.trainers.reporter import Reporters

Meanwhile = Callable[[Callable[[], object]], None]

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


def predict(model: Path, images: list[Path], to: Path, **options: Any) -> list[Path]:
    return [Path(mask) for mask in job.predict(model, [str(image) for image in images], str(to), **options).masks]


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

    def test_reads_images_of_sixteen_bits_by_the_scale_of_its_card(self, model: Path, tmp_path: Path) -> None:
        values = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint16)
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / "light.png")
        Image.fromarray(values * 16 + 100).save(tmp_path / "deep.png")
        loaded = load(model)
        assert loaded.discriminator
        states = loaded.segmenter.state_dict(), loaded.discriminator.state_dict()
        scaling = Decoding(scale=(100, 100 + 16 * 255))
        save_model(tmp_path / "scaling", replace(loaded.card, decoding=scaling), *states)
        deep, light = tmp_path / "deep.png", tmp_path / "light.png"

        (mask,) = predict(tmp_path / "scaling", [deep], tmp_path / "to")

        (expected,) = predict(model, [light], tmp_path / "expected")
        assert np.array_equal(read_mask(mask), read_mask(expected))
        scaled = load(tmp_path / "scaling")
        assert torch.equal(scaled.probabilities(deep), loaded.probabilities(light))
        with pytest.raises(IncompleteError, match=r"deep\.png has 16 bits a channel.*: convert it to 8 bits"):
            predict(model, [deep], tmp_path / "other")

    def test_gives_the_most_probable_class(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        (path,) = predict(model, images[:1], tmp_path)
        with Image.open(images[0]) as image, Image.open(path) as mask:
            expected = load(model).probabilities(np.asarray(image)).argmax(0).numpy()
            assert (np.asarray(mask) == expected).all()

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
    def test_takes_images_of_every_mode(self, model: Path, tmp_path: Path, mode: str) -> None:
        assert len(predict(model, [save(tmp_path / "image.png", 16, 16, mode)], tmp_path / "to")) == 1

    def test_refuses_an_image_too_small_for_the_network(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(IncompleteError, match=r"dot.png is 1 x 16, but an image must be at least 8 x 8 pixels"):
            predict(model, [save(tmp_path / "dot.png", 1, 16)], tmp_path / "to")
        assert len(predict(model, [save(tmp_path / "least.png", 8, 8)], tmp_path / "to")) == 1

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
        with pytest.raises(
            UserError, match=rf"^1 file in {tmp_path} was changed .*, or not written by this .*: a\.png; name"
        ):
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
    def test_passes_over_what_is_called_an_image_and_no_file(self, model: Path, tmp_path: Path, what: str) -> None:
        path = tmp_path / "images" / "odd.png"
        save(tmp_path / "images" / "even.png", 16, 16)
        match what:
            case "pipe":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "loop":
                path.symlink_to("odd.png")
        with pytest.raises(IncompleteError, match=r"odd\.png cannot be read \((no regular file|.*symbolic links)\)"):
            predict(model, [tmp_path / "images"], tmp_path / "to")
        assert [mask.name for mask in (tmp_path / "to").iterdir()] == ["even.png"]

    def test_refuses_a_network_that_computes_nothing(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        loaded = load(model)
        huge = {name: torch.full_like(tensor, 1e38) for name, tensor in loaded.segmenter.state_dict().items()}
        save_model(tmp_path / "model", replace(loaded.card, discriminator=None), huge, None)
        with pytest.raises(UserError, match=r"model is of no use .the network computes NaN.*pull or train"):
            predict(tmp_path / "model", images, tmp_path / "to")
        assert not (tmp_path / "to").exists()

    def test_images_that_cannot_be_read_go_without_and_are_told_at_the_end(
        self, model: Path, images: list[Path], tmp_path: Path
    ) -> None:
        whole = images[0].read_bytes()
        (tmp_path / "half.jpg").write_bytes(whole[: len(whole) * 3 // 4])
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(IncompleteError) as caught:
            predict(model, [tmp_path / "half.jpg", images[0], tmp_path / "text.png", images[1]], tmp_path / "to")
        head, half, text, last = str(caught.value).splitlines()
        assert (head, last) == ("2 problems in 4 images:", f"2 of 4 images have masks now in {tmp_path / 'to'}")
        assert "half.jpg cannot be decoded" in half
        assert "text.png is none of PNG, JPEG, TIFF, BMP and WebP" in text
        assert {path.stem for path in (tmp_path / "to").iterdir()} == {image.stem for image in images}

    def test_a_name_that_is_too_long_for_a_file_costs_no_other_image_its_mask(
        self, model: Path, tmp_path: Path
    ) -> None:
        longest = "x" * 251
        images = [save(tmp_path / "images" / f"{name}.png", 16, 16) for name in ("a", longest, "z")]
        to = tmp_path / "to"
        assert [mask.name for mask in predict(model, images, to)] == ["a.png", f"{longest}.png", "z.png"]

        with pytest.raises(IncompleteError) as caught:
            predict(model, images, to, beside=[Kind.OVERLAY])

        assert str(caught.value) == (
            f"{to / longest}{Kind.OVERLAY}: File name too long: shorten its name\n2 of 3 images have masks now in {to}"
        )
        assert (to / f"z{Kind.OVERLAY}").exists()

    def test_takes_an_image_that_is_named_twice_once(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        assert len(predict(model, [images[0], images[0]], tmp_path)) == 1


class TestBesideMasks:
    def test_lie_overlay_probabilities_and_confidence(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        (mask,) = predict(model, images[:1], tmp_path, beside=[Kind.OVERLAY, Kind.PROBABILITIES, Kind.CONFIDENCE])
        stem, loaded = images[0].stem, load(model)
        assert {path.name for path in tmp_path.iterdir()} == {f"{stem}{kind}" for kind in Kind}
        image = np.asarray(Image.open(images[0]))
        probabilities = loaded.probabilities(image)
        with np.load(tmp_path / f"{stem}.npz") as arrays:
            assert tuple(arrays["classes"]) == loaded.card.classes
            np.testing.assert_allclose(arrays["probabilities"], probabilities, atol=1e-3)
        confidence = np.asarray(Image.open(tmp_path / f"{stem}.confidence.png"))
        np.testing.assert_allclose(confidence / 255, loaded.confidence(probabilities), atol=1 / 255)
        overlay = np.asarray(Image.open(tmp_path / f"{stem}.overlay.png"))
        colours = np.array(loaded.card.palette, np.uint8)[np.asarray(Image.open(mask))]
        left = (overlay.shape[1] - image.shape[1]) // 2
        seen = overlay[: image.shape[0], left : left + image.shape[1]].astype(float)
        assert np.abs(seen - (image.astype(float) + colours) / 2).max() <= 1

    def test_confidence_takes_a_discriminator(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        loaded = load(model)
        card = replace(loaded.card, discriminator=None)
        save_model(tmp_path / "model", card, loaded.segmenter.state_dict(), None)
        with pytest.raises(UserError, match="without a discriminator, so it has no confidence map: leave out --conf"):
            predict(tmp_path / "model", images, tmp_path / "to", beside=[Kind.CONFIDENCE])
        assert not (tmp_path / "to").exists()

    def test_nothing_is_replaced_either(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        (tmp_path / f"{images[0].stem}.npz").write_text("mine")
        with pytest.raises(UserError, match=r"not written by this version of it: \S+\.npz; name"):
            predict(model, images, tmp_path, beside=[Kind.PROBABILITIES])
        assert len(list(tmp_path.iterdir())) == 1

    def test_what_another_image_needs_is_refused(self, model: Path, tmp_path: Path) -> None:
        for name in ("a.jpg", "a.overlay.jpg"):
            save(tmp_path / "s" / name, 16, 16)
        with pytest.raises(UserError, match=r"would have the same mask \S*a\.overlay\.png"):
            predict(model, [tmp_path / "s"], tmp_path / "to", beside=[Kind.OVERLAY])


class TestGoingOn:
    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
        """The shapes of what networks were asked for."""
        asked: list[tuple[int, ...]] = []
        predictions = Model.predictions

        def spy(self: Model, images: np.ndarray, **wanted: bool) -> list[Prediction]:
            asked.append(images.shape)
            return predictions(self, images, **wanted)

        monkeypatch.setattr(Model, "predictions", spy)
        return asked

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
        """Has something happen once the network reads the first image."""
        predictions = Model.predictions

        def happen(what: Callable[[], object]) -> None:
            def first(self: Model, *images: Any, **wanted: Any) -> list[Prediction]:
                monkeypatch.setattr(Model, "predictions", predictions)
                what()
                return predictions(self, *images, **wanted)

            monkeypatch.setattr(Model, "predictions", first)

        return happen

    def test_of_the_same_model_and_image_nothing_is_computed_again(
        self, model: Path, images: list[Path], tmp_path: Path, seen: list[Any]
    ) -> None:
        predict(model, images[:1], tmp_path)
        done = job.predict(model, [str(image) for image in images], str(tmp_path))
        assert (len(done.masks), done.new, len(seen)) == (2, 1, 2)

    def test_of_another_model_another_image_or_reading_it_is(
        self, sliding: Path, model: Path, tmp_path: Path, seen: list[Any]
    ) -> None:
        image = save(tmp_path / "image.jpg", 16, 16)
        predict(sliding, [image], tmp_path)
        predict(sliding, [image], tmp_path, averaged=True)
        predict(model, [image], tmp_path)
        Image.new("RGB", (16, 16), "red").save(image)
        predict(model, [image], tmp_path)
        assert len(seen) == 4

    def test_what_is_missing_beside_a_mask_is_made(
        self, model: Path, images: list[Path], tmp_path: Path, seen: list[Any]
    ) -> None:
        for beside in ([], [Kind.PROBABILITIES], [Kind.PROBABILITIES]):
            predict(model, images[:1], tmp_path, beside=beside)
        assert len(seen) == 2

    def test_killed_between_two_files_it_goes_on(
        self, model: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beside = [Kind.OVERLAY, Kind.CONFIDENCE, Kind.PROBABILITIES]
        predict(model, images, tmp_path / "alone", beside=beside)
        files = len(images) * len(Kind)
        for after in range(files):
            to = tmp_path / str(after)

            def writer(*place: Any, left: int = after, **options: Any) -> Any:
                write = mask_writer.writer(*place, **options)

                def write_until_killed(*file: Any) -> None:
                    nonlocal left
                    if not left:
                        raise KeyboardInterrupt
                    left -= 1
                    write(*file)

                return write_until_killed

            monkeypatch.setattr(job, "writer", writer)
            with pytest.raises(KeyboardInterrupt):
                predict(model, images, to, beside=beside)
            monkeypatch.setattr(job, "writer", mask_writer.writer)
            predict(model, images, to, beside=beside)
            assert contents(to) == contents(tmp_path / "alone")

    def test_a_mask_that_somebody_changed_is_theirs(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        (mask,) = predict(model, images[:1], tmp_path)
        before = mask.read_bytes()
        edit(mask)
        edited = mask.read_bytes()
        with pytest.raises(
            UserError, match=rf"^1 file in {tmp_path} was changed since predict wrote it, .*: {mask.name}; name "
        ):
            predict(model, images[:1], tmp_path)
        assert mask.read_bytes() == edited
        predict(model, images[:1], tmp_path, overwrite=True)
        assert mask.read_bytes() == before

    def test_all_files_that_overwrite_would_replace_are_counted_and_the_first_named(
        self, model: Path, tmp_path: Path
    ) -> None:
        images = [save(tmp_path / "images" / f"{name}.jpg", 16, 16) for name in "abcdef"]
        masks = predict(model, images, tmp_path / "to")
        edit(masks[0])
        for mask in masks[1:5]:
            write_mask(mask, np.zeros((16, 16)), [(0, 0, 0)])
        before = contents(tmp_path / "to")

        with pytest.raises(UserError) as caught:
            predict(model, images, tmp_path / "to")

        assert str(caught.value) == (
            f"5 files in {tmp_path / 'to'} were changed since predict wrote them, or not written by this version of "
            f"it: a.png, b.png, c.png, …; name another place with --to, or replace them with --overwrite"
        )
        assert contents(tmp_path / "to") == before

    @pytest.mark.parametrize("there", [False, True], ids=["comes", "is changed"])
    def test_what_comes_or_is_changed_meanwhile_stays_and_is_told_at_the_end(
        self, sliding: Path, model: Path, images: list[Path], tmp_path: Path, meanwhile: Meanwhile, there: bool
    ) -> None:
        theirs, other = (tmp_path / "to" / f"{image.stem}.png" for image in images)
        if there:
            predict(sliding, images, tmp_path / "to")

        meanwhile(lambda: save(theirs, 7, 7))
        with pytest.raises(IncompleteError) as caught:
            predict(model, images, tmp_path / "to")

        assert str(caught.value) == (
            f"{theirs} came or was changed while predict ran, and stays: name another place with --to, or replace it "
            f"with --overwrite\n1 of 2 images have masks now in {tmp_path / 'to'}"
        )
        with Image.open(theirs) as mask:
            assert mask.size == (7, 7)
        (made,) = predict(model, images[1:], tmp_path / "alone")
        assert other.read_bytes() == made.read_bytes()

    def test_what_comes_meanwhile_may_be_overwritten_or_of_the_same_model(
        self, model: Path, images: list[Path], tmp_path: Path, meanwhile: Meanwhile
    ) -> None:
        mask = tmp_path / f"{images[0].stem}.png"
        meanwhile(lambda: save(mask, 7, 7))
        predict(model, images[:1], tmp_path, overwrite=True)
        (same,) = predict(model, images[:1], tmp_path / "same")
        assert mask.read_bytes() == same.read_bytes()
        mask.unlink()
        meanwhile(lambda: shutil.copy(same, mask))
        assert predict(model, images[:1], tmp_path) == [mask]

    def test_what_is_removed_meanwhile_is_made(
        self, sliding: Path, model: Path, images: list[Path], tmp_path: Path, meanwhile: Meanwhile
    ) -> None:
        (mask,) = predict(sliding, images[:1], tmp_path)
        meanwhile(mask.unlink)
        assert predict(model, images[:1], tmp_path) == [mask]
        assert mask.exists()

    def test_what_predict_wrote_among_the_images_is_none(self, model: Path, tmp_path: Path) -> None:
        for name in ("a.jpg", "late/b.jpg"):
            save(tmp_path / name, 16, 16)
        for _ in range(2):
            written = predict(model, [tmp_path], tmp_path, beside=[Kind.OVERLAY])
            assert [mask.relative_to(tmp_path).as_posix() for mask in written] == ["a.png", "late/b.png"]

    def test_what_predict_wrote_beside_its_images_is_none_for_whatever_place(self, model: Path, tmp_path: Path) -> None:
        save(tmp_path / "photos" / "a.jpg", 16, 16)
        save(tmp_path / "photos" / "b.png", 16, 16)
        predict(model, [tmp_path / "photos" / "a.jpg"], tmp_path / "photos", beside=[Kind.OVERLAY, Kind.CONFIDENCE])

        written = predict(model, [tmp_path / "photos"], tmp_path / "to")

        assert [mask.name for mask in written] == ["a.png", "b.png"]
        assert contents(tmp_path / "to").keys() == {"a.png", "b.png"}

    def test_images_of_one_size_go_together(self, model: Path, tmp_path: Path, seen: list[Any]) -> None:
        sizes = [16, 16, 16, 24, 16]
        images = [save(tmp_path / f"{place}.png", 16, side) for place, side in enumerate(sizes)]
        predict(model, images, tmp_path / "to", batch=2)
        assert seen == [(2, 16, 16, 3), (1, 16, 16, 3), (1, 24, 16, 3), (1, 16, 16, 3)]
        predict(model, images, tmp_path / "alone")
        assert contents(tmp_path / "to") == contents(tmp_path / "alone")

    def test_a_batch_that_is_too_large_for_a_gpu_is_told(
        self, model: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> list[Prediction]:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(Model, "predictions", full)
        with pytest.raises(UserError, match=r"^cpu has no memory for 2 of 16 x 16 pixels at once: lower --batch, or"):
            predict(model, images, tmp_path, batch=2)

    def test_a_device_that_is_not_there_is_refused(self, model: Path, images: list[Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^there is no device '' here, only cpu.*: choose another --device$"):
            predict(model, images, tmp_path, device="")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(mask: Path) -> None:
    """Change a pixel as an editor does that keeps the texts of a PNG."""
    with Image.open(mask) as image:
        image.load()
    image.putpixel((0, 0), 1 - min(1, int(np.asarray(image)[0, 0])))
    texts = PngInfo()
    for key, value in image.text.items():
        texts.add_text(key, value)
    image.save(mask, pnginfo=texts)


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
            plain = replace(load(sliding), card=replace(load(sliding).card, lineage={}))
            whole = [torch.from_numpy(plain.predict(image))[None] for image in images]
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
        with pytest.raises(UserError, match=r"no images in \S*/photos/\*\.txt \(not read: 1 \.txt\): name images"):
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
            ("photos", ["a.png", "monday/a.png", "monday/late/b.png"]),
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
        written = job.predict(model, [f"{bucket}/{source}"], f"{bucket}/masks").masks
        assert written == [f"{bucket}/masks/{mask}" for mask in masks]
        store = open_store(f"{bucket}/masks")
        assert store.keys() == masks
        assert {store.read(key) for key in masks} == {local.read_bytes()}

    def test_a_bad_image_goes_without_and_is_told_at_the_end(self, model: Path, bucket: str, tmp_path: Path) -> None:
        store = open_store(f"{bucket}/photos")
        store.write("bad.png", b"no image")
        store.write("worse.png", b"no image")
        with pytest.raises(IncompleteError) as caught:
            job.predict(model, [f"{bucket}/photos"], str(tmp_path / "to"))
        head, *lines, last = str(caught.value).splitlines()
        assert (head, last) == ("2 problems in 5 images:", f"3 of 5 images have masks now in {tmp_path / 'to'}")
        assert [line.split(" is ")[0] for line in lines] == [f"  {bucket}/photos/{n}.png" for n in ("bad", "worse")]
        assert (tmp_path / "to" / "monday" / "late" / "b.png").is_file()

    def test_no_image_is_replaced(self, model: Path, bucket: str) -> None:
        open_store(bucket).write("photos/c.png", b"no matter")
        with pytest.raises(UserError, match=r"s3://\S+/photos/c\.png would replace image"):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/photos")

    def test_masks_of_before_alone_are_replaced(self, model: Path, bucket: str) -> None:
        for _ in range(2):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/masks")
        open_store(f"{bucket}/masks").write("monday/a.png", b"mine")
        with pytest.raises(UserError, match=rf"^1 file in {bucket}/masks was changed .*: monday/a\.png; name"):
            job.predict(model, [f"{bucket}/photos"], f"{bucket}/masks")
        assert open_store(f"{bucket}/masks").read("monday/a.png") == b"mine"

    def test_what_else_there_is_is_counted(self, bucket: str, caplog: pytest.LogCaptureFixture) -> None:
        client = s3_client(AT_ONCE)
        for key in ("photos/", "photos/monday/", "photos/monday/d.heic"):
            client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"")
        client.close()
        with caplog.at_level("INFO", "advseg"):
            find_scenes([f"{bucket}/photos"])
        assert f"not read in {bucket}/photos: 1 .heic, 1 .txt" in caplog.messages

    def test_nothing_there_is_refused(self, model: Path, bucket: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no images in s3://\S+/nothing: name"):
            job.predict(model, [f"{bucket}/nothing"], str(tmp_path / "to"))


class TestFinding:
    def test_takes_files_as_they_are_and_images_of_folders(self, tmp_path: Path) -> None:
        for name in ("b.JPG", "a.png", "notes.txt", "c.jpeg"):
            (tmp_path / name).touch()
        found = find_images([tmp_path, tmp_path / "notes.txt"])
        assert [path.name for path in found] == ["a.png", "b.JPG", "c.jpeg", "notes.txt"]

    def test_takes_those_in_folders_of_a_folder_but_none_that_are_hidden(self, tmp_path: Path) -> None:
        for name in ("b.jpg", "monday/a.jpg", "monday/late/a.png", ".trash/a.jpg", "monday/._a.jpg"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).touch()
        (tmp_path / "photos" / "circle").symlink_to(".")
        found = [scene.stem for scene in find_scenes([f"{tmp_path}/photos"])]
        assert found == ["b", "monday/a", "monday/late/a"]

    def test_counts_what_else_there_is(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("a.jpg", "b.heic", "monday/c.HEIC", "notes.txt", ".DS_Store"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        with caplog.at_level("INFO", "advseg"):
            find_scenes([f"{tmp_path}"])
            find_scenes([f"{tmp_path}/*"])
            find_scenes([f"{tmp_path}/*.jpg"])
        assert caplog.messages == [
            f"not read in {tmp_path}: 2 .heic, 1 .txt",
            f"not read in {tmp_path}/*: 1 .heic, 1 .txt",
        ]
        with pytest.raises(UserError, match=r"no images in \S+/monday \(not read: 1 \.heic\): name images"):
            find_scenes([f"{tmp_path}/monday"])

    def test_of_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no images in"):
            find_images([tmp_path])
        with pytest.raises(UserError, match="does not exist"):
            find_images([tmp_path / "no.png"])


class TestModel:
    @pytest.mark.parametrize(
        ("named", "told"),
        [
            ("photos", "photos is a folder of images, not a model: the model comes first"),
            ("photos/a.jpg", "a.jpg is an image, not a model: the model comes first"),
            ("notes.txt", "notes.txt is a file, but a model is a folder with model.json: name that folder"),
            ("run/model/model.json", "is a file, but a model is a folder with model.json: name .*run/model$"),
            ("run", "run is a training's, not its model: name .*run/model$"),
            ("run/checkpoints/step-00000004", "step-00000004 is a training's, not its model: name .*run/model$"),
            ("empty", "empty is a folder without model.json, so no model: name one that was pulled"),
            ("nowhere", "nowhere does not exist: name a folder, or a registered model"),
        ],
    )
    def test_that_is_something_else_is_told_by_what_it_is(
        self, tmp_path: Path, model: Path, named: str, told: str
    ) -> None:
        shutil.copytree(model.parent, tmp_path / "run")
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").touch()
        save(tmp_path / "photos" / "a.jpg", 16, 16)
        for read in (lambda: load_model(tmp_path / named), lambda: load(str(tmp_path / named))):
            with pytest.raises((UserError, ValueError)) as caught:
                read()
            assert len(str(caught.value).splitlines()) == 1
            if named != "nowhere":
                assert re.search(told, str(caught.value))
        with pytest.raises(UserError, match=told):
            load_model(tmp_path / named)

    @pytest.mark.parametrize("first", ["photos", "photos/a.jpg", "photos/*.jpg"])
    def test_in_the_place_of_the_images_is_told(self, tmp_path: Path, model: Path, first: str) -> None:
        photo = save(tmp_path / "photos" / "a.jpg", 16, 16)
        for images in ([str(model)], [str(photo), str(model)]):
            with pytest.raises(UserError, match=f"is no model, but {model} is: name the model first, then the images"):
                job.predict(tmp_path / first, images, str(tmp_path / "to"))
        with pytest.raises(UserError, match="is no model, but shapes@champion is"):
            job.predict(tmp_path / first, ["shapes@champion"], str(tmp_path / "to"))

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
