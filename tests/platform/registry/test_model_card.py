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
from advseg.models.resize import LongerSide
from advseg.platform.gate.verdict import Gate, Looked, judge
from advseg.platform.registry.confirmed import UNCONFIRMED
from advseg.platform.registry.model_card import model_card
from advseg.platform.spec.confirm import Confirm

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

SEEDS = range(4, 10)


def verdict(rival: str = "the supervised baseline", lead: float = 1.0) -> Gate:
    """On trials 7 and 8, of which the first is so far ahead of its rival."""
    values = {7: dict.fromkeys(SEEDS, 50.0 + lead), 8: dict.fromkeys(SEEDS, 50.0)}
    return judge(Confirm(candidates=2, seeds=6), values, {rival: dict.fromkeys(SEEDS, 50.0)})


def front(text: str) -> dict[str, Any]:
    begin, matter, _ = text.split("---\n", 2)
    assert begin == ""
    return yaml.safe_load(matter)


def with_spec(card: Card, **spec: Any) -> Card:
    return replace(card, lineage={**card.lineage, "spec": {**card.lineage["spec"], **spec}})


def test_of_a_registered_version_it_says_which_and_how_to_make_it_again() -> None:
    text = model_card(CARD, None, reference="beach@3")
    assert "\n# beach, version 3\n" in text
    assert "- to train it again: `advseg reproduce models:/beach/3`, by its registry" in text.splitlines()
    odd = model_card(CARD, None, reference="a`<b>@3")
    assert "\n# a&#96;&#60;b&#62;, version 3\n" in odd
    assert "advseg reproduce" not in odd + model_card(CARD, None)


def test_it_begins_as_the_hub_reads_it() -> None:
    assert front(model_card(CARD, None)) == {
        "license": "unknown",
        "library_name": "advseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "pytorch", "safetensors"],
    }
    assert front(model_card(CARD, None, "cc-by-4.0"))["license"] == "cc-by-4.0"


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
    assert line in model_card(CARD, None).splitlines()


def test_it_says_what_its_sweep_chose() -> None:
    space = {f"method.{key}": {"low": 0.0, "high": 9.0} for key in ("lambda_adv", "absent", "most")}
    text = model_card(with_spec(CARD, method={"lambda_adv": 0.68427, "most": None}, sweep={"space": space}), None)
    assert "- swept: method&#46;lambda&#95;adv 0&#46;6843, method&#46;most null\n" in text
    assert "- swept" not in model_card(CARD, None)


def test_start_weights_are_named_without_the_place_where_they_lay() -> None:
    text = model_card(with_spec(CARD, model={"weights": "s3://bucket/secret/deeplab.pth"}), None)
    assert "- start weights: deeplab&#46;pth, whose licence is unknown: ask their makers\n" in text
    assert "secret" not in text
    text = model_card(with_spec(CARD, model={"weights": None, "pretrained": "/secret/mit-b0"}), None)
    assert "- start weights: mit-b0, whose licence is unknown: ask their makers\n" in text


def test_windows_and_sizes_are_told() -> None:
    assert "the network reads each whole, at its own size" in model_card(CARD, None)
    assert "reads each window by window" in model_card(
        with_spec(CARD, trainer={"evaluation": {"mode": "sliding"}}), None
    )
    assert "a height of 24 and a width of 16 pixels" in model_card(replace(CARD, resize=(24, 16)), None)
    longer = model_card(replace(CARD, resize=LongerSide(longer=640)), None)
    assert "brought to 640 pixels on its longer side, in its own proportions, as those" in longer


def test_of_a_card_that_says_little_it_says_so() -> None:
    text = model_card(replace(CARD, metrics={}, lineage={}), None)
    assert "It has not been judged." in text
    assert text.count("not recorded") == 7


def test_of_very_many_classes_it_lists_the_first() -> None:
    many = replace(CARD, classes=tuple(f"class {id}" for id in range(300)), palette=((0, 0, 0),) * 300)
    assert "| 255 | class 255 | - |\n\nand 44 more classes" in model_card(many, None)


def test_a_trial_that_was_looked_at_before_says_so() -> None:
    looked = {7: Looked(times=2, used=0.05)}
    assert "This was look 2 at it; all looks together share that p." in model_card(
        CARD, replace(verdict(), looked=looked)
    )


def test_the_verdict_on_its_trial_comes_before_the_validation_figures() -> None:
    gate = replace(verdict(), test={"trial 7": 39.0, "the supervised baseline": 38.0})
    before, _, after = model_card(CARD, gate).partition("## Figures\n\n")
    assert before.partition("## On fresh seeds\n\n")[2] == (
        "**The figure to quote: a mean IoU of 39.00 percent on the test images**, which no training and no "
        "choice reads. On the same images: the supervised baseline 38.00.\n\n"
        "The gate says: promoted. trial 7 is 1&#46;00 points above the supervised baseline on 6 seeds, 90&#37; "
        "&#91;&#43;1&#46;00, &#43;1&#46;00&#93;, p &#61; 0&#46;0156.\n\n"
        "The settings of the model, and those of each rival, were trained anew on the seeds 4, 5, 6, 7, 8, 9, which "
        "its sweep did not use, and judged by the validation images after the last step. In percentage points of mean "
        "IoU:\n\n"
        "| rival | above it by | interval of 90% | pairs | p |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| the supervised baseline | +1.00 | +1.00 to +1.00 | 6 | 0.0156 |\n\n"
        "A trial passes if the exact test by changes of sign gives p of at most 0.05 for a lead of more than 0 points "
        "over every rival. Adjusted for 2 candidates its p is 0.0312.\n\n"
    )
    assert after.startswith("In percent, on the validation images, by which a sweep chooses among its trials.\n")
    some = replace(CARD, lineage={**CARD.lineage, "judged_by": 50})
    assert "In percent, on 50 of the validation images, by which" in model_card(some, None)


def test_without_test_images_there_is_no_figure_to_quote() -> None:
    assert "The figure to quote" not in model_card(CARD, verdict())
    assert "The gate says: kept." in model_card(CARD, verdict(lead=-1.0))


@pytest.mark.parametrize("key", ["beach/9", "beach/baseline", None])
def test_without_a_verdict_on_its_trial_it_says_so(key: str | None) -> None:
    other = replace(CARD, lineage={"key": key} if key else {})
    for text in (model_card(other, verdict()), model_card(CARD, None)):
        assert f"## On fresh seeds\n\n{UNCONFIRMED}\n\n## Figures" in text


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


def rendered(card: Card, gate: Gate) -> str:
    return MarkdownIt("gfm-like", {"linkify": False}).render(model_card(card, gate).split("---\n", 2)[2])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_neither_markup_nor_links(name: str) -> None:
    swept = {"space": {"method.value": {}}}
    plain = with_spec(CARD, method={"name": "adversarial", "value": 1}, sweep=swept)
    hostile = replace(
        CARD,
        classes=(name, "sea", "sand"),
        lineage={
            "key": f"{name}/7",
            "dataset_digest": name,
            "images": {name: 3},
            "checkpoint": name,
            "spec": {
                "name": name,
                "model": {"weights": name},
                "method": {"name": name, "value": name},
                "sweep": swept,
            },
        },
    )
    figures = {"trial 7": 39.0, "rival": 38.0}
    gate = replace(verdict("rival"), test=figures)
    named = replace(verdict(name), reason=name, test={name if key == "rival" else key: 1.0 for key in figures})
    page, text = rendered(hostile, named), model_card(hostile, named)
    assert re.findall(r"<(\w+)", page) == re.findall(r"<(\w+)", rendered(plain, gate))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u2028\u202e]", text)
    # What shows pages may find links in text that Markdown does not.
    ours = text.partition("## Confirmed")[2].replace("model.json", "")
    assert not re.search(r"[a-z]\.[a-z]|://", ours)


KEYS = ["name", "mode", "weights", "space", "method.name"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "mode", "weights", "space", "method.name"]), inner)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["model", "method", "trainer", "sweep", "name"]), ANY), st.text())
def test_whatever_a_spec_says_there_is_a_card(spec: dict[str, Any], name: str) -> None:
    text = model_card(replace(CARD, classes=("sky", name), palette=((0, 0, 0),) * 2, lineage={"spec": spec}), None)
    assert front(text)["license"] == "unknown"
