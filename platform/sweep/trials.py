"""The trials of a sweep on Ray Tune. Tune executes; what is decided is in the ledger."""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune import TuneError
from ray.tune.integration.ray_train import TuneReportCallback

from ...trainers.distributed import World
from ...trainers.errors import BrokenEnvironmentError, FencedError, PreemptedError, UserError
from ...trainers.reporter import Report
from ..base.keys import FAILURE, KIND, METRIC, STEP
from ..spec.resources import Resources
from ..spec.spec import Spec
from ..storage.scratch import scratch_of
from ..storage.store import Store
from ..workers import preemption
from ..workers.execute import run_task
from ..workers.failures import failure_of
from ..workers.heartbeat import as_told
from ..workers.ray_train import run_on_workers
from ..workers.retry import Failure
from .attempts import Attempts
from .book import Book
from .search import LedgerScheduler, LedgerSearcher
from .tasks import SweepTasks
from .tune_environment import prepare_environment
from .watchdog import Watchdog

_POLL_S = 0.5
_TOLD = (FencedError, UserError, BrokenEnvironmentError)
"""What a job says in a line, and has no traceback for: another's sweep, a ledger or a store that stays away."""


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
        if self._broken:
            # Tune ends a process that raises: of what is broken in this one the next trial is to know nothing.
            raise RuntimeError(f"told already: {self._broken}")
        try:
            report = next(self._reports, None)
        except PreemptedError:
            # This machine is about to go. The heartbeat has told.
            os._exit(0)
        except Exception as error:
            failure = failure_of(error)
            if not failure.kind.spares_the_process:
                self._broken = failure
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
        self._broken: Failure | None = None
        task = self._tasks.configured(config)
        node = ray.get_runtime_context().get_node_id()
        self._reports: Generator[Report] = run_task(task, world=World(), node=node)


def run_trials(spec: Spec, book: Book, attempts: Attempts, store: Store, concurrency: int, tasks: SweepTasks) -> None:
    """Run a book's unfinished trainings and new ones until there are no more.

    Raises KeyboardInterrupt for an interrupt (SIGINT), which ends the trials; BrokenEnvironmentError once none can
    come to an end; and FencedError. In all three cases what is unfinished stays so in the book.
    """
    with _stopped_by_signal(attempts):
        while not attempts.spent:
            _tune(spec, book, attempts, store, concurrency, tasks)
            if attempts.is_stopped:
                raise KeyboardInterrupt
            if ailment := attempts.ailment:
                raise BrokenEnvironmentError(f"sweep {spec.name} stops: {ailment}")
            _wait(attempts, book.ownership.check)


def _wait(attempts: Attempts, check_owner: Callable[[], None]) -> None:
    """Wait until an attempt may begin: outside of Tune, which would be deaf to signals meanwhile."""
    while (pause := attempts.pause_s) and not attempts.is_stopped:
        check_owner()
        time.sleep(min(pause, _POLL_S))


@contextmanager
def _stopped_by_signal(attempts: Attempts) -> Iterator[None]:
    """Meanwhile SIGINT stops the attempts, and Tune's trials in order."""

    def stop(signum: int, frame: object) -> None:
        attempts.stop()
        os.kill(os.getpid(), signal.SIGUSR1)

    handlers = {signal.SIGINT: stop, signal.SIGUSR1: lambda signum, frame: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tune(spec: Spec, book: Book, attempts: Attempts, store: Store, concurrency: int, tasks: SweepTasks) -> None:
    """Run attempts until none is under way, nor may begin by now."""
    assert spec.sweep
    resources = spec.resources
    prepare_environment()
    searcher = LedgerSearcher(attempts)
    watchdog = Watchdog(
        searcher,
        spec.sweep.retry,
        attempts.own,
        lambda number: book.row(number).account.device_seconds / resources.devices,
        book.ownership.check,
    )
    tuner = tune.Tuner(
        tune.with_resources(_trainable(resources, tasks), trial_resources(resources)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=LedgerScheduler(attempts, searcher),
            num_samples=-1,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=str(scratch_of(store, spec.name)),
            # Tune would save a trial of its own accord at the end.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[watchdog],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except TuneError as error:
        raise _cause_of(error) from None


def _cause_of(error: BaseException) -> BaseException:
    """What a callback raised, which Tune wraps in an error of its own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _TOLD):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def _trainable(resources: Resources, tasks: SweepTasks) -> Any:
    if resources.workers == 1:
        return tune.with_parameters(InProcess, tasks=tasks)

    def on_workers(config: dict[str, Any]) -> None:
        task = tasks.configured(config)
        try:
            run_on_workers(task, resources, [TuneReportCallback()])
        except Exception as error:
            tune.report(failed(as_told(failure_of(error), task.own, task.attempt.number)))
            raise

    return on_workers


def failed(failure: Failure) -> dict[str, Any]:
    """A failure as it is reported, not raised: the ledger is to hold its reason."""
    return {STEP: 0, METRIC: float("nan"), KIND: str(failure.kind), FAILURE: failure.text}


def trial_resources(resources: Resources) -> tune.PlacementGroupFactory:
    """What Tune reserves for a trial's own process."""
    if resources.workers == 1:
        return tune.PlacementGroupFactory([resources.per_worker], bundle_label_selector=[resources.node_labels])
    # With several workers that process only waits. It may not take a share of the CPUs that they need, or the
    # last trial that fits would wait for ever; Tune refuses to reserve nothing, so it takes a byte of memory.
    return tune.PlacementGroupFactory([{"memory": 1}])
