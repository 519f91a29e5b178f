import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from advseg.models import load
from advseg.models.architectures import CompactSettings, DeepLabSettings, build_segmenter, normalisation_of
from advseg.models.bundle import CARD, SEGMENTER, Card, read_card, save
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator
from advseg.models.manifest import BrokenDirectoryError, write_directory

CLASSES = ("sky", "sea", "land")
IMAGE = np.random.default_rng(0).integers(0, 256, (19, 27, 3), np.uint8)


def card_of(segmenter: CompactSettings | DeepLabSettings, discriminator: DiscriminatorSettings | None) -> Card:
    return Card(
        segmenter=segmenter,
        discriminator=discriminator,
        classes=CLASSES,
        palette=((0, 0, 0), (0, 0, 255), (0, 255, 0)),
        ignore_index=255,
        normalisation=normalisation_of(segmenter),
        metrics={"val/miou": 12.5},
        lineage={"trial": "sweep/3", "spec": {"steps": 7}},
    )


@pytest.fixture
def supervised(tmp_path) -> Path:
    card = card_of(CompactSettings(width=8), None)
    save(tmp_path / "supervised", card, build_segmenter(card.segmenter, 3).state_dict(), None)
    return tmp_path / "supervised"


@pytest.mark.parametrize(
    "settings",
    [
        CompactSettings(width=16),
        DeepLabSettings(
            architecture="deeplab_v2_resnet50", backbone="torchvision", branches=2, batch_norm="synchronised"
        ),
    ],
    ids=lambda settings: settings.architecture,
)
def test_a_saved_model_comes_back_with_its_card_and_its_predictions(tmp_path, settings):
    judge = DiscriminatorSettings(widths=(4, 8), classifier="dense")
    segmenter, discriminator = build_segmenter(settings, 3).eval(), build_discriminator(judge, 3)
    card = card_of(settings, judge)

    save(tmp_path / "model", card, segmenter.state_dict(), discriminator.state_dict())
    model = load(tmp_path / "model")

    assert model.card == card
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        probabilities = segmenter(card.normalisation(pixels)).softmax(1)
        confidence = discriminator(probabilities).sigmoid()[0, 0]
    assert torch.equal(model.probabilities(IMAGE), probabilities[0])
    assert torch.equal(model.confidence(model.probabilities(IMAGE)), confidence)
    assert model.confidence(probabilities[0]).shape == IMAGE.shape[:2]


def test_probabilities_of_a_pixel_sum_to_one(supervised):
    probabilities = load(str(supervised)).probabilities(IMAGE)

    torch.testing.assert_close(probabilities.sum(0), torch.ones(19, 27))


def test_a_model_reads_images_at_the_size_of_its_card_and_answers_at_theirs(tmp_path):
    card = replace(card_of(CompactSettings(width=8), None), resize=(24, 16))
    network = build_segmenter(card.segmenter, 3).eval()
    save(tmp_path / "model", card, network.state_dict(), None)
    model, seen = load(tmp_path / "model"), []
    model.segmenter.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    probabilities = model.probabilities(IMAGE)

    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float()
    read = card.normalisation(bilinear(pixels.double(), (24, 16)), torch.float64)
    torch.testing.assert_close(seen[0].double(), read, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        expected = bilinear(network(read.float()).softmax(1), IMAGE.shape[:2])[0]
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-5)
    assert model.card == card


def bilinear(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Each pixel a square with its centre in the middle, and the border's value beyond the border."""
    for axis, length in zip((-2, -1), size, strict=True):
        given = maps.shape[axis]
        place = ((torch.arange(length, dtype=maps.dtype) + 0.5) * given / length - 0.5).clamp(0, given - 1)
        low = place.floor().long()
        high, share = (low + 1).clamp(max=given - 1), place - low
        share = share.view(-1, 1) if axis == -2 else share
        maps = maps.index_select(axis, low) * (1 - share) + maps.index_select(axis, high) * share
    return maps


def test_a_card_from_before_there_were_variants_is_read_as_what_it_meant(tmp_path, supervised):
    card = json.loads((supervised / CARD).read_text())
    del card["resize"]
    card["segmenter"] = {"architecture": "deeplab_v2_resnet50", "batch_norm": "frozen"}

    write_directory(tmp_path / "older", lambda path: (path / CARD).write_text(json.dumps(card)) and None)

    expected = DeepLabSettings(
        architecture="deeplab_v2_resnet50", backbone="caffe", branches=4, batch_norm="frozen", weights=None
    )
    assert (read_card(tmp_path / "older").segmenter, read_card(tmp_path / "older").resize) == (expected, None)


def test_a_view_that_cannot_be_written_to_is_predicted_as_well(supervised):
    mirrored = IMAGE[:, ::-1]
    mirrored.flags.writeable = False

    probabilities = load(supervised).probabilities(mirrored)

    assert torch.equal(probabilities, load(supervised).probabilities(np.ascontiguousarray(mirrored)))


def test_a_supervised_model_has_no_confidence_and_says_why(supervised):
    model = load(supervised)

    with pytest.raises(ValueError, match="trained without a discriminator"):
        model.confidence(model.probabilities(IMAGE))


def test_a_model_holds_data_only(supervised):
    assert {path.suffix for path in supervised.iterdir()} == {".json", ".safetensors"}


def test_an_architecture_of_another_version_is_refused_by_name(tmp_path, supervised):
    card = json.loads((supervised / CARD).read_text())
    card["segmenter"]["architecture"] = "transformer"

    write_directory(tmp_path / "other", lambda path: (path / CARD).write_text(json.dumps(card)) and None)

    with pytest.raises(ValueError, match=r"unknown architecture 'transformer'.*compact"):
        load(tmp_path / "other")


def test_a_damaged_model_is_refused(supervised):
    weights = supervised / SEGMENTER
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")

    with pytest.raises(BrokenDirectoryError, match=SEGMENTER):
        load(supervised)


def test_a_whole_directory_that_holds_something_else_is_no_model(tmp_path):
    write_directory(tmp_path / "checkpoint", lambda path: (path / "state.json").write_text("{}") and None)

    with pytest.raises(BrokenDirectoryError, match=CARD):
        load(tmp_path / "checkpoint")


def test_a_failed_save_leaves_the_older_model(supervised):
    before = load(supervised).probabilities(IMAGE)
    unwritable = replace(load(supervised).card, lineage={"spec": object()})

    with pytest.raises(TypeError):
        save(supervised, unwritable, build_segmenter(unwritable.segmenter, 3).state_dict(), None)

    assert torch.equal(load(supervised).probabilities(IMAGE), before)
