"""Tables and lines for the terminal."""

from collections.abc import Sequence
from typing import Literal

from optuna.trial import TrialState
from rich.table import Table
from rich.text import Text

from .events import TrialUpdate, Verdict
from .ledger import Row, beats

_STYLES = {"RUNNING": "cyan", "COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red"}


def progress_table(stage: str, updates: Sequence[TrialUpdate]) -> Table:
    """Trials in the order in which they were heard of."""
    table, names = _trial_table(stage, [update.params for update in updates], justify="left")
    for update in updates:
        table.add_row(
            update.key,
            *(number(update.params.get(name)) for name in names),
            f"{update.step}/{update.steps}",
            percent(update.miou),
            _state(update.state, update.reason),
        )
    return table


def trials_table(sweep: str, rows: Sequence[Row]) -> Table:
    """The trials of a sweep in the order given."""
    table, names = _trial_table(f"sweep {sweep}", [row.params for row in rows], justify="right")
    for row in rows:
        table.add_row(
            str(row.number),
            *(number(row.params.get(name)) for name in names),
            str(max(row.curve, default=0)),
            percent(row.value),
            _state(row.state.name, row.reason if row.state is TrialState.FAIL else ""),
        )
    return table


def _trial_table(
    title: str, params: Sequence[dict[str, float]], *, justify: Literal["left", "right"]
) -> tuple[Table, list[str]]:
    """An empty table of trials, whose own column is justified as asked, and the parameters that have columns."""
    table = Table(title=title, title_justify="left")
    names = sorted({name for each in params for name in each})
    table.add_column("trial", justify=justify)
    for heading in (*(short(name) for name in names), "step", "mIoU"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    return table, names


def update_line(update: TrialUpdate) -> str:
    """One update as a line."""
    params = "  ".join(f"{short(name)} {number(value)}" for name, value in sorted(update.params.items()))
    parts = [
        f"{update.key:<20}",
        f"step {update.step:>5}/{update.steps}",
        f"mIoU {percent(update.miou):>5}",
        f"{update.state:<8}",
        params,
        update.reason,
    ]
    return "  ".join(part for part in parts if part)


def verdict_text(verdict: Verdict) -> str:
    """How a sweep ended, in a few lines."""
    won = beats(verdict.best_miou, verdict.baseline_miou)
    why_none = "the spec names no sweep.register_as" if won else "no trial beat the baseline"
    lines = [
        f"best      {verdict.best or 'no trial is complete'}  mIoU {percent(verdict.best_miou)}",
        f"baseline  mIoU {percent(verdict.baseline_miou)}",
        f"model     {verdict.registered or 'none registered: ' + why_none}",
        f"MLflow    {verdict.url}",
    ]
    return "\n".join(lines)


def short(name: str) -> str:
    """The last part of a dotted key."""
    return name.rpartition(".")[2]


def number(value: float | None) -> str:
    """Three significant digits."""
    return "" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """One digit after the point; a dash if there is none."""
    return "-" if value is None else f"{value:.1f}"


def _state(state: str, reason: str) -> Text:
    """A state in its colour. A reason is an error's own words, in which brackets are no markup."""
    return Text.assemble((state, _STYLES.get(state, "")), f" {reason}")
