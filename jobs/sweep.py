"""A sweep: the supervised baseline, then trials that Tune runs and the ledger counts, then the best one's registration.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.sweep SPEC`. Running it again goes on where it stopped.
"""

import sys
from functools import partial

import ray
from optuna.trial import TrialState

from ..platform.champion import crown, keep_model
from ..platform.driver import Job, run_job
from ..platform.events import Stage, TrialUpdate, Verdict, emit
from ..platform.keys import BASELINE, key_of
from ..platform.ledger import Ledger, beats, best_row, open_ledger
from ..platform.placement import concurrency_of
from ..platform.registry import CHAMPION
from ..platform.report_keys import METRIC
from ..platform.resources import Resources
from ..platform.runs import sweep_identity, trial_identity
from ..platform.search import update_of
from ..platform.spec import Spec
from ..platform.task import Task
from ..platform.tracking import close_key, close_run, ensure_run, run_url
from ..platform.trials import run_trials
from ..platform.workers import follow_on_workers
from ..trainers.data.dataset import open_dataset
from ..trainers.loop import read_outcome


def sweep(job: Job) -> None:
    """The whole job. Raises UserError, KeyboardInterrupt, and whatever a failed baseline raised."""
    spec, settings = job.spec, job.spec.sweep
    assert settings
    baseline_resources = spec.resources.model_copy(update={"workers": settings.baseline_workers})
    concurrency_of(1, baseline_resources, ray.cluster_resources())
    concurrency = concurrency_of(settings.concurrency, spec.resources, ray.cluster_resources())
    dataset = open_dataset(spec.dataset)
    ledger = open_ledger(job.storage, spec)
    run_id = ensure_run(job.client, sweep_identity(spec.model_dump(mode="json")))
    state = "STOPPED"
    try:
        emit(Stage(text=f"supervised baseline on {baseline_resources.workers} Ray Train workers"))
        baseline = run_baseline(job, baseline_resources)
        keep_model(job.client, spec.supervised(), dataset, job.storage, key_of(spec.name, BASELINE))
        emit(Stage(text=f"{settings.trials} trials, {concurrency} at a time"))
        for row in ledger.rows():
            emit(update_of(row, spec.name, spec.trainer.steps))
        run_trials(spec, ledger, concurrency, partial(task_of, job))
        if ledger.unfinished():
            raise KeyboardInterrupt
        best = best_row(ledger.rows())
        registered = None
        if settings.register_as and best and beats(best.value, baseline):
            version = crown(job.client, spec, dataset, job.storage, best, settings.register_as)
            registered = f"{settings.register_as}@{CHAMPION} (version {version})"
        emit(
            Verdict(
                best=key_of(spec.name, best.number) if best else None,
                best_miou=best.value if best else None,
                baseline_miou=baseline,
                registered=registered,
                url=run_url(job.client, run_id),
            )
        )
        state = "COMPLETE"
    except Exception:
        state = "FAIL"
        raise
    finally:
        close_trial_runs(job, ledger)
        close_run(job.client, run_id, state)


def run_baseline(job: Job, resources: Resources) -> float:
    """Mean IoU in percent of the supervised baseline, which is trained unless it already was."""
    task, steps = _task(job, job.spec.supervised(), BASELINE), job.spec.trainer.steps
    outcome = read_outcome(task.directory)
    if outcome is None or outcome.step < steps:
        follow_on_workers(task, resources)
        outcome = read_outcome(task.directory)
        assert outcome, "a finished training has a checkpoint"
    else:
        emit(TrialUpdate(key=task.key, state="COMPLETE", step=steps, steps=steps, miou=outcome.metrics[METRIC]))
    return outcome.metrics[METRIC]


def task_of(job: Job, number: int, params: dict[str, float]) -> Task:
    """The task of one trial."""
    return _task(job, job.spec.with_values(params), number)


def _task(job: Job, spec: Spec, trial: int | str) -> Task:
    document = spec.model_dump(mode="json")
    return Task(
        spec=document,
        storage=job.storage,
        tracking_uri=job.tracking_uri,
        identity=trial_identity(document, trial),
    )


def close_trial_runs(job: Job, ledger: Ledger) -> None:
    """Make the runs say what the ledger says; an unfinished trial's run is stopped, not running."""
    for row in ledger.rows():
        state = "STOPPED" if row.state is TrialState.RUNNING else row.state.name
        close_key(job.client, job.spec.name, key_of(job.spec.name, row.number), state, row.reason)


if __name__ == "__main__":
    sys.exit(run_job(sweep, sys.argv[1:]))
