"""The tables of Hung et al. (2018): which spec each row is, and where its published figure stands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..platform.spec.spec import Variant
from ..platform.spec.spec_file import read_document

SPECS = Path(__file__).parent / "specs"
PAPER = SPECS / "paper"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of a table: a spec, with some lambdas at 0 and some fields changed."""

    spec: str
    """File in specs/paper, without its suffix."""
    variant: Variant
    values: tuple[tuple[str, float], ...] = ()
    """Fields of the spec that it changes."""
    published: float | None
    """mIoU in percent; None of what nobody has published with these networks."""

    @property
    def name(self) -> str:
        """What a user types to have this row alone, as in voc-1-8/semi."""
        changed = "".join(f"/{key.rpartition('.')[2]}={value:g}" for key, value in self.values)
        return f"{self.spec.replace('_', '-')}/{self.variant}{changed}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, and how many images are labelled when it is trained in small."""

    title: str
    rows: tuple[Row, ...]
    label_counts: tuple[int, ...] = ()
    """Numbers of labelled images on `shapes`; by default the fractions of the rows' own specs."""


def _variants(*specs: str) -> Iterable[Row]:
    for spec in specs:
        for variant, published in read_document(PAPER / f"{spec}.yaml")["published"].items():
            yield Row(spec=spec, variant=variant, published=published)


def _sweep(spec: str, variant: Variant, key: str, published: Mapping[float, float]) -> Iterable[Row]:
    for value, figure in published.items():
        yield Row(spec=spec, variant=variant, values=((key, value),), published=figure)


def fraction_of(spec: str) -> float:
    """The share of its labelled list that a spec of specs/paper trains on."""
    dataset: Mapping[str, Any] = read_document(PAPER / f"{spec}.yaml")["dataset"]
    return dataset.get("fraction", 1.0)


LAMBDA_ADV = {0: 73.6, 0.005: 74.0, 0.01: 74.9, 0.02: 74.6, 0.04: 74.1, 0.05: 73.0}
LAMBDA_SEMI = {0.05: 68.4, 0.1: 69.5, 0.2: 69.1}
THRESHOLD = {0: 67.2, 0.1: 68.8, 0.2: 69.5, 0.3: 69.2, 1: 67.6}


CONSISTENT: tuple[Variant, ...] = ("fixmatch", "mean-teacher", "unimatch-v2", "fixmatch-adversarial")


@cache
def tables() -> Mapping[str, Table]:
    """All tables by name. Figures by share of labels stand in the specs themselves."""
    return {
        "voc": Table(
            title="PASCAL VOC 2012 val, by share of labels",
            rows=tuple(_variants("voc_1_8", "voc_1_4", "voc_1_2", "voc_full")),
        ),
        "cityscapes": Table(
            title="Cityscapes val, by share of labels",
            rows=tuple(_variants("cityscapes_1_8", "cityscapes_1_4", "cityscapes_1_2", "cityscapes_full")),
        ),
        "voc-only": Table(
            title="PASCAL VOC 2012 val, the images of SBD unlabelled",
            rows=tuple(_variants("voc_only")),
            label_counts=(111,),  # as 1464 of 10582
        ),
        "ablation": Table(
            title="what each loss adds, and other methods, PASCAL VOC 2012 val, 1/8 of the labels",
            rows=(*_variants("voc_1_8"), *(Row(spec="voc_1_8", variant=name, published=None) for name in CONSISTENT)),
            label_counts=(50, 400),
        ),
        "lambda-adv": Table(
            title="weight of the adversarial loss, PASCAL VOC 2012 val, all labels",
            rows=tuple(_sweep("voc_full", "adversarial", "method.lambda_adv", LAMBDA_ADV)),
        ),
        "lambda-semi": Table(
            title="weight of the pseudo-label loss, PASCAL VOC 2012 val, 1/8 of the labels",
            rows=tuple(_sweep("voc_1_8", "semi", "method.lambda_semi", LAMBDA_SEMI)),
        ),
        "threshold": Table(
            title="confidence threshold, PASCAL VOC 2012 val, 1/8 of the labels",
            rows=tuple(_sweep("voc_1_8", "semi", "method.threshold", THRESHOLD)),
        ),
    }
