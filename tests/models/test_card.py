"""What a card may say, and that anything else is refused in a line."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.architectures import CompactSettings, DeepLabSettings, normalisation_of
from advseg.models.card import MAX_CLASSES, MAX_STAGES, Card, card_of
from advseg.models.decoding import PLAIN, Decoding
from advseg.models.discriminator import DiscriminatorSettings
from advseg.models.resize import MAX_PIXELS, LongerSide

CARD = Card(
    segmenter=CompactSettings(width=8),
    discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
    classes=("sky", "sea"),
    palette=((0, 0, 0), (0, 0, 255)),
    ignore_index=255,
    normalisation=normalisation_of(CompactSettings()),
    decoding=Decoding(scale=(100, 4095), orientation="ignore"),
    resize=(24, 16),
    metrics={"val/miou": 12.5},
    lineage={
        "key": "sweep/3",
        "step": 7,
        "dataset_digest": "ab",
        "images": {"labelled": 3},
        "spec": {"name": "sweep", "trainer": {"steps": 7}},
    },
)


def document(card: Card = CARD) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(card)))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document, to the document itself, too."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...]) -> Any:
    """The card's document with another value in a place."""
    changed = {"root": document()}
    *way, last = ("root", *path)
    inner: Any = changed
    for key in way:
        inner = inner[key]
    inner[last] = value
    return changed["root"]


ANY_NUMBER = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 1e308, True])
ANY = st.recursive(
    st.none() | st.booleans() | ANY_NUMBER | st.text() | st.sampled_from(["\ud800", "\x1b[31m", "a" * 5000, "compact"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_a_card_comes_back_from_its_json() -> None:
    assert card_of(document()) == CARD
    assert card_of({**document(), "discriminator": None, "resize": None}).discriminator is None


def test_a_card_with_a_longer_side_comes_back_from_its_json() -> None:
    card = replace(CARD, resize=LongerSide(longer=64, multiple=16))
    assert document(card)["resize"] == {"longer": 64, "multiple": 16}
    assert card_of(document(card)) == card


def test_a_card_of_before_images_could_be_read_otherwise_reads_them_plainly() -> None:
    old = document()
    del old["decoding"]
    assert card_of(old).decoding == PLAIN


def test_a_network_of_transformers_is_built_by_its_card_alone() -> None:
    config = {"model_type": "dinov2", "hidden_size": 16}
    given = put({"architecture": "dinov2_dpt", "pretrained": "me/dinov2", "freeze": True}, ("segmenter",))
    with pytest.raises(ValueError, match="config of dinov2_dpt: it must be an object with a model_type, but is None"):
        card_of(given)

    card = card_of({**given, "config": {**config, "auto_map": {"AutoModel": "me/evil--evil.Evil"}}})

    assert card.config == config
    assert card_of(document(card)) == card
    assert card_of({**document(), "config": config}).config is None
    with pytest.raises(ValueError, match=r"segmenter\.freeze must be true or false, but is 1"):
        card_of({**given, "config": config, "segmenter": {**given["segmenter"], "freeze": 1}})


def test_figures_may_be_of_nothing() -> None:
    metrics = card_of(put({"val/miou": float("nan"), "val/iou/sky": 3}, ("metrics",))).metrics
    assert metrics["val/miou"] != metrics["val/miou"]
    assert metrics["val/iou/sky"] == 3.0


@pytest.mark.parametrize("place", list(places(document())), ids=str)
@given(value=ANY)
def test_whatever_stands_in_a_place_it_is_a_card_or_told_in_words(place: tuple[Any, ...], value: Any) -> None:
    try:
        card = card_of(put(value, place))
    except ValueError as error:
        assert len(str(error)) < 400
    else:
        assert isinstance(card, Card)
        asdict(card)


@pytest.mark.parametrize("place", [place for place in places(document()) if place], ids=str)
def test_whatever_is_missing_it_is_a_card_or_told_in_words(place: tuple[Any, ...]) -> None:
    short = document()
    inner = short
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    try:
        card_of(short)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("classes",), [str(id) for id in range(MAX_CLASSES + 1)], "classes must be 1 to 65,536 different names"),
        (("classes",), ["sea", "sea"], "classes must be 1 to 65,536 different names, but are .'sea', 'sea'.$"),
        (("classes",), [], "classes must be 1 to"),
        (("palette",), [[0, 0, 0]], "palette must have a colour for each of 2 classes, but has 1"),
        (("palette", 1, 2), 256, r"palette\[1\] must be a whole number in \[0, 255\], but is 256"),
        (("ignore_index",), -1, "ignore_index must be a whole number"),
        (("segmenter", "width"), 10**9, r"width must be in \[8, 56\], but is 1000000000"),
        (("segmenter", "width"), 10**400, "segmenter.width must be a whole number"),
        (("segmenter", "width"), 8.0, "segmenter.width must be a whole number"),
        (("segmenter", "size"), 8, "segmenter has no setting 'size'; this version knows architecture, width"),
        (("segmenter", "architecture"), "transformer", "unknown architecture 'transformer'; this version knows comp"),
        (("discriminator", "widths"), [4] * (MAX_STAGES + 1), "discriminator.widths must be 1 to 16, but are 17"),
        (("discriminator", "widths", 0), 0, "discriminator.widths must be a whole number"),
        (("normalisation", "std", 1), 0, r"normalisation.std must be in \[1e-06, 1e\+06\], but is 0"),
        (("normalisation", "std", 1), -1.5, "normalisation.std must be in"),
        (("normalisation", "std", 1), float("nan"), "normalisation.std must be in .* but is nan"),
        (("normalisation", "mean", 0), float("inf"), "normalisation.mean must be in .* but is inf"),
        (("decoding", "scale"), [5, 5], "decoding.scale must rise from 0 or more to 65535 or less, but is .5, 5."),
        (("decoding", "scale", 1), 65536, r"decoding.scale must be a whole number in \[0, 65535\], but is 65536"),
        (("decoding", "scale"), [1], "decoding.scale must be two numbers"),
        (("decoding", "orientation"), "xmp", "decoding.orientation must be exif or ignore, but is 'xmp'"),
        (("resize",), [7, 16], r"resize must be a whole number in \[8, "),
        (("resize",), [MAX_PIXELS, 8], "resize must be of at most 64,000,000 pixels, but is 64000000 x 8"),
        (("resize",), {"longer": 64}, "resize must be an object of longer and multiple, but is {'longer': 64}"),
        (("resize",), {"longer": 64, "multiple": 1, "size": 8}, "resize must be an object of longer and multiple, but"),
        (("resize",), {"longer": 64.0, "multiple": 1}, r"^resize\.longer must be a whole number .* but is 64.0"),
        (("resize",), {"longer": 10**400, "multiple": 1}, r"^resize\.longer must be a whole number in \[1, 8000\]"),
        (("resize",), {"longer": 7, "multiple": 1}, r"^resize\.longer must be in \[8, 8000\], but is 7$"),
        (
            ("resize",),
            {"longer": 64, "multiple": 0},
            r"resize\.multiple must be a whole number .*, but is 0",
        ),
        (
            ("resize",),
            {"longer": 64, "multiple": 7},
            r"^resize\.longer must be a multiple of multiple, but",
        ),
        (("metrics", "val/miou"), 10**400, "must be a number, but is 1000"),
        (("lineage", "spec"), None, "lineage.spec must be an object, but is None"),
        (("lineage", "spec", "name"), 3, "lineage.spec.name must be text, but is 3"),
        (("lineage", "images"), [3], r"lineage.images must be an object, but is \[3\]"),
        (("lineage", "images", "labelled"), "3", r"lineage.images\['labelled'\] must be a whole number .* but is '3'"),
    ],
)
def test_a_refusal_names_place_rule_and_value(place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        card_of(put(value, place))


def test_a_setting_of_another_branch_is_of_its_own_type() -> None:
    """2.0 equals 2, but a network takes no 2.0 branches."""
    fields = {**asdict(DeepLabSettings()), "branches": 2.0}
    with pytest.raises(ValueError, match=r"segmenter\.branches must be a whole number"):
        card_of(put(fields, ("segmenter",)))


def test_reading_leaves_the_document_as_it_was() -> None:
    given = document()
    before = deepcopy(given)
    card_of(given)
    assert given == before
