"""A sweep: the supervised baseline, then trials that Tune runs and the ledger counts, the best of them on fresh seeds,
and the registration of one.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.sweep SPEC`. Running it again goes on where it stopped.
"""

import logging
import sys
import uuid
from contextlib import closing
from dataclasses import replace

from optuna.trial import TrialState
from rich import filesize

from ..platform.base import events
from ..platform.base.code_digest import TRAINING, code_digest
from ..platform.base.events import Stage, emit
from ..platform.base.keys import BASELINE, key_of
from ..platform.cluster.driver import Job, run_job
from ..platform.cluster.nodes import live_nodes
from ..platform.cluster.opened import digest_of
from ..platform.cluster.placement import check_ledger, concurrency_of, trainings_of
from ..platform.cluster.preflight import Preflight
from ..platform.cluster.waiting import wait_for_room
from ..platform.gate.verdict import Gate
from ..platform.ledger.ledger import Ledger
from ..platform.ledger.location import Location
from ..platform.ledger.opening import open_ledger
from ..platform.ledger.origin import Origin
from ..platform.ledger.reading import abandoned_sweeps, sweep_id_of
from ..platform.ledger.rows import Verdict, fruitless, verdict_of
from ..platform.pages.arms import arm_lines, arms_of
from ..platform.pages.gate_line import gate_line
from ..platform.registry.champion import crown, keep_model
from ..platform.registry.verdicts import hold_verdicts
from ..platform.registry.versions import registered_keys
from ..platform.spec.sweep import Sweep
from ..platform.sweep.attempts import update_of
from ..platform.sweep.baseline import train_baseline
from ..platform.sweep.cleaning import removals, remove
from ..platform.sweep.epochs import newest_epoch
from ..platform.sweep.running import run_book
from ..platform.sweep.settler import settle_trials
from ..platform.sweep.surplus import surplus_of
from ..platform.sweep.sync import sync_sweeps
from ..platform.sweep.tasks import SweepTasks
from ..platform.tracking.clients import Clients
from ..platform.tracking.ending import Ending, ended_by
from ..platform.tracking.identity import sweep_identity
from ..platform.tracking.noted import note
from ..platform.tracking.patience import close, patiently, unless_refused
from ..platform.tracking.runs import close_run, ensure_run, refuse_another, run_url
from ..platform.workers.checkpoints import held_checkpoints
from ..trainers.errors import BrokenEnvironmentError, FruitlessError, UserError
from .confirm import GATE, confirm_best

log = logging.getLogger(__name__)

_REPORT_S = 3.0
"""How long the report of a sweep that was asked to stop is sent."""


def sweep(job: Job) -> None:
    """The whole job.

    Raises UserError, KeyboardInterrupt, FencedError, BrokenEnvironmentError, FruitlessError if no trial is complete,
    and whatever a failed baseline raised.
    """
    spec, settings = job.spec, job.spec.sweep
    assert settings
    check_ledger(spec.ledger, live_nodes())
    nodes = wait_for_room(trainings_of(spec), settings.retry.start_timeout)
    concurrency = concurrency_of(settings.concurrency, spec.resources, nodes)
    preflight = Preflight(job, spec.resources, nodes, settings.retry.start_timeout)
    dataset = preflight.check() or digest_of(spec)
    # Of a spec that somebody wrote, not `submit`, keys may be missing.
    document = spec.model_dump(mode="json")
    # An id that nobody has, for a sweep that is yet to begin.
    known = sweep_id_of(job.store.folder, spec.name, spec.ledger) or uuid.uuid4().hex
    patiently(lambda: refuse_another(job.client, sweep_identity(document, known)))
    origin = Origin(dataset=dataset, code=code_digest(TRAINING))
    ledger = open_ledger(job.store.folder, spec, origin, above=newest_epoch(job.store, spec.name))
    with closing(ledger), preflight.watching():
        ledger.hold_location(Location(storage=job.store.address, tracking_uri=job.tracking_uri))
        identity = sweep_identity(document, ledger.sweep_id)
        run_id = patiently(lambda: ensure_run(job.client, identity))
        note(job.store.at(spec.name), job.tracking_uri, identity, run_id)
        job.describe(run_id)
        tasks = SweepTasks(
            document=document,
            store=job.store,
            tracking_uri=job.tracking_uri,
            epoch=ledger.ownership.epoch,
            sweep_id=ledger.sweep_id,
            dataset=dataset,
        )

        def end(ending: Ending) -> None:
            what = f"the end of sweep {spec.name}, which `advseg sync` brings"
            close(lambda: settle_all(job, ledger, tasks, run_id, ending), ending, what)
            keep_report(job, ledger, run_id, ending)

        with ended_by(end):
            workers = settings.baseline_workers
            emit(Stage(text=f"supervised baseline on {workers} Ray Train worker{'s' if workers > 1 else ''}"))
            train_baseline(ledger, tasks.baseline(), spec.baseline_resources, settings.retry)
            ledger.ownership.check()
            kept = (job.store, spec.name, key_of(spec.name, BASELINE), ledger.baseline().account.checksum)
            unless_refused(lambda: keep_model(job.client, *kept), "the model of the baseline")
            search(job, ledger, tasks, concurrency)
            gate = confirm_best(job, ledger, tasks, concurrency)
            rows = ledger.rows()
            verdict = verdict_of(rows, ledger.baseline())
            emit(
                events.Verdict(
                    best=key_of(spec.name, verdict.best.number) if verdict.best else None,
                    best_miou=verdict.best.value if verdict.best else None,
                    baseline_miou=verdict.baseline,
                    won=verdict.is_won,
                    gate=gate_line(gate) if gate else None,
                    arms=arm_lines(arms_of(rows, ledger.gate)),
                    registered=crown_best(job, ledger, verdict, gate),
                    url=patiently(lambda: run_url(job.client, run_id)),
                )
            )
            if verdict.best is None:
                raise FruitlessError(fruitless(spec.name, rows))
        clean_up(job, ledger)
    reap_others(job)


def settle_all(job: Job, ledger: Ledger, tasks: SweepTasks, run_id: str, ending: Ending) -> None:
    """Have all runs of a sweep say how they ended; a run of which that cannot be done is told in a warning."""
    for problem in settle_trials(job.client, ledger, replace(tasks, planned=ledger.planned())):
        log.warning("a run of sweep %s is not as it ended: %s", job.spec.name, problem)
    close_run(job.client, run_id, ending)


def search(job: Job, ledger: Ledger, tasks: SweepTasks, concurrency: int) -> None:
    """Run trials until the budget is spent. Raises what `run_book` raises."""
    spec = job.spec
    assert spec.sweep
    for row in ledger.rows():
        emit(update_of(row, spec.name, spec.trainer.steps))
    emit(Stage(text=trials_told(spec.sweep, concurrency), trials=spec.sweep.budget))
    run_book(job.client, ledger, spec, job.store, concurrency, tasks)


def trials_told(sweep: Sweep, concurrency: int) -> str:
    """How many trials there are to be, and how many of them run at a time, in a line."""
    told = f"{sweep.budget} trial{'s' if sweep.budget > 1 else ''}, {concurrency} at a time"
    if sweep.arms:
        told += f", of {len(sweep.arms)} arms in turn: {', '.join(sweep.arms)}"
    if concurrency == sweep.concurrency:
        return told
    return f"{told}: the cluster has no room for {sweep.concurrency}, as sweep.concurrency says"


def crown_best(job: Job, ledger: Ledger, verdict: Verdict, gate: Gate | None) -> str | None:
    """Register the best trial, if the spec asks for it, it beats the baseline and no gate shut it out; what it is
    called then, and why. Of trials that are registered already the gate's verdict is kept, whatever it is, and the
    model of the best trial is kept with its run, whatever becomes of it."""
    assert job.spec.sweep
    name, best = job.spec.sweep.register_as, verdict.best
    check = ledger.ownership.check
    check()
    if name is not None and gate:
        runs = [ledger.row(each.trial).account.run_id for each in gate.candidates]
        patiently(lambda: hold_verdicts(job.client, name, runs, gate))
    winner = None
    if name is not None and best and verdict.is_won:
        winner = best if gate is None else None if gate.ahead is None else ledger.row(gate.ahead)
    if best and (winner is None or winner.number != best.number):
        kept = (job.store, job.spec.name, key_of(job.spec.name, best.number), best.account.checksum)
        unless_refused(lambda: keep_model(job.client, *kept), "the model of the best trial", refusal=UserError)
    if name is None or winner is None:
        return None
    return str(patiently(lambda: crown(job.client, job.store, job.spec.name, winner, name, gate, check)))


def keep_report(job: Job, ledger: Ledger, run_id: str, ending: Ending) -> None:
    """Write the report of a sweep that has trials, and keep it with its run; a sweep is not lost with its report."""
    ledger.ownership.check()
    if not ledger.rows():
        return
    try:
        # Here, for plotly takes a second to import, and may be missing.
        from ..platform.pages.sweep_report import REPORT, report_of

        own, report = job.store.at(job.spec.name), report_of(job.store, job.spec.name, job.spec.ledger)
        own.write(REPORT, report.encode())
        what = f"the report of sweep {job.spec.name}, which is {own.address}/{REPORT}"
        close(lambda: job.client.log_text(run_id, report, REPORT), ending, what, stop_s=_REPORT_S)
        if gate := ledger.gate:
            what = f"what the gate said of sweep {job.spec.name}"
            close(lambda: job.client.log_text(run_id, gate, GATE), ending, what, stop_s=_REPORT_S)
    except Exception as error:
        log.warning("no report of sweep %s: %s", job.spec.name, " ".join(str(error).split()))


def clean_up(job: Job, ledger: Ledger) -> None:
    """Remove the checkpoints that nobody needs any more; those that cannot be removed stay, with a warning.

    Of failed trials they stay until `advseg clean`: `advseg sweep retry` goes on from them.
    """
    try:
        registered = patiently(lambda: registered_keys(job.client))
        surplus = surplus_of(ledger.spec, ledger.rows(), ledger.confirmations(), registered)
        going = [each for each in surplus if each.row.state is not TrialState.FAIL]
        planned = removals(going, held_checkpoints(job.store, job.spec.name))
        if planned:
            size = filesize.decimal(sum(removal.bytes for removal in planned))
            emit(Stage(text=f"removing {size} of checkpoints that nobody needs any more"))
        for removal in planned:
            remove(ledger, job.store, removal)
    except (UserError, BrokenEnvironmentError, OSError) as error:
        log.warning("checkpoints that nobody needs stay, until `advseg clean`: %s", " ".join(str(error).split()))


def reap_others(job: Job) -> None:
    """End the runs of other sweeps of this ledger whose drivers on this machine were killed."""
    try:
        abandoned = abandoned_sweeps(job.store.folder, job.spec.ledger)
        for problem in sync_sweeps(Clients(job.client), job.store, abandoned, job.spec.ledger, log.info):
            log.warning("a run without a driver stays as it is: %s", problem)
    except Exception as error:
        log.warning("the runs of sweeps without drivers stay open: %s", " ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(run_job(sweep, sys.argv[1:]))
