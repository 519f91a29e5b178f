"""What `advseg compare` prints, and the page that it writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Comparison, Pair
from .html_page import heading, link, note, page, paragraph, plot, table, write_page
from .terminal import console_for

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = 8
"""Runs that have columns in the terminal."""
CAVEAT = (
    "The interval is 95 % by Student's t over common steps, which depend on each other: it says how steady the "
    "difference was in these runs, not what another seed would give."
)


def print_comparison(comparison: Comparison, url: str | None) -> None:
    """Parameters that differ, metrics side by side, differences, and where the MLflow UI compares the same runs."""
    console = Console()
    names = [run.name for run in comparison.runs][:SHOWN]
    if comparison.params:
        params = {name: [_text(value) for value in values] for name, values in comparison.params.items()}
        _print("parameters that differ", ["parameter", *names], params)
    console.print(equal_line(comparison), soft_wrap=True)
    metrics = {name: [_number(value) for value in values] for name, values in comparison.metrics.items()}
    _print("newest values", ["metric", *names], metrics)
    if len(comparison.runs) > SHOWN:
        console.print(f"and {len(comparison.runs) - SHOWN} more runs, which --html FILE shows", soft_wrap=True)
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


def _print(title: str, headings: Sequence[str], rows: dict[str, list[str]]) -> None:
    """A table of runs; cells of those that have no column are left out."""
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in headings:
        justify = "left" if name == headings[0] else "right"
        shown.add_column(Text(name), justify=justify, overflow="fold", max_width=40)
    for name, cells in rows.items():
        # A value is a user's own, in which brackets are no markup.
        shown.add_row(*map(Text, (name, *cells[: len(headings) - 1])))
    console_for(shown).print(shown)


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
