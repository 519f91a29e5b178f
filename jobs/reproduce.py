"""A table of the paper: trains its rows, several seeds each, and gives our figures beside the published ones.

Asked again it goes on where it stopped.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table as Page

from ..platform.base.home import find_home
from ..platform.pages.paired import MAX_PAIRS, Difference, paired_difference
from ..platform.spec.spec import Spec
from ..platform.spec.spec_file import SpecError, load_spec
from ..trainers.data.shapes import ShapesSettings, write_shapes
from ..trainers.errors import UserError
from ..trainers.outcome import read_outcome
from ..trainers.progress import underway
from .paper_tables import PAPER, SPECS, Row, Table, fraction_of, tables
from .side_by_side import train_side_by_side

POOL = ShapesSettings(labelled=800, unlabelled=1, val=200)
"""The images that `--on shapes` draws labels from."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: a row of the table with a seed."""

    row: Row
    labels: str
    """Which share or number of the images is labelled; rows of the same labels and seed are pairs."""
    seed: int
    spec: Spec
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table with so many labels: our mean IoU in percent beside the published one."""

    labels: str
    row: Row
    miou: tuple[float, ...]
    """Of each seed."""
    mean: Difference
    gain: Difference | None
    """Over the supervised row of the same labels, paired by seed; None for that row itself, and without one."""
    published_gain: float | None


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A table that was trained."""

    title: str
    lines: Sequence[Line]


def reproduce(
    name: str,
    rows: Sequence[str],
    *,
    on: Literal["paper", "shapes"],
    seeds: int | None,
    processes: int,
    overrides: Sequence[str],
    console: Console,
) -> Reproduction:
    """Train what is not trained yet of a table, or of some of its rows, and say so on a console.

    Raises UserError, before anything is trained, for what there is not and for what is missing.
    """
    table = _chosen(name, rows)
    if seeds is None:
        seeds = 3 if on == "shapes" else 1
    for option, value, most in (("--seeds", seeds, MAX_PAIRS), ("--processes", processes, 64)):
        if not 1 <= value <= most:
            raise UserError(f"{option} must be in [1, {most}], but is {value}")
    if on == "shapes":
        runs = list(shapes_runs(table, name, seeds, overrides, find_home()))
        title = f"{table.title}: ours on shapes"
    else:
        runs = list(paper_runs(table, name, seeds, overrides, find_home()))
        title = table.title
    train_missing(runs, processes, console)
    return Reproduction(title=title, lines=lines_of(runs, {run.folder: _miou(run) or 0.0 for run in runs}))


def train_missing(runs: Sequence[Run], processes: int, console: Console) -> None:
    """Train what is not trained yet, several at a time."""
    missing = [run for run in runs if _miou(run) is None]
    console.print(f"{len(runs)} trainings, of which {len(runs) - len(missing)} are done")
    by_folder = {run.folder: run for run in missing}
    trained = count(len(runs) - len(missing) + 1)
    with underway("trainings", len(runs)) as done:
        done(len(runs) - len(missing))

        def tell(folder: Path) -> None:
            run = by_folder[folder]
            console.print(f"{run.labels}  {run.row.name}  seed {run.seed}: mIoU {_miou(run):.1f}", soft_wrap=True)
            done(next(trained))

        train_side_by_side({folder: run.spec for folder, run in by_folder.items()}, processes, tell)


def _miou(run: Run) -> float | None:
    """Final mIoU of a finished training, in percent."""
    outcome = read_outcome(run.folder)
    return outcome.metrics["val/miou"] if outcome and outcome.step == run.spec.trainer.steps else None


def lines_of(runs: Sequence[Run], miou: Mapping[Path, float]) -> list[Line]:
    """A line for each row and number of labels."""
    found: dict[tuple[str, Row], list[float]] = {}
    for run in runs:
        found.setdefault((run.labels, run.row), []).append(miou[run.folder])
    supervised = {(labels, row.spec): row for labels, row in found if row.variant == "supervised"}
    lines = []
    for (labels, row), ours in found.items():
        base = supervised.get((labels, row.spec), row)
        compared = base is not row
        lines.append(
            Line(
                labels=labels,
                row=row,
                miou=tuple(ours),
                mean=_difference(ours, [0.0] * len(ours)),
                gain=_difference(ours, found[labels, base]) if compared else None,
                published_gain=_published_gain(row, base) if compared else None,
            )
        )
    return lines


def _published_gain(row: Row, base: Row) -> float | None:
    return None if row.published is None or base.published is None else row.published - base.published


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """The mean difference of pairs with its 95 % confidence interval, which of a single pair is not known."""
    return paired_difference(ours, theirs) if len(ours) > 1 else Difference(ours[0] - theirs[0], math.nan)


def page(reproduction: Reproduction) -> Page:
    """The table for the terminal."""
    table = Page(title=reproduction.title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("labels", "row"):
        table.add_column(heading, no_wrap=True)
    for heading in ("mIoU", "gain", "published", "published\ngain"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in reproduction.lines:
        gain = "" if line.gain is None else _interval(line.gain, sign="+")
        published_gain = "" if line.published_gain is None else f"{line.published_gain:+.1f}"
        mean = _interval(line.mean, sign="")
        published = "" if line.row.published is None else f"{line.row.published:.1f}"
        table.add_row(line.labels, line.row.name, mean, gain, published, published_gain)
    return table


def line_json(line: Line) -> dict[str, Any]:
    """A line of the table; mean IoU is in percent, a gain in points of it, an interval half the width of 95 %."""
    return {
        "labels": line.labels,
        "row": line.row.name,
        "miou": line.miou,
        "mean_miou": line.mean.mean,
        "miou_half_width": line.mean.half_width,
        "gain": line.gain.mean if line.gain else None,
        "gain_half_width": line.gain.half_width if line.gain else None,
        "published_miou": line.row.published,
        "published_gain": line.published_gain,
    }


def _interval(difference: Difference, *, sign: str) -> str:
    if math.isnan(difference.half_width):
        return f"{difference.mean:{sign}.1f}"
    return f"{difference.mean:{sign}.1f} ± {difference.half_width:.1f}"


def paper_runs(table: Table, name: str, seeds: int, overrides: Sequence[str], home: Path) -> Iterator[Run]:
    """The trainings of a table on the paper's data. Raises SpecError that lists all that is missing."""
    missing: dict[str, None] = {}
    for row in table.rows:
        for seed in range(seeds):
            try:
                spec = load_spec(PAPER / f"{row.spec}.yaml", [*overrides, *_seeded(seed)])
            except SpecError as error:
                _, *lines = str(error).splitlines()
                missing.update(dict.fromkeys(lines))
                continue
            yield _run(row, spec, name, f"{fraction_of(row.spec):g}", seed, home)
    if missing:
        raise SpecError("\n".join([f"table {name} cannot be trained yet:", *missing]))


def shapes_runs(table: Table, name: str, seeds: int, overrides: Sequence[str], home: Path) -> Iterator[Run]:
    """The trainings of a table in small."""
    root = home / "data" / "shapes-pool"
    write_shapes(root, POOL)
    for row in table.rows:
        fractions = [count / POOL.labelled for count in table.label_counts] or [fraction_of(row.spec)]
        for fraction in fractions:
            if fraction == 1 and row.variant not in ("supervised", "adversarial"):
                continue
            for seed in range(seeds):
                settings = [f"dataset.root={root}", f"dataset.fraction={fraction}", *overrides, *_seeded(seed)]
                spec = load_spec(SPECS / "shapes.yaml", settings)
                yield _run(row, spec, f"{name}-shapes", f"{round(fraction * POOL.labelled)}", seed, home)


def _seeded(seed: int) -> list[str]:
    """The same seed draws the labels, the first weights and the batches."""
    return [f"trainer.seed={seed}", f"dataset.split_seed={seed}"]


def _run(row: Row, spec: Spec, table: str, labels: str, seed: int, home: Path) -> Run:
    spec = spec.variant(row.variant).with_values(dict(row.values))
    # Other settings are another training, whose figures are not to be taken for these.
    name = f"seed-{seed}-{spec.digest()[:8]}"
    folder = home / "reproduce" / table / labels / row.name.replace("/", "-") / name
    return Run(row=row, labels=labels, seed=seed, spec=spec, folder=folder)


def _chosen(name: str, rows: Sequence[str]) -> Table:
    """A table with the rows that were asked for, and the supervised ones that they are compared with."""
    if name not in tables():
        raise UserError(
            f"there is no table {name!r}; there are {', '.join(tables())}; a registered model is named as in "
            f"{f'{name}@champion'!r}"
        )
    table = tables()[name]
    known = {row.name: row for row in table.rows}
    for row in rows:
        if row not in known:
            raise UserError(f"table {name} has no row {row!r}; its rows are {', '.join(known)}")
    specs = {known[row].spec for row in rows}
    compared = {row.name for row in table.rows if row.spec in specs and row.variant == "supervised"}
    return replace(table, rows=tuple(row for row in table.rows if not rows or row.name in {*rows, *compared}))
