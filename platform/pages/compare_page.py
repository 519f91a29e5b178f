"""What `advseg compare` prints, and the page that it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..base.keys import METRIC
from ..base.visible import visible_line
from ..ledger.rows import best_of
from .comparison import Comparison, Pair
from .console import VisibleConsole, words
from .html_page import heading, link, note, page, paragraph, plot, table, write_page
from .terminal import best_report, number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
    params = {visible_line(name): [*map(visible_line, cells)] for name, cells in _params(comparison).items()}
    metrics = {visible_line(name): cells for name, cells in _metrics(comparison).items()}
    sweep, headings = run_headings([visible_line(run.name) for run in comparison.runs])
    first, blocks = column_blocks(headings, {**params, **metrics}, console.width)
    if params:
        _print_tables(console, f"{sweep}parameters that differ", _KINDS[0], headings, params, first, blocks)
    console.print(equal_line(comparison), soft_wrap=True)
    _print_tables(console, f"{sweep}newest values", _KINDS[1], headings, metrics, first, blocks)
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
            ([name, *cells] for name, cells in _params(comparison).items()),
            words=("differs",),
        )
        if comparison.params
        else "",
        paragraph(f"{equal_line(comparison)}."),
        heading("Newest values"),
        table(
            ["metric", *names],
            ([name, *cells] for name, cells in _metrics(comparison).items()),
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
    ends = f"first {pair.first:+.4g}, last {pair.last:+.4g}"
    if pair.difference is None:
        return f"{head} {pair.last:+.4g} at their only common step"
    steps = f"{pair.common} common steps" if pair.used == pair.common else f"{pair.used} of {pair.common} common steps"
    return f"{head} {pair.difference.mean:+.4g} ± {pair.difference.half_width:.2g} over {steps}; {ends}"


def run_headings(names: Sequence[str]) -> tuple[str, Sequence[str]]:
    """What begins the titles of tables of some runs, and what names each: runs of one sweep by their numbers."""
    parts = [name.rpartition("/") for name in names]
    sweeps = {sweep for sweep, _, _ in parts}
    if len(sweeps) > 1 or "" in sweeps:
        return "", names
    return f"{sweeps.pop()}: ", [number for _, _, number in parts]


def column_blocks(
    headings: Sequence[str], rows: Mapping[str, Sequence[str]], width: int
) -> tuple[int, Sequence[Sequence[int]]]:
    """The width of the names of rows, and of the columns of runs, in as many blocks as a terminal so wide asks for.

    Columns are as wide as what they hold; where not even two have room, these share what there is.
    """
    first = min(max(map(len, (*_KINDS, *rows))), _NAMES)
    room = width - first
    natural = [
        max(len(heading), *(len(cells[place]) for cells in rows.values())) for place, heading in enumerate(headings)
    ]
    blocks = []
    while natural:
        count = 0
        while count < len(natural) and sum(natural[: count + 1]) + _GAP * (count + 1) <= room:
            count += 1
        fewest = min(_FEWEST, len(natural))
        shared = [max(room // _FEWEST - _GAP, 1)] * fewest
        blocks.append(natural[:count] if count >= fewest else shared)
        natural = natural[len(blocks[-1]) :]
    return first, blocks


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


def _print_tables(
    console: VisibleConsole,
    title: str,
    kind: str,
    headings: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    first: int,
    blocks: Sequence[Sequence[int]],
) -> None:
    """A table for each block of runs, each row on one line."""
    begin = 0
    for widths in blocks:
        end = begin + len(widths)
        told = f"{title}, {begin + 1} to {end} of {len(headings)} runs" if len(blocks) > 1 else title
        # A title of the table's would be wrapped at its width.
        console.print(words(told), style="italic", soft_wrap=True)
        shown = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
        shown.add_column(kind, no_wrap=True, width=first)
        for name, width in zip(headings[begin:end], widths, strict=True):
            shown.add_column(words(cut(name, width)), justify="right", no_wrap=True, width=width)
        for name, cells in rows.items():
            held = (words(cut(cell, width)) for cell, width in zip(cells[begin:end], widths, strict=True))
            shown.add_row(words(cut(name, first)), *held)
        console.print(shown)
        begin = end


def _figure(comparison: Comparison) -> "Figure":
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for run in comparison.runs:
        steps = sorted(run.curve)
        figure.add_trace(Scatter(x=steps, y=[run.curve[step] for step in steps], mode="lines+markers", name=run.name))
    return figure.update_layout(xaxis_title="step", yaxis_title=comparison.metric, height=460)


def _params(comparison: Comparison) -> dict[str, list[str]]:
    """The parameters that differ, with four digits where these tell them apart."""
    shown = {}
    for name, values in comparison.params.items():
        short = ["-" if value is None else _four_digits(value) for value in values]
        shown[name] = short if len(set(short)) == len(set(values)) else ["-" if v is None else v for v in values]
    return shown


def _four_digits(value: str) -> str:
    try:
        return value if value.isdecimal() else number(float(value))
    except ValueError:
        return value  # No number.


def _metrics(comparison: Comparison) -> dict[str, list[str]]:
    """The best mean IoU and its step, if that is what is compared, and the newest values."""
    best = {f"best {METRIC}": [best_report(best_of(run.curve)) for run in comparison.runs]}
    newest = {name: [*map(_number, values)] for name, values in comparison.metrics.items()}
    return (best if comparison.metric == METRIC else {}) | newest


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
