"""A table of the paper: trains its rows, several seeds each, and prints our figures beside the published ones.

`advseg reproduce` runs it as `python -m advseg.jobs.reproduce TABLE [ROW...]`. The same command again goes on where it
stopped.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table as Page

from ..platform.base.exits import exit_status
from ..platform.base.home import find_home
from ..platform.pages.paired import MAX_PAIRS, paired_difference
from ..platform.spec.spec import Spec
from ..platform.spec.spec_file import SpecError, load_spec
from ..trainers.data.shapes import ShapesSettings, write_shapes
from ..trainers.errors import UserError
from ..trainers.outcome import read_outcome
from .paper_tables import PAPER, SPECS, Row, Table, fraction_of, tables
from .train import train_beside_others

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


def reproduce(table: Table, runs: Sequence[Run], processes: int, console: Console) -> None:
    """Train what is not trained yet, and print the table."""
    missing = [run for run in runs if _miou(run) is None]
    console.print(f"{len(runs)} trainings, of which {len(runs) - len(missing)} are done")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(train_beside_others, run.spec, run.folder): run for run in missing}
        for done in as_completed(waiting):
            done.result()
            run = waiting[done]
            console.print(f"{run.labels}  {run.row.name}  seed {run.seed}: mIoU {_miou(run):.1f}", soft_wrap=True)
    console.print(page(table.title, runs, {run.folder: _miou(run) or 0.0 for run in runs}))


def _miou(run: Run) -> float | None:
    """Final mIoU of a finished training, in percent."""
    outcome = read_outcome(run.folder)
    return outcome.metrics["val/miou"] if outcome and outcome.step == run.spec.trainer.steps else None


def page(title: str, runs: Sequence[Run], miou: Mapping[Path, float]) -> Page:
    """The table for the terminal: a line for each row and number of labels. Gains are over the supervised row."""
    lines: dict[tuple[str, Row], list[float]] = {}
    for run in runs:
        lines.setdefault((run.labels, run.row), []).append(miou[run.folder])
    supervised = {(labels, row.spec): row for labels, row in lines if row.variant == "supervised"}
    table = Page("labels", title=title, title_justify="left")
    table.add_column("row", no_wrap=True)
    for heading in ("mIoU", "gain", "published", "published gain"):
        table.add_column(heading, justify="right")
    for (labels, row), ours in lines.items():
        gain = published_gain = ""
        base = supervised.get((labels, row.spec), row)
        if base is not row:
            gain = _interval(ours, lines[labels, base], sign="+")
            published_gain = f"{row.published - base.published:+.1f}"
        mean = _interval(ours, [0.0] * len(ours), sign="")
        table.add_row(labels, row.name, mean, gain, f"{row.published:.1f}", published_gain)
    return table


def _interval(ours: Sequence[float], theirs: Sequence[float], *, sign: str) -> str:
    """The mean difference of pairs with its 95 % confidence interval, which a single pair has not."""
    if len(ours) == 1:
        return f"{ours[0] - theirs[0]:{sign}.1f}"
    difference = paired_difference(ours, theirs)
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
            if fraction == 1 and row.variant in ("semi", "self-taught"):
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


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="advseg reproduce", description=__doc__)
    parser.add_argument("table")
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--on", choices=["paper", "shapes"], default="paper")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args(arguments)
    table = _chosen(asked.table, asked.rows)
    in_small = asked.on == "shapes"
    seeds = (3 if in_small else 1) if asked.seeds is None else asked.seeds
    for option, value, most in (("--seeds", seeds, MAX_PAIRS), ("--processes", asked.processes, 64)):
        if not 1 <= value <= most:
            raise UserError(f"{option} must be in [1, {most}], but is {value}")
    runs_of = shapes_runs if in_small else paper_runs
    runs = list(runs_of(table, asked.table, seeds, asked.overrides, find_home()))
    if in_small:
        table = replace(table, title=f"{table.title}: ours on shapes")
    reproduce(table, runs, asked.processes, Console(highlight=False))


def _chosen(name: str, rows: Sequence[str]) -> Table:
    """A table with the rows that were asked for, and the supervised ones that they are compared with."""
    if name not in tables():
        raise UserError(f"there is no table {name!r}; there are {', '.join(tables())}")
    table = tables()[name]
    known = {row.name: row for row in table.rows}
    for row in rows:
        if row not in known:
            raise UserError(f"table {name} has no row {row!r}; its rows are {', '.join(known)}")
    specs = {known[row].spec for row in rows}
    compared = {row.name for row in table.rows if row.spec in specs and row.variant == "supervised"}
    return replace(table, rows=tuple(row for row in table.rows if not rows or row.name in {*rows, *compared}))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
