"""The trials of a sweep on Ray Tune. Tune executes; what is decided is in the ledger."""

import os
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from ..trainers.distributed import World
from ..trainers.reporter import Report
from .execute import reason_of, run_task
from .ledger import Ledger
from .report_keys import FAILURE, METRIC, NUMBER, STEP
from .resources import Resources
from .search import LedgerScheduler, LedgerSearcher, TrialWatch
from .spec import Spec
from .task import Task
from .workers import run_on_workers, worker_resources


class TuneReporter:
    """Reports to Ray Tune, which stops a trial by the SystemExit that reporting then raises."""

    def report(self, report: Report) -> None:
        """Send step and mean IoU."""
        tune.report({STEP: report.step, METRIC: report.metrics[METRIC]})


def run_trials(spec: Spec, ledger: Ledger, concurrency: int, task_of: Callable[[int, dict[str, float]], Task]) -> None:
    """Run the ledger's unfinished trials and new ones until its budget is spent.

    `task_of` makes the task of a trial from its number and parameters. An interrupt (SIGINT) ends the trials
    and returns; they stay unfinished in the ledger.
    """
    resources, steps = spec.resources, spec.trainer.steps
    scratch = task_of(0, {}).scratch
    # Our own spool and reporters track; Tune's loggers would write every result three times more.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"

    def trial(config: dict[str, Any]) -> None:
        run_trial(task_of(config[NUMBER], config["params"]), resources)

    watch = TrialWatch(ledger, spec.name, steps)
    tuner = tune.Tuner(
        tune.with_resources(trial, trial_resources(resources)),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, watch),
            scheduler=LedgerScheduler(ledger, watch, steps),
            num_samples=-1,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=spec.name, storage_path=str(scratch), verbose=0),
    )
    tuner.fit()


def run_trial(task: Task, resources: Resources) -> None:
    """One trial: a single worker trains in Tune's own process, several on workers of Ray Train.

    A failure is reported, not raised: the ledger is to hold its reason.
    """
    try:
        if resources.workers == 1:
            run_task(task, TuneReporter(), world=World())
        else:
            run_on_workers(task, resources, [TuneReportCallback()])
    except Exception as error:
        tune.report({STEP: 0, METRIC: float("nan"), FAILURE: reason_of(error)})


def trial_resources(resources: Resources) -> dict[str, float]:
    """What Tune reserves for a trial's own process."""
    # With several workers that process only waits. It may not take a share of the CPUs that they need, or the
    # last trial that fits would wait for ever; Tune refuses to reserve nothing, so it takes a byte of memory.
    return worker_resources(resources) if resources.workers == 1 else {"memory": 1}
