"""The README.md of a model: what it says, and that no name in it is markup."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from advseg.models.architectures import IMAGENET, CompactSettings
from advseg.models.card import Card
from advseg.platform.registry.model_card import model_card

CARD = Card(
    segmenter=CompactSettings(width=8),
    discriminator=None,
    classes=("sky", "sea", "sand"),
    palette=((0, 0, 0), (0, 0, 255), (255, 255, 0)),
    ignore_index=255,
    normalisation=IMAGENET,
    metrics={"val/miou": 41.256, "val/iou/sky": 80.0, "val/iou/sea": float("nan"), "loss/ce": 0.1},
    lineage={
        "key": "beach/7",
        "step": 600,
        "dataset_digest": "ab12",
        "images": {"labelled": 50, "unlabelled": 200, "validation": 20},
        "checkpoint": "cd34",
        "spec": {"name": "beach", "model": {"weights": None}, "method": {"name": "adversarial"}},
    },
)


def front(text: str) -> dict[str, Any]:
    begin, matter, _ = text.split("---\n", 2)
    assert begin == ""
    return yaml.safe_load(matter)


def with_spec(card: Card, **spec: Any) -> Card:
    return replace(card, lineage={**card.lineage, "spec": {**card.lineage["spec"], **spec}})


def test_it_begins_as_the_hub_reads_it() -> None:
    assert front(model_card(CARD)) == {
        "license": "unknown",
        "library_name": "advseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "pytorch", "safetensors"],
    }
    assert front(model_card(CARD, "cc-by-4.0"))["license"] == "cc-by-4.0"


@pytest.mark.parametrize(
    "line",
    [
        "# beach",
        "| mean IoU | 41.26 |",
        "| 0 | sky | 80.00 |",
        "| 1 | sea | - |",
        "| 2 | sand | - |",
        "- digest: ab12",
        "- images: labelled 50, unlabelled 200, validation 20",
        "- trial: beach/7",
        "- method: adversarial",
        "- step: 600",
        "- checkpoint: cd34",
        "- start weights: none: it was trained from fresh weights",
        "- Nothing is known of classes without an IoU, 1 of 3.",
    ],
)
def test_it_says_figures_data_limits_and_lineage(line: str) -> None:
    assert line in model_card(CARD).splitlines()


def test_start_weights_are_named_without_the_place_where_they_lay() -> None:
    text = model_card(with_spec(CARD, model={"weights": "s3://bucket/secret/deeplab.pth"}))
    assert "- start weights: deeplab&#46;pth, whose licence is unknown: ask their makers\n" in text
    assert "secret" not in text


def test_windows_and_sizes_are_told() -> None:
    assert "the network reads each whole, at its own size" in model_card(CARD)
    assert "reads each window by window" in model_card(with_spec(CARD, trainer={"evaluation": {"mode": "sliding"}}))
    assert "a height of 24 and a width of 16 pixels" in model_card(replace(CARD, resize=(24, 16)))


def test_of_a_card_that_says_little_it_says_so() -> None:
    text = model_card(replace(CARD, metrics={}, lineage={}))
    assert "It has not been judged." in text
    assert text.count("not recorded") == 7


def test_of_very_many_classes_it_lists_the_first() -> None:
    many = replace(CARD, classes=tuple(f"class {id}" for id in range(300)), palette=((0, 0, 0),) * 300)
    assert "| 255 | class 255 | - |\n\nand 44 more classes" in model_card(many)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](http://evil.example)",
    "![x](http://evil.example/a.png)",
    "www.evil.example",
    "https://evil.example",
    "me@evil.example",
    "a | b\n\n# heading\n---\nlicense: mit",
    "`code` *strong* _weak_ ~~no~~ $x$ :smile: &lt;",
    "\x1b[31m\u202eesrever\u2028",
    "\\",
]


def rendered(card: Card) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(model_card(card).split("---\n", 2)[2])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_neither_markup_nor_links(name: str) -> None:
    hostile = replace(
        CARD,
        classes=(name, "sea", "sand"),
        lineage={
            "key": name,
            "dataset_digest": name,
            "images": {name: 3},
            "checkpoint": name,
            "spec": {"name": name, "model": {"weights": name}, "method": {"name": name}},
        },
    )
    page = rendered(hostile)
    assert re.findall(r"<(\w+)", page) == re.findall(r"<(\w+)", rendered(CARD))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u2028\u202e]", model_card(hostile))
    # What shows pages may find links in text that Markdown does not.
    assert not re.search(r"[a-z]\.[a-z]|://", model_card(hostile).partition("## Figures")[2])


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "mode", "weights"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["model", "method", "trainer", "name"]), ANY), st.text())
def test_whatever_a_spec_says_there_is_a_card(spec: dict[str, Any], name: str) -> None:
    text = model_card(replace(CARD, classes=("sky", name), palette=((0, 0, 0),) * 2, lineage={"spec": spec}))
    assert front(text)["license"] == "unknown"
