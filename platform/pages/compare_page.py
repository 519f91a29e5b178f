"""What `advseg compare` prints, and the page that it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..base.visible import visible_line
from .comparison import Comparison, Pair
from .console import VisibleConsole, words
from .html_page import heading, link, note, page, paragraph, plot, table, write_page

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = 8
"""Runs that have columns in the terminal, if it is wide enough."""
_KINDS = ("parameter", "metric")
_FEWEST, _GAP, _NAMES = 2, 2, 40
"""Runs that have columns however narrow the terminal is, what is between columns, and the width of their names."""
CAVEAT = (
    "The interval is 95 % by Student's t over common steps, which depend on each other: it says how steady the "
    "difference was in these runs, not what another seed would give."
)


def print_comparison(comparison: Comparison, url: str | None) -> None:
    """Parameters that differ, metrics side by side, differences, and where the MLflow UI compares the same runs."""
    console = VisibleConsole()
    # Before they are measured.
    params = {
        visible_line(name): [visible_line(_text(v)) for v in values] for name, values in comparison.params.items()
    }
    metrics = {visible_line(name): [_number(v) for v in values] for name, values in comparison.metrics.items()}
    headings = [visible_line(run.name) for run in comparison.runs]
    first, widths = column_widths(headings, {**params, **metrics}, console.width)
    if params:
        console.print(_table("parameters that differ", _KINDS[0], headings, params, first, widths))
    console.print(equal_line(comparison), soft_wrap=True)
    console.print(_table("newest values", _KINDS[1], headings, metrics, first, widths))
    if len(comparison.runs) > len(widths):
        more = len(comparison.runs) - len(widths)
        console.print(f"and {more} more runs, which --html FILE and --json show", soft_wrap=True)
    for pair in comparison.pairs:
        console.print(pair_line(pair, comparison), soft_wrap=True, markup=False, highlight=False)
    console.print(CAVEAT, soft_wrap=True)
    if url:
        # No markup and no wrapping: brackets and length belong to the address.
        console.print(f"MLflow  {url}", soft_wrap=True, markup=False, highlight=False)


def write_comparison(comparison: Comparison, url: str | None, path: Path) -> None:
    """The same as one HTML file, with a plot. Raises UserError if the path is a folder's."""
    names = [run.name for run in comparison.runs]
    parts = [
        heading(f"{comparison.metric} by step"),
        plot(_figure(comparison), "curves"),
        heading("Differences"),
        *(paragraph(pair_line(pair, comparison)) for pair in comparison.pairs),
        note(CAVEAT),
        heading("Parameters"),
        table(
            ["differs", *names],
            ([name, *map(_text, values)] for name, values in comparison.params.items()),
            words=("differs",),
        )
        if comparison.params
        else "",
        paragraph(f"{equal_line(comparison)}."),
        heading("Newest values"),
        table(
            ["metric", *names],
            ([name, *map(_number, values)] for name, values in comparison.metrics.items()),
            words=("metric",),
        ),
        *([link("The same comparison in the MLflow UI", url)] if url else []),
    ]
    title = " and ".join(names) if len(names) == 2 else f"{names[0]} and {len(names) - 1} other runs"
    write_page(path, page(title, parts))


def equal_line(comparison: Comparison) -> str:
    """How many parameters are not in the table, in a sentence."""
    if comparison.equal == 1:
        return "1 parameter is equal"
    return f"{'all ' if not comparison.params else ''}{comparison.equal} parameters are equal"


def pair_line(pair: Pair, comparison: Comparison) -> str:
    """A run against the first, in a sentence."""
    head = f"{pair.name} - {comparison.runs[0].name}: {comparison.metric}"
    if pair.first is None or pair.last is None:
        return f"{head} at no common step"
    ends = f"first {pair.first:+.3g}, last {pair.last:+.3g}"
    if pair.difference is None:
        return f"{head} {pair.last:+.3g} at their only common step"
    steps = f"{pair.common} common steps" if pair.used == pair.common else f"{pair.used} of {pair.common} common steps"
    return f"{head} {pair.difference.mean:+.3g} ± {pair.difference.half_width:.2g} over {steps}; {ends}"


def column_widths(headings: Sequence[str], rows: Mapping[str, Sequence[str]], width: int) -> tuple[int, Sequence[int]]:
    """The width of the names of rows, and of the column of each run that has one in so wide a terminal.

    Columns are as wide as what they hold; where even the first two have no room, these share what there is.
    """
    first = min(max(map(len, (*_KINDS, *rows))), _NAMES)
    room = width - first
    natural = [
        max(len(heading), *(len(cells[place]) for cells in rows.values())) for place, heading in enumerate(headings)
    ]
    count = 0
    while count < min(len(natural), SHOWN) and sum(natural[: count + 1]) + _GAP * (count + 1) <= room:
        count += 1
    if count >= _FEWEST:
        return first, natural[:count]
    return first, [max(room // _FEWEST - _GAP, 1)] * _FEWEST


def cut(text: str, width: int) -> str:
    """A text without its middle if it is wider than that: values that differ often do so at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def comparison_json(comparison: Comparison, url: str | None) -> dict[str, Any]:
    """All that is printed of a comparison, and the runs whole. Values are in the metrics' own units."""
    names = [run.name for run in comparison.runs]
    return {
        "metric": comparison.metric,
        "runs": [
            {
                "name": run.name,
                "mlflow_run": run.run_id,
                "params": dict(run.params),
                "metrics": dict(run.metrics),
                "curve": [{"step": step, "value": run.curve[step]} for step in sorted(run.curve)],
            }
            for run in comparison.runs
        ],
        "differing_params": {name: dict(zip(names, values, strict=True)) for name, values in comparison.params.items()},
        "equal_params": comparison.equal,
        "differences": [
            {
                "name": pair.name,
                "from": names[0],
                "common_steps": pair.common,
                "used_steps": pair.used,
                "first": pair.first,
                "last": pair.last,
                **(asdict(pair.difference) if pair.difference else {"mean": None, "half_width": None}),
            }
            for pair in comparison.pairs
        ],
        "mlflow_url": url,
    }


def _table(
    title: str,
    kind: str,
    headings: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    first: int,
    widths: Sequence[int],
) -> Table:
    """A table of runs, each row on one line; those that have no width have no column."""
    shown = Table(title=title, title_justify="left", box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    shown.add_column(kind, no_wrap=True, width=first)
    for name, width in zip(headings, widths, strict=False):
        shown.add_column(words(cut(name, width)), justify="right", no_wrap=True, width=width)
    for name, cells in rows.items():
        shown.add_row(
            words(cut(name, first)), *(words(cut(cell, width)) for cell, width in zip(cells, widths, strict=False))
        )
    return shown


def _figure(comparison: Comparison) -> "Figure":
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for run in comparison.runs:
        steps = sorted(run.curve)
        figure.add_trace(Scatter(x=steps, y=[run.curve[step] for step in steps], mode="lines+markers", name=run.name))
    return figure.update_layout(xaxis_title="step", yaxis_title=comparison.metric, height=460)


def _text(value: str | None) -> str:
    return "-" if value is None else value


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
