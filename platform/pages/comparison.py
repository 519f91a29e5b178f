"""Runs side by side: what they were given, what became of them, and how far they are apart."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from ..base.keys import METRIC
from .paired import MAX_PAIRS, Difference, paired_difference

_SHOWN = ("val/", "loss/")
"""How the metrics begin that are compared, beside the one that is asked for."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run as MLflow knows it."""

    name: str
    run_id: str
    experiment_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    """Newest values."""
    curve: Mapping[int, float]
    """The metric that is compared, by step."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """How far a run is above the first of a comparison, at steps that both have."""

    name: str
    common: int
    """Steps at which both have a finite value."""
    first: float | None
    """Difference at the first common step, None without one."""
    last: float | None
    used: int
    """Common steps, evenly spread, that `difference` is of."""
    difference: Difference | None
    """None below two common steps."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs or more, in the order in which they were asked for."""

    metric: str
    runs: Sequence[ComparedRun]
    params: Mapping[str, Sequence[str | None]]
    """Those that differ: a value for each run, None where it has none."""
    equal: int
    """Parameters that all runs have in common."""
    metrics: Mapping[str, Sequence[float | None]]
    pairs: Sequence[Pair]
    """The others against the first."""


def compare(runs: Sequence[ComparedRun], metric: str) -> Comparison:
    """The comparison of two runs or more by a metric."""
    params = _side_by_side([run.params for run in runs])
    differing = {name: values for name, values in params.items() if len(set(values)) > 1}
    metrics = _side_by_side([run.metrics for run in runs])
    names = dict.fromkeys([metric, METRIC, *(name for name in metrics if name.startswith(_SHOWN))])
    first, *others = runs
    return Comparison(
        metric=metric,
        runs=runs,
        params=differing,
        equal=len(params) - len(differing),
        metrics={name: metrics[name] for name in names if name in metrics},
        pairs=[pair_of(first.curve, other.curve, other.name) for other in others],
    )


def pair_of(base: Mapping[int, float], curve: Mapping[int, float], name: str) -> Pair:
    """How far a curve lies above another, both by step."""
    steps = [step for step in sorted(base.keys() & curve.keys()) if math.isfinite(base[step] + curve[step])]
    used = _spread(steps, MAX_PAIRS)
    return Pair(
        name=name,
        common=len(steps),
        first=curve[steps[0]] - base[steps[0]] if steps else None,
        last=curve[steps[-1]] - base[steps[-1]] if steps else None,
        used=len(used),
        difference=paired_difference([curve[s] for s in used], [base[s] for s in used]) if len(used) > 1 else None,
    )


def comparison_url(tracking_uri: str, runs: Sequence[ComparedRun]) -> str | None:
    """Where the MLflow UI compares the same runs; None if MLflow is no server."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    ids = _quoted([run.run_id for run in runs])
    experiments = _quoted(sorted({run.experiment_id for run in runs}))
    return f"{tracking_uri.rstrip('/')}/#/compare-runs?runs={ids}&experiments={experiments}"


def _quoted(names: Sequence[str]) -> str:
    return quote(json.dumps(names, separators=(",", ":")), safe="")


def _side_by_side(columns: Sequence[Mapping]) -> dict[str, tuple]:
    """The values of each name in all columns, by name; None where a column has none."""
    names = sorted({name for column in columns for name in column})
    return {name: tuple(column.get(name) for column in columns) for name in names}


def _spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of the steps, evenly spread from the first to the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]
