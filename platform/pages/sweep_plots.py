"""The plots of a sweep's report: a figure, or the sentence why there is none."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_slice,
)
from plotly.graph_objects import Bar, Figure

from ..ledger.rows import Row, best_first, best_row
from .html_page import FOUR_DIGITS
from .importance import importances
from .sweep_page import NO_IMPORTANCE
from .terminal import short_names, states
from .tried import tried, varied

MIOU = "mIoU, %"
CURVES = 100
"""Learning curves that are drawn: a browser takes long over more."""
_HEIGHT = 420
"""Pixels."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A section of the report."""

    name: str
    """Id of its element."""
    title: str
    content: Figure | str
    """What is drawn, or why nothing is."""
    note: str = ""
    """What is not drawn."""


def trial_plots(rows: Sequence[Row], baseline: float | None) -> list[Plot]:
    """A sweep's trials by step and by number; the baseline, mean IoU in percent, is drawn as a line."""
    points = _points(rows)
    history = _complete_trials(
        "history", "mIoU by trial", rows, points, lambda: _history(study_of(points), points, baseline)
    )
    return [_curves(rows, baseline), history]


def parameter_plots(rows: Sequence[Row], logarithmic: Collection[str], baseline: float | None) -> list[Plot]:
    """Trials of one space by their parameters; `logarithmic` names those whose axes are."""
    points = _points(rows)
    study = study_of(points, logarithmic)
    return [
        _complete_trials("parallel", "Parallel coordinates", rows, points, lambda: _parallel(study, points)),
        _complete_trials("slices", "mIoU by parameter", rows, points, lambda: _slices(study, points, baseline)),
        Plot(name="importance", title="Parameter importance", content=_importance(importances(rows))),
    ]


def _points(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.state is TrialState.COMPLETE and _is_finite(row.value)]


def study_of(rows: Sequence[Row], logarithmic: Collection[str] = ()) -> optuna.Study:
    """Trials as a study in memory that numbers them as the ledger does: others that it has had wait in it for ever."""
    ranges = tried([row.params for row in rows], logarithmic)
    known = {row.number: row for row in rows}
    study = optuna.create_study(direction="maximize")
    study.add_trials(_trial(known.get(number), ranges) for number in range(max(known, default=-1) + 1))
    return study


def _trial(row: Row | None, ranges: Mapping[str, BaseDistribution]) -> FrozenTrial:
    if row is None:
        return create_trial(state=TrialState.WAITING)
    return create_trial(
        state=row.state,
        params=row.params,
        distributions={name: ranges[name] for name in row.params},
        value=row.value if row.state is TrialState.COMPLETE else None,
        intermediate_values=row.curve,
    )


def _complete_trials(
    name: str, title: str, rows: Sequence[Row], points: Sequence[Row], draw: Callable[[], Figure | str]
) -> Plot:
    """A plot of complete trials alone, which says how many others there are."""
    others = [row for row in rows if row.state is not TrialState.COMPLETE]
    note = f"Complete trials only; not drawn: {states(others)}." if points and others else ""
    return Plot(name=name, title=title, content=draw() if points else "No trial is complete.", note=note)


def _curves(rows: Sequence[Row], baseline: float | None) -> Plot:
    name, title = "curves", "Learning curves"
    reported = [row for row in rows if row.state is not TrialState.FAIL and any(map(math.isfinite, row.curve.values()))]
    if not reported:
        return Plot(name=name, title=title, content="No trial that did not fail has reported a mIoU.")
    drawn = best_first(reported)[:CURVES]
    figure = plot_intermediate_values(study_of(drawn))
    figure.update_traces(line_width=1, marker_size=4, opacity=0.5)
    figure.for_each_trace(lambda trace: trace.update(name=trace.name.replace("Trial", "trial ")))
    if best := best_row(drawn):
        figure.update_traces(line_width=3, opacity=1, selector={"name": f"trial {best.number}"})
    _mark_baseline(figure, [value for row in drawn for value in row.curve.values()], baseline)
    figure.update_layout(xaxis_title="step", yaxis_title=MIOU, height=_HEIGHT, showlegend=True)
    failed = sum(row.state is TrialState.FAIL for row in rows)
    notes = [
        "The best complete trial is the thick line." if best else "",
        f"Drawn are the best {CURVES} of {len(reported)} trials." if len(reported) > CURVES else "",
        f"{failed} failed trials are not drawn." if failed else "",
    ]
    return Plot(name=name, title=title, content=figure, note=" ".join(filter(None, notes)))


def _history(study: optuna.Study, points: Sequence[Row], baseline: float | None) -> Figure:
    figure = plot_optimization_history(study, target_name=MIOU)
    figure.update_traces(visible=False, selector={"name": "Infeasible Trial"})  # A sweep has none.
    figure.update_traces(name="best so far", line_shape="hv", selector={"name": "Best Value"})
    _mark_baseline(figure, _values(points), baseline)
    return figure.update_layout(xaxis_title="trial", yaxis_title=MIOU, height=_HEIGHT)


def _parallel(study: optuna.Study, points: Sequence[Row]) -> Figure | str:
    names = short_names(varied([row.params for row in points]))
    if len(names) < 2:
        return f"Fewer than two parameters vary among complete trials: {', '.join(names.values()) or 'none'}."
    figure = plot_parallel_coordinate(study, params=list(names), target_name=MIOU)
    figure.update_xaxes(ticktext=[MIOU, *names.values()])
    # The lowest trials are nearly white.
    return figure.update_layout(height=_HEIGHT, plot_bgcolor="#d4d4d4")


def _slices(study: optuna.Study, points: Sequence[Row], baseline: float | None) -> Figure:
    figure = plot_slice(study, target_name=MIOU)
    _mark_baseline(figure, _values(points), baseline)
    names = short_names({name for row in points for name in row.params})
    figure.update_xaxes(hoverformat=FOUR_DIGITS)
    figure.for_each_xaxis(lambda axis: axis.update(title_text=names[axis.title.text]))
    return figure.update_layout(height=_HEIGHT)


def _importance(shares: Mapping[str, float]) -> Figure | str:
    if not shares:
        return f"{NO_IMPORTANCE}."
    names = list(short_names(shares).values())
    figure = Figure(Bar(x=list(shares.values()), y=names, orientation="h"))
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title_text="share of what varies the mIoU")
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(height=140 + 40 * len(names))


def _mark_baseline(figure: Figure, values: Sequence[float], baseline: float | None) -> None:
    """A line at the baseline, if there is one, and axes that show it: a line alone moves no axis."""
    if baseline is None:
        return
    known = [value for value in (*values, baseline) if math.isfinite(value)]
    margin = 0.05 * (max(known) - min(known)) or 1.0
    figure.add_hline(
        y=baseline,
        line={"dash": "dot", "color": "#c0392b", "width": 1},
        annotation={"text": "baseline", "font": {"size": 10, "color": "#c0392b"}},
    )
    figure.update_yaxes(range=[min(known) - margin, max(known) + margin])


def _values(points: Sequence[Row]) -> list[float]:
    return [row.value for row in points if row.value is not None]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
