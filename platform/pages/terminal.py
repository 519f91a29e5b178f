"""Tables and lines for the terminal."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich.bar import Bar
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ...trainers.reporter import rate
from ..base.events import TrialUpdate, Verdict
from ..gate.verdict import Outcome
from ..ledger.rows import Row
from ..spec.dimensions import Value
from .console import VisibleConsole, words
from .shortened import Shortened
from .sparkline import Scale, sparkline

_STYLES = {"RUNNING": "cyan", "COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "STOPPED": "magenta"}
_HEADING = 8
"""Characters of a line of a parameter's heading, where its name can be parted."""


def progress_table(stage: str, updates: Sequence[TrialUpdate]) -> Table:
    """Trials in the order in which they were heard of, each on one line."""
    table, names, has_arms = _trial_table(stage, updates, justify="left")
    table.add_column("state")
    for update in updates:
        table.add_row(
            update.key.rpartition("/")[2],
            *([update.arm or ""] if has_arms else []),
            *(number(update.params.get(name)) for name in names),
            f"{update.step}/{update.steps}",
            percent(update.miou),
            best_report(None if update.best_miou is None else (update.best_step, update.best_miou)),
            _state(update.state, update.reason),
        )
    return table


def trials_table(sweep: str, rows: Sequence[Row], scale: Scale | None) -> Table:
    """Trials of a sweep in the order given, each on one line, with their curves if there is a scale of the sweep's."""
    table, names, has_arms = _trial_table(f"sweep {sweep}", rows, justify="right")
    tried_again = any(row.account.attempts > 1 for row in rows)
    measured = any(row.account.images_per_second for row in rows)
    if scale:
        table.add_column("curve", no_wrap=True)
    for heading in (*(["tries"] if tried_again else []), *(["img/s"] if measured else []), "device\ntime"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state")
    for row in rows:
        table.add_row(
            str(row.number),
            *([row.arm or ""] if has_arms else []),
            *(number(row.params.get(name)) for name in names),
            str(row.step),
            percent(row.value),
            best_report(row.best),
            *([sparkline(row.curve, scale)] if scale else []),
            *([str(row.account.attempts)] if tried_again else []),
            *([speed(row.account.images_per_second)] if measured else []),
            duration(row.account.device_seconds),
            _state(row.told_state, row.reason),
        )
    return table


def console_for(table: Table) -> VisibleConsole:
    """A console that cuts no word of a table off, though it be wider than the terminal."""
    ample = VisibleConsole(width=10_000)
    least = Measurement.get(ample, ample.options, table).minimum
    return VisibleConsole(width=max(VisibleConsole().width, least))


def importance_table(shares: Mapping[str, float], arm: str | None = None) -> Table:
    """Parameters, of an arm if the sweep has any, with their shares as bars."""
    table = Table(
        title=f"parameter importance{f' in arm {arm}' if arm else ''}",
        title_justify="left",
        box=None,
        show_header=False,
    )
    names = short_names(shares)
    for name, share in shares.items():
        table.add_row(names[name], f"{share:.0%}", Bar(1, 0, share, width=40))
    return table


def _trial_table(
    title: str, trials: Sequence[Row | TrialUpdate], *, justify: Literal["left", "right"]
) -> tuple[Table, list[str], bool]:
    """An empty table of trials, whose own column is justified as asked, the parameters that have columns, and whether
    there is one of arms."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    names, has_arms = sorted({name for each in trials for name in each.params}), any(each.arm for each in trials)
    table.add_column("trial", justify=justify, no_wrap=True)
    if has_arms:
        table.add_column("arm", no_wrap=True)
    for heading in (*map(folded, short_names(names).values()), "step", "mIoU", "best"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table, names, has_arms


def update_line(update: TrialUpdate) -> str:
    """One update as a line."""
    params = "  ".join(f"{short} {number(update.params[name])}" for name, short in short_names(update.params).items())
    parts = [
        f"{update.key:<20}",
        f"step {update.step:>5}/{update.steps}",
        f"mIoU {percent(update.miou):>5}",
        f"{update.state:<8}",
        update.arm or "",
        params,
        update.reason,
    ]
    return "  ".join(part for part in parts if part)


def verdict_text(verdict: Verdict) -> str:
    """How a sweep ended, in a few lines."""
    why_none = (
        "no trial is ahead on fresh seeds"
        if verdict.gate and verdict.gate.startswith(Outcome.KEPT)
        else "the spec names no sweep.register_as"
        if verdict.won
        else "no trial beat the baseline"
        if verdict.best
        else "no trial is complete"
    )
    unregistered = verdict.best and not verdict.registered
    lines = [
        f"best      {verdict.best or 'no trial is complete'}  mIoU {percent(verdict.best_miou)}",
        f"baseline  mIoU {percent(verdict.baseline_miou)}",
        *([f"gate      {verdict.gate}"] if verdict.gate else []),
        *(f"{'' if place else 'arms':<10}{line}" for place, line in enumerate(verdict.arms)),
        f"model     {verdict.registered or 'none registered: ' + why_none}",
        *([f"          `advseg models pull {verdict.best}` pulls that of the best"] if unregistered else []),
        f"MLflow    {verdict.url}",
    ]
    return "\n".join(lines)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Dotted keys with as few of their last parts as tell them apart, in alphabetical order of the keys."""
    parts = {name: name.split(".") for name in sorted(names)}

    def last(name: str, count: int) -> str:
        return ".".join(parts[name][-count:])

    def is_unique(name: str, count: int) -> bool:
        return sum(last(other, count) == last(name, count) for other in parts) == 1

    return {
        name: last(name, next((count for count in range(1, len(own)) if is_unique(name, count)), len(own)))
        for name, own in parts.items()
    }


def folded(name: str) -> str:
    """A name on several lines, parted after underscores."""
    lines = [""]
    for part in re.findall("[^_]*_*", name)[:-1]:
        if lines[-1] and len(lines[-1] + part) > _HEADING:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def number(value: Value) -> str:
    """Four significant digits of a number, whole numbers in full; anything else as it is written in a spec."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


def speed(images_per_second: float | None) -> str:
    """As a training's own lines have it."""
    return "" if images_per_second is None else rate(images_per_second)


def percent(value: float | None) -> str:
    """Two digits after the point; a dash if there is none."""
    return "-" if value is None else f"{value:.2f}"


def best_report(best: tuple[int, float] | None) -> str:
    """Step and mean IoU of the best report, as 63.81@10; a dash before the first."""
    return "-" if best is None else f"{best[1]:.2f}@{best[0]}"


def duration(seconds: float) -> str:
    """Seconds, from a minute on as h:mm:ss."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def state_counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many trials are in which state."""
    counts = Counter((row.state, row.told_state) for row in rows)
    return {told: count for (_, told), count in sorted(counts.items())}


def states(rows: Sequence[Row]) -> str:
    """The same in words."""
    return ", ".join(f"{count} {state}" for state, count in state_counts(rows).items()) or "none"


def _state(state: str, reason: str) -> Shortened:
    """A state in its colour, and as much of the reason as a line has room for, in which brackets are no markup."""
    line = Text(" ").join([Text(state, _STYLES.get(state, "")), *map(words, reason.split())])
    return Shortened(line, least=len(state) + 1)
