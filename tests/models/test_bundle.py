import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_tensors

from advseg.models import load
from advseg.models.architectures import CompactSettings, DeepLabSettings, build_segmenter, normalisation_of
from advseg.models.bundle import CARD, DISCRIMINATOR, SEGMENTER, read_card, save
from advseg.models.card import MAX_CLASSES, Card
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator
from advseg.models.manifest import MANIFEST, BrokenDirectoryError, write_directory

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
    "network",
    [
        CompactSettings(width=16),
        DeepLabSettings(
            architecture="deeplab_v2_resnet50", backbone="torchvision", branches=2, batch_norm="synchronised"
        ),
    ],
    ids=lambda network: network.architecture,
)
def test_a_saved_model_comes_back_with_its_card_and_its_predictions(tmp_path, network):
    judge = DiscriminatorSettings(widths=(4, 8), classifier="dense")
    segmenter, discriminator = build_segmenter(network, 3).eval(), build_discriminator(judge, 3)
    card = card_of(network, judge)

    save(tmp_path / "model", card, segmenter.state_dict(), discriminator.state_dict())
    model = load(tmp_path / "model")

    assert model.card == card
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        probabilities = segmenter(card.normalisation(pixels)).softmax(1)
        confidence = discriminator(probabilities).sigmoid()[0, 0]
    # With channels side by side it rounds otherwise.
    torch.testing.assert_close(model.probabilities(IMAGE), probabilities[0], rtol=1e-3, atol=1e-5)
    assert torch.equal(model.confidence(probabilities[0]), confidence)
    assert model.confidence(probabilities[0]).shape == IMAGE.shape[:2]


def test_probabilities_of_a_pixel_sum_to_one(supervised):
    probabilities = load(str(supervised)).probabilities(IMAGE)

    torch.testing.assert_close(probabilities.sum(0), torch.ones(19, 27))


def test_a_model_is_printed_in_a_line(supervised):
    assert repr(load(supervised)) == "<Model compact of 3 classes on cpu>"


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


def resealed(path: Path, state: dict[str, torch.Tensor] | bytes, file: str = SEGMENTER) -> Path:
    """The model with other weights, and a manifest that vouches for them."""
    content = state if isinstance(state, bytes) else save_tensors(state)
    kept = {name.name: name.read_bytes() for name in path.iterdir() if name.name != MANIFEST}

    def write(directory: Path) -> None:
        for name, old in {**kept, file: content}.items():
            (directory / name).write_bytes(old)

    write_directory(path, write)
    return path


def with_card(path: Path, **changes: object) -> Path:
    """The model with a card that says something else, and a manifest that vouches for it."""
    card = {**json.loads((path / CARD).read_text()), **changes}
    return resealed(path, json.dumps(card).encode(), CARD)


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(BrokenDirectoryError, match=message) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def fresh(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**build_segmenter(CompactSettings(width=8), 3).state_dict(), **changes}


BIAS = "branches.0.bias"
UNFIT = {
    "tensor missing": ({name: t for name, t in fresh().items() if name != BIAS}, rf"lacks {BIAS}"),
    "none at all": ({}, r"lacks stem\.0\.weight, stem\.1\.weight, stem\.1\.bias and 34 more"),
    "tensor too many": (fresh(extra=torch.zeros(2)), "has other tensors than the network: extra"),
    "other shape": (fresh(**{BIAS: torch.zeros(4)}), rf"other shapes than the network: {BIAS} \[4\] for \[3\]"),
    "scalar": (fresh(**{BIAS: torch.zeros(())}), rf"{BIAS} \[\] for \[3\]"),
    "whole numbers": (fresh(**{BIAS: torch.zeros(3, dtype=torch.int64)}), rf"other types than the network: {BIAS} I64"),
    "eight bits": (fresh(**{BIAS: torch.zeros(3).to(torch.float8_e5m2)}), rf"{BIAS} F8_E5M2"),
    "NaN": (fresh(**{BIAS: torch.tensor([0, 0, float("nan")])}), rf"holds NaN or infinity in {BIAS}"),
    "infinity": (fresh(**{BIAS: torch.tensor([0, 0, float("-inf")])}), rf"holds NaN or infinity in {BIAS}"),
    "beyond single": (fresh(**{BIAS: torch.tensor([0, 0, 1e300]).double() * 1e300}), rf"NaN or infinity in {BIAS}"),
    "no bytes": (b"", "is damaged, or no safetensors file"),
    "deep header": (b"\x00\x04\0\0\0\0\0\0" + b"[" * 1024, "is damaged, or no safetensors file"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_that_are_not_the_networks_are_refused(supervised, case):
    state, message = UNFIT[case]
    assert_refused(resealed(supervised, state), message)


def test_weights_of_other_precision_are_converted(supervised):
    expected = load(supervised).probabilities(IMAGE)
    doubled = {name: tensor.double() for name, tensor in load(supervised).segmenter.state_dict().items()}
    assert torch.equal(load(resealed(supervised, doubled)).probabilities(IMAGE), expected)


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_weights_that_were_cut_or_are_anything_are_told_in_one_line(supervised, data):
    content = save_tensors(fresh())
    cut = st.integers(0, len(content) - 1).map(lambda end: content[:end])
    assert_refused(resealed(supervised, data.draw(cut | st.binary(max_size=200))), "no safetensors file|lacks")


def test_a_negative_variance_is_refused(tmp_path):
    card = card_of(DeepLabSettings(architecture="deeplab_v2_resnet50"), None)
    state = build_segmenter(card.segmenter, 3).state_dict()
    state["bn1.running_var"][3] = -1
    save(tmp_path / "model", card, state, None)

    assert_refused(tmp_path / "model", r"holds negative variances in bn1\.running_var")


def test_a_network_that_computes_nothing_from_finite_weights_says_so(supervised):
    huge = {name: torch.full_like(tensor, 1e38) for name, tensor in fresh().items()}
    model = load(resealed(supervised, huge))

    with pytest.raises(ValueError, match="computes NaN from finite weights"):
        model.probabilities(IMAGE)


def test_weights_that_the_manifest_does_not_list_are_not_read(supervised):
    card, weights = ((supervised / name).read_bytes() for name in (CARD, SEGMENTER))
    write_directory(supervised, lambda path: (path / CARD).write_bytes(card) and None)
    (supervised / SEGMENTER).write_bytes(weights)

    assert_refused(supervised, f"does not hold {SEGMENTER}: its MANIFEST.json does not list it")


def test_a_discriminator_that_the_manifest_does_not_list_is_not_read(supervised):
    card = with_card(supervised, discriminator={"widths": [4], "classifier": "dense"})
    (supervised / DISCRIMINATOR).write_bytes(save_tensors(build_discriminator(DiscriminatorSettings(), 3).state_dict()))

    assert_refused(card, f"does not hold {DISCRIMINATOR}: its MANIFEST.json does not list it")


def test_a_card_that_is_none_is_told_with_its_file(supervised):
    assert_refused(with_card(supervised, ignore_index="x"), r"model\.json is no card of a model: ignore_index must be")
    assert_refused(resealed(supervised, b"[" * 10_000, CARD), "no card of a model: it is nested deeper than 64 levels")
    assert_refused(resealed(supervised, b"[]", CARD), r"no card of a model: the card must be an object, but is \[\]")


def test_a_card_of_a_huge_network_takes_no_memory_before_it_is_refused(supervised):
    """The network of these classes would have 2 GB of weights, and the file has some kB."""
    classes = [str(id) for id in range(MAX_CLASSES)]
    card = with_card(supervised, classes=classes, palette=[[0, 0, 0]] * len(classes))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert_refused(card, "has tensors of other shapes than the network")

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
