"""A sweep: the supervised baseline, then trials that Tune runs and the ledger counts, then the best one's registration.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.sweep SPEC`. Running it again goes on where it stopped.
"""

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import ray

from ..platform.attempts import Attempts, update_of
from ..platform.champion import crown, keep_model
from ..platform.driver import Job, run_job
from ..platform.events import Stage, TrialUpdate, Verdict, emit
from ..platform.keys import BASELINE, key_of
from ..platform.lease import Attempt
from ..platform.ledger import Ledger, open_ledger
from ..platform.origin import Origin, code_digest
from ..platform.placement import check_ledger, concurrency_of
from ..platform.registry import CHAMPION
from ..platform.report_keys import METRIC
from ..platform.resources import Resources
from ..platform.rows import Row, beats, best_row
from ..platform.runs import sweep_identity, trial_identity
from ..platform.settle import settle_trials
from ..platform.spec import Spec
from ..platform.sweep_spec import Retry
from ..platform.task import Task
from ..platform.tracking import close_run, ensure_run, run_url
from ..platform.trials import run_trials
from ..platform.workers import follow_on_workers
from ..trainers.data.dataset import open_dataset
from ..trainers.errors import FencedError
from ..trainers.loop import read_outcome


def sweep(job: Job) -> None:
    """The whole job. Raises UserError, KeyboardInterrupt, FencedError, and whatever a failed baseline raised."""
    spec, settings = job.spec, job.spec.sweep
    assert settings
    check_ledger(spec.ledger, [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
    baseline_resources = spec.resources.model_copy(update={"workers": settings.baseline_workers})
    concurrency_of(1, baseline_resources, ray.cluster_resources())
    concurrency = concurrency_of(settings.concurrency, spec.resources, ray.cluster_resources())
    dataset = open_dataset(spec.dataset)
    ledger = open_ledger(job.storage, spec, Origin(dataset=dataset.digest, code=code_digest()))
    with closing(ledger):
        run_id = ensure_run(job.client, sweep_identity(spec.model_dump(mode="json")))
        tasks = Tasks(spec=spec, storage=job.storage, tracking_uri=job.tracking_uri, epoch=ledger.ownership.epoch)
        state = "STOPPED"
        try:
            emit(Stage(text=f"supervised baseline on {baseline_resources.workers} Ray Train workers"))
            baseline = run_baseline(tasks.baseline(), baseline_resources, settings.retry)
            ledger.ownership.check()
            keep_model(job.client, spec.supervised(), dataset, job.storage, key_of(spec.name, BASELINE))
            emit(Stage(text=f"{settings.trials} trials, {concurrency} at a time"))
            for row in ledger.rows():
                emit(update_of(row, spec.name, spec.trainer.steps))
            attempts = Attempts(ledger, spec, job.storage)
            run_trials(spec, ledger, attempts, job.storage, concurrency, tasks)
            if not attempts.spent:
                raise KeyboardInterrupt
            rows = ledger.rows()
            best, registered = best_row(rows), None
            if settings.register_as and best and beats(best.value, baseline):
                ledger.ownership.check()
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
        except FencedError:
            raise  # The runs are the new owner's.
        except BaseException as error:
            state = "FAIL" if isinstance(error, Exception) else state
            _close_runs(job, tasks, ledger, run_id, state)
            raise
        _close_runs(job, tasks, ledger, run_id, state)


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


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Makes the tasks of a sweep, for the owner of an epoch; it travels to the processes that train."""

    spec: Spec
    storage: Path
    tracking_uri: str
    epoch: int

    def baseline(self) -> Task:
        """The supervised baseline's."""
        return self._task(self.spec.supervised(), BASELINE, 1)

    def __call__(self, number: int, params: dict[str, float], attempt: int, halvings: int) -> Task:
        task = self._task(self.spec.with_values(params), number, attempt)
        for _ in range(halvings):
            task = task.halved()
        return task

    def _task(self, spec: Spec, trial: int | str, attempt: int) -> Task:
        document = spec.model_dump(mode="json")
        return Task(
            spec=document,
            storage=self.storage,
            tracking_uri=self.tracking_uri,
            identity=trial_identity(document, trial),
            attempt=Attempt(epoch=self.epoch, number=attempt),
        )


def _close_runs(job: Job, tasks: Tasks, ledger: Ledger, run_id: str, state: str) -> None:
    def task_of(row: Row) -> Task:
        return tasks(row.number, row.params, row.account.attempts, row.account.halvings)

    settle_trials(job.client, job.spec.name, ledger, task_of)
    close_run(job.client, run_id, state)


if __name__ == "__main__":
    sys.exit(run_job(sweep, sys.argv[1:]))
