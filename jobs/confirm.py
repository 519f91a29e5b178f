"""A sweep's best trials on fresh seeds, beside who sits there and the supervised baseline; and what the gate says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import TrialState

from ..platform.base.events import Stage, emit
from ..platform.cluster.driver import Job
from ..platform.gate.plan import SUPERVISED, Arm, Plan, champion_arm, plan_of
from ..platform.gate.verdict import Gate, Incumbent, judge, levels
from ..platform.ledger.confirmations import Planned
from ..platform.ledger.ledger import Ledger
from ..platform.ledger.rows import Row, best_first, of_arm
from ..platform.registry.champion import Champion, sitting_champion
from ..platform.registry.promotion import Standing, incomparable, protocol_of
from ..platform.spec.confirm import Confirm
from ..platform.spec.spec import arm_document, spec_from, with_values
from ..platform.sweep.attempts import update_of
from ..platform.sweep.confirmations import Confirmations
from ..platform.sweep.running import run_book
from ..platform.sweep.tasks import SweepTasks
from ..platform.tracking.patience import patiently
from ..trainers.errors import UserError
from .judge_on_test import missing_figures

GATE = "gate.json"
"""What the gate has said, as an artifact of the sweep's run."""


def confirm_best(job: Job, ledger: Ledger, tasks: SweepTasks, concurrency: int) -> Gate | None:
    """Train the best trials on fresh seeds, and judge them; None where there is nothing to confirm.

    A gate that has spoken of these trials is not asked again, whoever sits there by now. Raises as `run_book` does.
    """
    spec = job.spec
    assert spec.sweep
    confirm, rows = spec.sweep.confirm, {row.number: row for row in ledger.rows()}
    if confirm is None:
        return None
    candidates = candidates_of(confirm, list(rows.values()), ledger.baseline())
    model, earlier = spec.sweep.register_as, Gate.from_json(spoken) if (spoken := ledger.gate) else None
    if earlier and earlier.is_of(confirm, candidates, model):
        emit(Stage(text="these trials were judged on these seeds before: the verdict stands, and nothing is trained"))
        return with_figures(job, ledger, earlier)
    champion, uncompared = champion_to_beat(job, confirm, tasks)
    run = champion.standing.run if champion else None
    left_out = next((trial for trial in candidates if run and rows[trial].account.run_id == run), None)
    candidates = [trial for trial in candidates if trial != left_out]
    if not candidates:
        emit(Stage(text="no trial beats the baseline, or only the champion itself: none is confirmed"))
        return None
    looked = earlier.looked if earlier else {}
    if earlier and not any(levels(confirm, candidates, looked).values()):
        emit(
            Stage(
                text=f"earlier looks at these trials have left too little of alpha = {confirm.alpha:g} for "
                f"{confirm.seeds} seeds: the verdict stands, and nothing is trained; ask for more seeds, or begin "
                "another sweep, with another trainer.seed"
            )
        )
        return with_figures(job, ledger, earlier)
    incumbent = incumbent_of(model, champion)
    rival = champion_arm(incumbent.version, incumbent.run) if incumbent else None
    plan = replace(plan_of(confirm, spec.trainer.seed, candidates, rival), looked=looked)
    planned = [
        Planned(name=arm.training(seed), spec=document_of(tasks.document, arm, seed, rows, champion))
        for arm, seed in plan.trainings()
    ]
    train(job, ledger, tasks, concurrency, plan, planned)
    gate = judge(confirm, *plan.values(ended_values(ledger.confirmations())), looked)
    gate = replace(gate, left_out=left_out, model=model, champion=incumbent)
    gate = gate.beside(uncompared) if uncompared else gate
    ledger.hold_gate(gate.to_json())
    return with_figures(job, ledger, gate)


def with_figures(job: Job, ledger: Ledger, gate: Gate) -> Gate:
    """A gate that is held, with the figures on test images that it lacks; each is held, and not made again."""
    if not gate.passes or job.spec.dataset.test is None:
        return gate
    for name, miou in missing_figures(job, ledger, gate):
        gate = replace(gate, test={**gate.test, name: miou})
        ledger.hold_gate(gate.to_json())
    return gate


def candidates_of(confirm: Confirm, rows: list[Row], baseline: Row) -> list[int]:
    """The numbers of the best complete trials, of each arm, that beat the baseline on the sweep's own seed."""
    if baseline.state is not TrialState.COMPLETE or baseline.value is None:
        return []
    complete = [row for row in best_first(rows) if row.state is TrialState.COMPLETE]
    better = [row for row in complete if row.value is not None and row.value > baseline.value]
    taken = [
        row for arm in dict.fromkeys(row.arm for row in better) for row in of_arm(better, arm)[: confirm.candidates]
    ]
    return [row.number for row in best_first(taken)]


def champion_to_beat(job: Job, confirm: Confirm, tasks: SweepTasks) -> tuple[Champion | None, str]:
    """Who sits there, if trainings by its spec can be compared with the sweep's; else why not, if anybody does."""
    assert job.spec.sweep
    name = job.spec.sweep.register_as
    if name is None:
        return None, ""
    try:
        champion = patiently(lambda: sitting_champion(job.client, name))
        if champion is None:
            return None, ""
        if confirm.against != "champion":
            raise UserError(
                f"the champion, version {champion.standing.version}, is not asked for by sweep.confirm.against"
            )
        ours = Standing(version="", dataset=tasks.dataset, protocol=protocol_of(tasks.document), run=None)
        if reason := incomparable(champion.standing, ours):
            raise UserError(reason)
        spec_from(champion_document(tasks.document, champion.spec, 0))
    except UserError as error:
        emit(Stage(text=f"the champion of {name} is not compared with: {error}"))
        return None, str(error)
    return champion, ""


def incumbent_of(model: str | None, champion: Champion | None) -> Incumbent | None:
    """A champion that is a rival, as a gate names it."""
    if champion is None:
        return None
    assert model and champion.standing.run
    return Incumbent(model=model, version=champion.standing.version, run=champion.standing.run)


def document_of(
    document: dict[str, Any], arm: Arm, seed: int, rows: Mapping[int, Row], champion: Champion | None
) -> dict[str, Any]:
    """The spec by which one of those that are compared is trained on a seed, as JSON."""
    if arm.name.isdecimal():
        row = rows[int(arm.name)]
        return with_values(arm_document(document, row.arm), {**row.params, "trainer.seed": seed})
    if arm == SUPERVISED:
        return with_values(spec_from(document).supervised().model_dump(mode="json"), {"trainer.seed": seed})
    assert champion
    return champion_document(document, champion.spec, seed)


def champion_document(document: dict[str, Any], spec: dict[str, Any], seed: int) -> dict[str, Any]:
    """A champion's own model, method and trainer, for as many steps, and evaluated as often, as the sweep's trials."""
    same = {key: document["trainer"][key] for key in ("steps", "evaluate_every")}
    own = {section: spec.get(section) for section in ("model", "method")}
    return {**document, **own, "trainer": {**spec.get("trainer", {}), **same, "seed": seed}}


def train(job: Job, ledger: Ledger, tasks: SweepTasks, concurrency: int, plan: Plan, planned: list[Planned]) -> None:
    """Make what is planned, but for what can change nothing any more."""
    spec = job.spec
    trials = ", ".join(map(str, plan.candidates))
    rivals = " and ".join(arm.told for arm in plan.rivals)
    emit(
        Stage(
            text=f"confirming {'trial' if len(plan.candidates) == 1 else 'trials'} {trials} against {rivals} on "
            f"{len(plan.seeds)} fresh seeds: {len(planned)} trainings at most, {concurrency} at a time"
        )
    )
    book = Confirmations(ledger, planned)
    book.is_wanted = lambda name: plan.is_wanted(name, ended_values(book.rows()))
    for row in book.rows():
        if row.account.attempts:
            emit(update_of(row, spec.name, spec.trainer.steps))
    tasks = replace(tasks, planned=ledger.planned())
    run_book(job.client, book, spec, job.store, concurrency, tasks)


def ended_values(rows: list[Row]) -> dict[str, float | None]:
    """The last mean IoU in percent of trainings that have ended, by name; None of one that failed."""
    ended = [row for row in rows if row.state.is_finished()]
    return {str(row.trial): row.value if row.state is TrialState.COMPLETE else None for row in ended}
