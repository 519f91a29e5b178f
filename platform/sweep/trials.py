"""The trials of a sweep on Ray Tune. Tune executes; what is decided is in the ledger."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from ...trainers.distributed import World
from ...trainers.errors import FencedError, PreemptedError
from ...trainers.reporter import Report
from ..base.keys import ATTEMPT, FAILURE, HALVINGS, KIND, METRIC, NUMBER, PARAMS, STEP, scratch_of
from ..ledger.ledger import Ledger
from ..spec.resources import Resources
from ..spec.spec import Spec
from ..workers import preemption
from ..workers.execute import run_task
from ..workers.failures import failure_of
from ..workers.ray_train import run_on_workers, worker_resources
from ..workers.retry import Failure, Kind
from .attempts import Attempts
from .search import LedgerScheduler, LedgerSearcher
from .tasks import SweepTasks
from .tune_environment import prepare_environment
from .watchdog import Watchdog


class InProcess(tune.Trainable):
    """A trial of one worker: it trains in Tune's own process, on its main thread, which hears signals."""

    def setup(self, config: dict[str, Any], tasks: SweepTasks | None = None) -> None:
        """Begin an attempt; Tune leaves nothing out that it was given."""
        assert tasks
        preemption.listen()
        self._tasks = tasks
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin an attempt of another trial in this process."""
        self._reports.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next report."""
        try:
            report = next(self._reports, None)
        except (FencedError, PreemptedError):
            # The training belongs to another process now, or this machine is about to go. The heartbeat has told.
            os._exit(0)
        except Exception as error:
            failure = failure_of(error)
            if failure.kind is Kind.OUT_OF_MEMORY:
                # Tune ends a process that raises, and the next attempt gets a fresh one. The heartbeat has told.
                raise
            return failed(failure)
        if report is None:
            return {**self._last, "done": True}
        self._last = {STEP: report.step, METRIC: report.metrics[METRIC]}
        return self._last

    def cleanup(self) -> None:
        """End the attempt, which sends what is left to MLflow."""
        self._reports.close()

    def _begin(self, config: dict[str, Any]) -> None:
        self._last: dict[str, Any] = {}
        task = self._tasks.attempt(config[NUMBER], config[PARAMS], config[ATTEMPT], config[HALVINGS])
        node = ray.get_runtime_context().get_node_id()
        self._reports: Generator[Report] = run_task(task, world=World(), node=node)


def run_trials(
    spec: Spec, ledger: Ledger, attempts: Attempts, storage: Path, concurrency: int, tasks: SweepTasks
) -> None:
    """Run the ledger's unfinished trials and new ones until its budget is spent.

    An interrupt (SIGINT) ends the trials and returns; they stay unfinished in the ledger.
    """
    assert spec.sweep
    resources = spec.resources
    prepare_environment()
    searcher = LedgerSearcher(attempts)
    watchdog = Watchdog(
        searcher,
        spec.sweep.retry,
        attempts.directory,
        lambda number: ledger.row(number).account.device_seconds / resources.devices,
        ledger.ownership.check,
    )
    tuner = tune.Tuner(
        tune.with_resources(_trainable(resources, tasks), trial_resources(resources)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=LedgerScheduler(attempts),
            num_samples=-1,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=str(scratch_of(storage, spec.name)),
            # Tune would save a trial of its own accord at the end.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[watchdog],
            verbose=0,
        ),
    )
    tuner.fit()


def _trainable(resources: Resources, tasks: SweepTasks) -> Any:
    if resources.workers == 1:
        return tune.with_parameters(InProcess, tasks=tasks)

    def on_workers(config: dict[str, Any]) -> None:
        task = tasks.attempt(config[NUMBER], config[PARAMS], config[ATTEMPT], config[HALVINGS])
        try:
            run_on_workers(task, resources, [TuneReportCallback()])
        except Exception as error:
            tune.report(failed(failure_of(error)))

    return on_workers


def failed(failure: Failure) -> dict[str, Any]:
    """A failure as it is reported, not raised: the ledger is to hold its reason."""
    return {STEP: 0, METRIC: float("nan"), KIND: str(failure.kind), FAILURE: failure.text}


def trial_resources(resources: Resources) -> dict[str, float]:
    """What Tune reserves for a trial's own process."""
    # With several workers that process only waits. It may not take a share of the CPUs that they need, or the
    # last trial that fits would wait for ever; Tune refuses to reserve nothing, so it takes a byte of memory.
    return worker_resources(resources) if resources.workers == 1 else {"memory": 1}
