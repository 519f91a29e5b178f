"""A sweep: the supervised baseline, then trials that Tune runs and the ledger counts, then the best one's registration.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.sweep SPEC`. Running it again goes on where it stopped.
"""

import logging
import sys
from contextlib import closing

import ray

from ..platform.base.events import Stage, TrialUpdate, Verdict, emit
from ..platform.base.keys import BASELINE, METRIC, directory_of, key_of
from ..platform.cluster.driver import Job, run_job
from ..platform.cluster.package import TRAINING, code_digest
from ..platform.cluster.placement import check_ledger, concurrency_of
from ..platform.ledger.ledger import Ledger, abandoned_sweeps, open_ledger
from ..platform.ledger.origin import Origin
from ..platform.ledger.rows import beats, best_row
from ..platform.registry.champion import crown, keep_model
from ..platform.registry.registry import CHAMPION
from ..platform.spec.resources import Resources
from ..platform.spec.sweep import Retry
from ..platform.sweep.attempts import Attempts, update_of
from ..platform.sweep.settler import Settler, settle_trials
from ..platform.sweep.sync import sync_sweeps
from ..platform.sweep.tasks import Tasks
from ..platform.sweep.trials import run_trials
from ..platform.tracking.identity import sweep_identity
from ..platform.tracking.patience import patiently
from ..platform.tracking.runs import close_run, ensure_run, run_url
from ..platform.workers.ray_train import follow_on_workers
from ..platform.workers.task import Task
from ..trainers.data.opening import open_dataset
from ..trainers.errors import FencedError
from ..trainers.outcome import read_outcome

log = logging.getLogger(__name__)


def sweep(job: Job) -> None:
    """The whole job. Raises UserError, KeyboardInterrupt, FencedError, and whatever a failed baseline raised."""
    spec, settings = job.spec, job.spec.sweep
    assert settings
    check_ledger(spec.ledger, [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
    baseline_resources = spec.resources.model_copy(update={"workers": settings.baseline_workers})
    concurrency_of(1, baseline_resources, ray.cluster_resources())
    concurrency = concurrency_of(settings.concurrency, spec.resources, ray.cluster_resources())
    dataset = open_dataset(spec.dataset)
    ledger = open_ledger(job.storage, spec, Origin(dataset=dataset.digest, code=code_digest(TRAINING)))
    with closing(ledger):
        run_id = patiently(lambda: ensure_run(job.client, sweep_identity(spec.model_dump(mode="json"))))
        job.describe(run_id)
        tasks = Tasks(spec=spec, storage=job.storage, tracking_uri=job.tracking_uri, epoch=ledger.ownership.epoch)
        state = "STOPPED"
        try:
            emit(Stage(text=f"supervised baseline on {baseline_resources.workers} Ray Train workers"))
            baseline = run_baseline(tasks.baseline(), baseline_resources, settings.retry)
            ledger.ownership.check()
            kept = (spec.supervised(), dataset, job.storage, key_of(spec.name, BASELINE))
            patiently(lambda: keep_model(job.client, *kept))
            emit(Stage(text=f"{settings.trials} trials, {concurrency} at a time"))
            for row in ledger.rows():
                emit(update_of(row, spec.name, spec.trainer.steps))
            with closing(Settler(job.client, ledger, tasks.of)) as settler:
                attempts = Attempts(ledger, spec, job.storage, tell=lambda update: _tell(update, settler))
                run_trials(spec, ledger, attempts, job.storage, concurrency, tasks)
            if not attempts.spent:
                raise KeyboardInterrupt
            rows = ledger.rows()
            best, registered = best_row(rows), None
            if settings.register_as and best and beats(best.value, baseline):
                ledger.ownership.check()
                crowned = (spec, dataset, job.storage, best, settings.register_as)
                version = patiently(lambda: crown(job.client, *crowned))
                registered = f"{settings.register_as}@{CHAMPION} (version {version})"
            emit(
                Verdict(
                    best=key_of(spec.name, best.number) if best else None,
                    best_miou=best.value if best else None,
                    baseline_miou=baseline,
                    registered=registered,
                    url=patiently(lambda: run_url(job.client, run_id)),
                )
            )
            state = "COMPLETE"
        except FencedError:
            raise  # The runs are the new owner's.
        except BaseException as error:
            state = "FAIL" if isinstance(error, Exception) else state
            _close_runs(job, tasks, ledger, run_id, state)
            raise
        _close_runs(job, tasks, ledger, run_id, state)
    reap_others(job)


def run_baseline(task: Task, resources: Resources, retry: Retry) -> float:
    """Mean IoU in percent of the supervised baseline, which is trained unless it already was."""
    steps = task.spec["trainer"]["steps"]
    outcome = read_outcome(task.directory)
    if outcome is None or outcome.step < steps:
        follow_on_workers(task, resources, retry)
        outcome = read_outcome(task.directory)
        assert outcome, "a finished training has a checkpoint"
    else:
        emit(TrialUpdate(key=task.key, state="COMPLETE", step=steps, steps=steps, miou=outcome.metrics[METRIC]))
    return outcome.metrics[METRIC]


def _tell(update: TrialUpdate, settler: Settler) -> None:
    emit(update)
    settler.hear(update)


def _close_runs(job: Job, tasks: Tasks, ledger: Ledger, run_id: str, state: str) -> None:
    patiently(lambda: settle_trials(job.client, job.spec.name, ledger, tasks.of))
    keep_report(job, ledger, run_id)
    patiently(lambda: close_run(job.client, run_id, state))


def keep_report(job: Job, ledger: Ledger, run_id: str) -> None:
    """Write the report of a sweep that has trials, and keep it with its run; a sweep is not lost with its report."""
    ledger.ownership.check()
    if not ledger.rows():
        return
    try:
        # Here, for plotly takes a second to import, and may be missing.
        from ..platform.pages.sweep_report import REPORT, write_report

        path = directory_of(job.storage, job.spec.name) / REPORT
        write_report(job.storage, job.spec.name, job.spec.ledger, path)
        patiently(lambda: job.client.log_artifact(run_id, str(path)))
    except Exception as error:
        log.warning("no report of sweep %s: %s", job.spec.name, " ".join(str(error).split()))


def reap_others(job: Job) -> None:
    """End the runs of other sweeps of this ledger whose drivers on this machine were killed."""
    try:
        abandoned = abandoned_sweeps(job.storage, job.spec.ledger)
        sync_sweeps(job.client, job.storage, abandoned, job.spec.ledger, log.info)
    except Exception as error:
        log.warning("the runs of sweeps without drivers stay open: %s", " ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(run_job(sweep, sys.argv[1:]))
