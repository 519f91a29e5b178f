"""A sweep's report: one HTML file, which the MLflow UI shows and a browser opens without a network."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from optuna.trial import TrialState

from ...trainers.pictures.report import CLASS_BARS, CONFUSION, PANELS
from ..base.keys import BASELINE, key_of
from ..gate.paired import TOLD
from ..gate.verdict import Gate
from ..ledger.reading import read_sweep
from ..ledger.rows import Row, best_first
from ..spec.dimensions import Range
from ..spec.spec import Spec
from ..storage.store import MissingKeyError, Store
from .arms import ArmSummary, arms_of, difference
from .html_page import heading, note, page, paragraph, pictures, plot, table
from .paired_plot import paired_plot
from .sweep_page import totals_line, verdict_line
from .sweep_plots import MIOU, Plot, parameter_plots, trial_plots
from .terminal import best_report, duration, number, percent, short_names, speed, state_counts

REPORT = "report.html"
"""The report in a sweep's folder, and as an artifact of its run."""
BEST = 20
"""Trials that the table shows."""
FAILED = 50
"""Failed trials that are listed."""


def report_of(store: Store, sweep: str, ledger: str | None) -> str:
    """The report of a sweep as it stands, as HTML; it takes seconds. Raises UserError if there is no such sweep."""
    record = read_sweep(store.folder, sweep, ledger)
    rows, spec, baseline = best_first(record.rows), record.spec, record.baseline
    arms = arms_of(rows, record.gate)
    parts = [
        note(f"written on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC"),
        note(_dataset_line(spec, record.dataset)),
        paragraph(f"{verdict_line(record.verdict)}."),
        *_trials(sweep, rows, spec),
        paragraph(f"Supervised baseline: mIoU {percent(baseline.value)}."),
        *(_gate(Gate.from_json(record.gate)) if record.gate else ()),
        *_arms(arms),
        *(part for each in _plots(rows, arms, spec, baseline.value) for part in _plot(each)),
        *_pictures(store, sweep, record.verdict.best),
        *_costs(rows, baseline, record.confirmations),
        *_failures(rows),
    ]
    return page(f"Sweep {sweep}", parts)


def _dataset_line(spec: Spec | None, digest: str | None) -> str:
    """What names the data to whoever reads the report, which is another machine's as a rule."""
    name = f"dataset {spec.dataset.root.name}" if spec else "dataset unknown"
    return f"{name}, digest {digest}" if digest else name


def _trials(sweep: str, rows: Sequence[Row], spec: Spec | None) -> Iterator[str]:
    yield heading("Best trials")
    if not rows:
        yield paragraph("No trial was handed out yet.")
        return
    names = sorted({name for row in rows for name in row.params})
    steps = f"/{spec.trainer.steps}" if spec else ""
    has_arms = any(row.arm for row in rows)
    headings = (
        "trial",
        *(["arm"] if has_arms else []),
        *short_names(names).values(),
        MIOU,
        "best",
        "step",
        "state",
        "attempts",
        "images/s",
        "device time",
        "reason",
    )
    cells = (
        (
            str(row.number),
            *([row.arm or ""] if has_arms else []),
            *(number(row.params.get(name)) for name in names),
            percent(row.value),
            best_report(row.best),
            f"{row.step}{steps}",
            row.told_state,
            str(row.account.attempts),
            speed(row.account.images_per_second),
            duration(row.account.device_seconds),
            row.reason,
        )
        for row in rows[:BEST]
    )
    yield table(headings, cells, words=("arm", "state", "reason"))
    if len(rows) > BEST:
        yield note(f"And {len(rows) - BEST} more trials: `advseg sweep show {sweep} --all` prints them.")


def _gate(gate: Gate) -> Iterator[str]:
    yield heading("On fresh seeds")
    yield paragraph(f"{gate.outcome}: {gate.reason}.")
    yield plot(paired_plot(gate), "gate")
    headings = ("trial", "against", "mIoU, points", "interval", "seeds", "p", "p, all candidates", "out")
    cells = [
        (
            str(each.trial),
            compared.rival,
            f"{compared.estimate.mean:+.2f}" if compared.estimate else "",
            f"{compared.estimate.low:+.2f} to {compared.estimate.high:+.2f}"
            if compared.estimate and compared.estimate.low is not None
            else "",
            str(len(compared.differences)),
            f"{compared.estimate.p:.3g}" if compared.estimate else "",
            f"{each.adjusted:.3g}",
            each.given_up,
        )
        for each in gate.candidates
        for compared in each.comparisons
    ]
    yield table(headings, cells, words=("against", "out"))
    confirm = gate.confirm
    if gate.test:
        figures = ((name, f"{miou:.2f}") for name, miou in gate.test.items())
        yield paragraph(
            "On the test images, which no training and no choice reads. The figure to quote is that of the winner."
        )
        yield table(("model", MIOU), figures, words=("model",))
    yield note(
        f"Each is trained anew on {confirm.seeds} seeds that the sweep did not use, and judged after its last step. A "
        f"trial passes if {TOLD[confirm.test]} gives p of at most {confirm.alpha:g} against every rival, adjusted by "
        f"Holm for {len(gate.candidates)} candidates; intervals are of {confirm.level:.0%}."
    )


def _arms(arms: Sequence[ArmSummary]) -> Iterator[str]:
    if not arms:
        return
    yield heading("Arms")
    headings = ("arm", "trials", "best trial", MIOU, "confirmed trial", "on fresh seeds", "seeds", "against", "points")
    cells = [
        (
            arm.name,
            str(len(arm.rows)),
            str(arm.best.number) if arm.best else "",
            percent(arm.best.value) if arm.best else "",
            *((str(it.trial), percent(it.miou), str(it.seeds)) if (it := arm.standing) else ("", "", "")),
            *((against.rival, difference(against)) if against else ("", "")),
        )
        for arm in arms
        for against in (arm.standing.over if arm.standing else [None])
    ]
    yield table(headings, cells, words=("arm", "against"))
    yield note(
        "Best first, by the mean on fresh seeds of the trial that is best there; differences are paired by seed, and "
        "their intervals those of the gate. Which trial of an arm stands for it is chosen by the same seeds: with more "
        "than one candidate an arm is flattered a little."
    )


def _plots(
    rows: Sequence[Row], arms: Sequence[ArmSummary], spec: Spec | None, baseline: float | None
) -> Iterator[Plot]:
    """Those of all trials; what is drawn over parameters of each arm by itself."""
    spaces = {arm: each.sweep.space if each.sweep else {} for arm, each in spec.arms.items()} if spec else {}
    yield from trial_plots(rows, baseline)
    for arm, own in {arm.name: arm.rows for arm in arms}.items() or [(None, rows)]:
        space = spaces.get(arm, {})
        logarithmic = {key for key, asked in space.items() if isinstance(asked, Range) and asked.log}
        for each in parameter_plots(own, logarithmic, baseline):
            yield replace(each, name=f"{each.name}-{arm}", title=f"{each.title}, arm {arm}") if arm else each


def _plot(each: Plot) -> Iterator[str]:
    yield heading(each.title)
    yield paragraph(each.content) if isinstance(each.content, str) else plot(each.content, each.name)
    yield note(each.note)


def _pictures(store: Store, sweep: str, best: Row | None) -> Iterator[str]:
    yield heading("Predictions on validation images")
    trainings = {"supervised baseline": key_of(sweep, BASELINE)}
    if best:
        trainings = {f"best trial {best.number}": key_of(sweep, best.number)} | trainings
    for who, key in trainings.items():
        found = [(f"{who}: {what}", content) for what, content in _newest_pictures(store.at(key))]
        yield pictures(found) if found else paragraph(f"No pictures of the {who} in {store.at(key).address}.")


def _newest_pictures(own: Store) -> Iterator[tuple[str, bytes]]:
    """The pictures of a training that there are, with what they show."""
    for key in own.keys(PANELS)[-1:]:
        yield f"step {int(Path(key).stem.removeprefix('step-'))}", own.read(key)
    for what, key in (("IoU of each class", CLASS_BARS), ("confusion matrix", CONFUSION)):
        with suppress(MissingKeyError):
            yield what, own.read(key)


def _costs(rows: Sequence[Row], baseline: Row, confirmations: Sequence[Row]) -> Iterator[str]:
    yield heading("Time spent")
    yield paragraph(f"{totals_line(rows, baseline, confirmations)}.")
    groups = {state: [row for row in rows if row.told_state == state] for state in state_counts(rows)}
    headings = ("state", "trials", "attempts", "lost attempts", "lost steps", "device time", "device-seconds")
    cells = [_cost(name, group) for name, group in groups.items()]
    beside = [_cost("baseline", [baseline])] if baseline.account.attempts else []
    if begun := [row for row in confirmations if row.account.attempts]:
        beside.append(_cost("on fresh seeds", begun))
    yield table(headings, [*cells, _cost("all trials", rows), *beside], words=("state",))
    yield note(
        "Device time is time of training in all attempts, lost ones included, times GPUs, or workers where there are "
        "none. Lost steps were made again because no checkpoint held them."
    )


def _cost(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    accounts = [row.account for row in rows]
    seconds = sum(account.device_seconds for account in accounts)
    return (
        name,
        str(len(rows)),
        str(sum(account.attempts for account in accounts)),
        str(sum(account.lost for account in accounts)),
        str(sum(account.lost_steps for account in accounts)),
        duration(seconds),
        f"{seconds:.0f}",
    )


def _failures(rows: Sequence[Row]) -> Iterator[str]:
    yield heading("Failed trials")
    failed = sorted((row for row in rows if row.state is TrialState.FAIL), key=lambda row: row.number)
    if not failed:
        yield paragraph("None.")
        return
    cells = ((str(row.number), str(row.step), row.reason) for row in failed[:FAILED])
    yield table(("trial", "step", "reason"), cells, words=("reason",))
    if len(failed) > FAILED:
        yield note(f"And {len(failed) - FAILED} more.")
