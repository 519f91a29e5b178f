"""What a model makes of images, large ones included."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from advseg.models import model as module
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import load, save
from advseg.models.card import Card
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator
from advseg.models.inference import EvaluationSettings, predict_probabilities
from advseg.models.model import Model
from advseg.models.photographs import rgb_of
from advseg.models.protocol import Protocol
from advseg.models.resize import LongerSide, Resize
from advseg.trainers.data.images import read_image

IMAGE = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
SLIDING = EvaluationSettings(mode="sliding", window=(16, 24), stride=0.5)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    torch.manual_seed(0)
    settings, judge = CompactSettings(width=8), DiscriminatorSettings(widths=(4,))
    card = Card(
        segmenter=settings,
        discriminator=judge,
        classes=("sky", "sea", "land"),
        palette=((0, 0, 0), (0, 0, 255), (0, 255, 0)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    networks = build_segmenter(settings, 3).state_dict(), build_discriminator(judge, 3).state_dict()
    save(tmp_path / "model", card, *networks)
    return load(tmp_path / "model")


def judged(model: Model, settings: EvaluationSettings) -> Model:
    """The model, as if it had been judged so."""
    lineage = {"spec": {"trainer": {"evaluation": json.loads(json.dumps(asdict(settings)))}}}
    return replace(model, card=replace(model.card, lineage=lineage))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image counts as large."""
    monkeypatch.setattr(module, "MAX_WHOLE", 45 * 70 - 1)


class TestImages:
    """Whatever people call an image."""

    def test_of_every_kind_have_the_same_mask(self, model: Model, tmp_path: Path) -> None:
        expected = model.predict(IMAGE)
        assert (expected.shape, expected.dtype) == ((45, 70), np.uint8)
        assert (expected == model.probabilities(IMAGE).argmax(0).numpy()).all()
        path = tmp_path / "image.png"
        Image.fromarray(IMAGE).save(path)
        alpha = np.dstack([IMAGE, IMAGE[..., :1]])
        tensor = torch.from_numpy(IMAGE).permute(2, 0, 1)
        for image in (
            path,
            str(path),
            Image.fromarray(IMAGE),
            Image.fromarray(alpha),
            alpha,
            IMAGE / 255,
            (IMAGE / 255).astype(np.float32),
            tensor,
            tensor / 255,
        ):
            assert (model.predict(image) == expected).all()

    def test_of_grey_are_grey_in_all_channels(self, model: Model) -> None:
        grey = np.ascontiguousarray(IMAGE[..., 0])
        expected = model.predict(np.dstack([grey] * 3))
        tensor = torch.from_numpy(grey)
        for image in (grey, grey[..., None], Image.fromarray(grey), tensor, tensor[None]):
            assert (model.predict(image) == expected).all()

    def test_several_give_a_list(self, model: Model) -> None:
        batch = np.stack([IMAGE, 255 - IMAGE])
        expected = [model.predict(image) for image in batch]
        tensors = torch.from_numpy(batch).permute(0, 3, 1, 2)
        for images in (batch, [*batch], (*batch,), iter(batch), tensors, [*tensors], map(Image.fromarray, batch)):
            found = model.predict(images)
            assert isinstance(found, list)
            assert all((ours == theirs).all() for ours, theirs in zip(found, expected, strict=True))
        assert [mask.shape for mask in model.predict([IMAGE, IMAGE[:20]])] == [(45, 70), (20, 70)]
        assert model.predict([]) == []

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (IMAGE.astype(np.int64), "uint8, or floats from 0 to 1, but this has int64: convert 0...255 by .astype"),
            (IMAGE.astype(np.float32), "but these are from 0 to 255: divide 0...255 by 255"),
            (IMAGE / 255 - 0.5, "but these are from -0.5 to 0.5: divide .* and leave normalising to the model"),
            (np.full((9, 9, 3), np.nan), "but these are from nan to nan"),
            (IMAGE[..., :2], r"an array is \[H, W\], .*, but this is \[45, 70, 2\]"),
            (IMAGE.transpose(2, 0, 1), r"but this is \[3, 45, 70\]"),
            (torch.from_numpy(IMAGE), r"a tensor \[3, H, W\], .* but this is \[45, 70, 3\]"),
            (IMAGE[:4], "at least 8 x 8 pixels, but is 70 x 4"),
            (np.zeros((0, 9, 3)), "at least 8 x 8 pixels, but is 9 x 0"),
            ("nowhere.png", r"^nowhere\.png does not exist$"),
            (Path("/dev/zero"), r"^/dev/zero cannot be read .*no regular file"),
            (Image.new("I;16", (9, 9)), "over 8 bits a channel"),
            (7, "an image is a path, .* but 7 is none"),
            ([IMAGE, None], "^image 1: an image is a path, .* but None is none"),
            ([IMAGE, [0, 1]], "^image 1: an image is a path"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_what_is_none_is_refused_in_a_line(self, model: Model, image: object, reason: str) -> None:
        with pytest.raises(ValueError, match=reason) as caught:
            model.predict(image)
        assert len(str(caught.value).splitlines()) == 1

    def test_files_are_read_as_the_command_reads_them(self, tmp_path: Path) -> None:
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = 6
        image = Image.fromarray(IMAGE)
        image.save(tmp_path / "turned.jpg", exif=turned)
        image.save(tmp_path / "sharp.tiff")
        for mode in ("P", "L", "1", "CMYK"):
            image.convert(mode).save(tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
        for path in tmp_path.glob("*.*"):
            assert (rgb_of(path) == read_image(path)).all()
        assert rgb_of(tmp_path / "turned.jpg").shape == (70, 45, 3)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"no image", "is none of PNG, JPEG"), (b"", "is empty: replace it"), (None, "cannot be")],
    )
    def test_files_that_are_broken_are_told(
        self, model: Model, tmp_path: Path, content: bytes | None, reason: str
    ) -> None:
        path = tmp_path / "image.png"
        Image.fromarray(IMAGE).save(path)
        path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
        with pytest.raises(ValueError, match=f"image.png {reason}"):
            model.predict(path)


class TestProtocol:
    @pytest.mark.parametrize(
        "trainer",
        [
            {"evaluation": {"mode": "odd"}},
            {"evaluation": {"mode": ["whole"]}},
            {"evaluation": {"window": [9, 9, 9]}},
            {"evaluation": {"window": 9}},
            {"evaluation": {"window": [9, "x"]}},
            {"evaluation": {"window": [9, 2]}},
            {"evaluation": {"flip": 1}},
            {"evaluation": {"stride": "1"}},
            {"evaluation": {"stride": 1e-9}},
            {"evaluation": {"later": 1}},
            {"evaluation": 3},
            {"speed": 3},
            {"speed": {"autocast": "int4"}},
        ],
        ids=str,
    )
    def test_a_card_that_does_not_say_how_images_are_read_is_told(self, model: Model, trainer: dict) -> None:
        odd = replace(model, card=replace(model.card, lineage={"spec": {"trainer": trainer}}))
        with pytest.raises(ValueError, match=r"does not say how it reads images, .*install that which train") as caught:
            odd.predict(IMAGE)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("lineage", [{}, {"spec": {"steps": 7}}, {"spec": {"trainer": {}}}], ids=str)
    def test_without_a_word_they_are_read_whole(self, model: Model, lineage: dict) -> None:
        assert replace(model, card=replace(model.card, lineage=lineage)).protocol == Protocol()

    def test_is_that_of_the_spec(self, model: Model) -> None:
        settings = EvaluationSettings(mode="sliding", window=(9, 20), stride=1, scales=(0.5, 2), flip=True)
        lineage = judged(model, settings).card.lineage
        lineage["spec"]["trainer"]["speed"] = {"autocast": "bfloat16", "channels_last": False, "prefetch": 3}
        found = replace(model, card=replace(model.card, lineage=lineage)).protocol
        assert found == Protocol(evaluation=settings, autocast="bfloat16", channels_last=False)

    def test_averaged_is_the_second_figures(self, model: Model) -> None:
        twice = judged(model, EvaluationSettings(flip=True))
        straight, mirrored = (twice.probabilities(image) for image in (IMAGE, IMAGE[:, ::-1]))
        expected = (straight + mirrored.flip(-1)) / 2
        torch.testing.assert_close(twice.probabilities(IMAGE, averaged=True), expected, rtol=1e-4, atol=1e-5)
        assert (twice.predict(IMAGE, averaged=True) == expected.argmax(0).numpy()).all()


def test_a_model_moves_to_a_device_and_says_where_it_is(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_devices", lambda: ["cpu", "meta"])
    assert model.device.type == "cpu"
    assert model.to("meta") is model
    assert model.device.type == "meta"
    with pytest.raises(ValueError, match=r"^there is no device 'cuda:99' here, only cpu, meta$"):
        model.to("cuda:99")


def test_a_large_image_is_read_as_by_sliding_windows(model: Model, large: None) -> None:
    pixels = model.card.normalisation(torch.from_numpy(IMAGE).permute(2, 0, 1)[None])
    with torch.inference_mode():
        (expected,) = predict_probabilities(model.segmenter, pixels, SLIDING)
    for mode in ("whole", "sliding"):
        found = judged(model, replace(SLIDING, mode=mode))
        torch.testing.assert_close(found.probabilities(IMAGE), expected, rtol=1e-4, atol=1e-5)
        assert (found.predict(IMAGE) == found.probabilities(IMAGE).argmax(0).numpy()).all()


def test_no_more_of_it_than_a_window_goes_through_the_network(model: Model, large: None) -> None:
    seen = []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    judged(model, replace(SLIDING, mode="whole")).predict(IMAGE)
    assert set(seen) == {(1, 3, 16, 24)}


@pytest.mark.parametrize(("resize", "size"), [((24, 32), (24, 32)), (LongerSide(longer=35), (23, 35))])
def test_a_large_image_that_is_brought_to_another_size_is_not_cut(
    model: Model, large: None, resize: Resize, size: tuple[int, int]
) -> None:
    seen = []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    resized = replace(model, card=replace(model.card, resize=resize))
    judged(resized, replace(SLIDING, mode="whole")).predict(IMAGE)
    assert seen == [(1, 3, *size)]


@pytest.mark.parametrize("size", [(45, 70), (16, 24)], ids=["large", "one window"])
def test_masks_probabilities_and_confidence_are_of_the_images_size(
    model: Model, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(module, "MAX_WHOLE", 16 * 24)
    image = IMAGE[: size[0], : size[1]]
    (made,) = judged(model, SLIDING).predictions(image[None], probabilities=True, confidence=True)
    assert made.probabilities is not None
    assert made.confidence is not None
    assert made.mask.shape == made.confidence.shape == made.probabilities.shape[1:] == size
    assert (made.mask.dtype, made.probabilities.dtype, made.confidence.dtype) == (np.uint8, np.float16, np.float32)
    assert ((made.confidence > 0) & (made.confidence < 1)).all()


def test_of_a_small_image_confidence_is_that_of_the_model(model: Model) -> None:
    (made,) = model.predictions(IMAGE[None], confidence=True)
    np.testing.assert_allclose(made.confidence, model.confidence(model.probabilities(IMAGE)), rtol=1e-5)


def test_of_several_images_each_has_what_it_has_alone(model: Model) -> None:
    images = np.stack([IMAGE, IMAGE[::-1], 255 - IMAGE])
    found = judged(model, SLIDING)
    together = found.predictions(images, probabilities=True)
    for image, one in zip(images, together, strict=True):
        (alone,) = found.predictions(image[None], probabilities=True)
        np.testing.assert_allclose(one.probabilities, alone.probabilities, atol=1e-3)
