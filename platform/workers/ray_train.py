"""A training on the workers of Ray Train.

What imports PyTorch or MLflow is imported where it is used: the process that starts workers need not wait for it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray import train
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ..base.events import Stage, TrialUpdate, emit
from ..base.keys import METRIC, STEP
from ..spec.resources import Resources
from ..spec.sweep import Retry
from ..tracking.spool import read_records
from .account import Account
from .heartbeat import read_beat
from .lease import Lease, next_attempt
from .retry import GiveUp, decide, error_of
from .task import Task

_POLL_S = 0.5


def run_on_workers(task: Task, resources: Resources, callbacks: Sequence[UserCallback] = ()) -> None:
    """Train on workers that share each global batch. Raises TrainingFailedError."""
    _trainer(task, resources, callbacks).fit()


def _trainer(task: Task, resources: Resources, callbacks: Sequence[UserCallback]) -> DataParallelTrainer:
    parts: dict[str, Any] = {
        "train_loop_config": {"task": task},
        "scaling_config": ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=worker_resources(resources),
        ),
        # Ray resumes a run whose name it has seen: each attempt has its own, and only our checkpoints resume.
        "run_config": RunConfig(
            name=f"{task.key.replace('/', '-')}-a{task.attempt.number}",
            storage_path=str(task.scratch),
            callbacks=list(callbacks),
        ),
    }
    if resources.workers == 1:
        # One worker needs no process group. All else that a TorchTrainer does is to import PyTorch here and in
        # Ray Train's controller, one after the other, before the worker itself can.
        from .backend_alone import AloneConfig

        return DataParallelTrainer(_worker, backend_config=AloneConfig(), **parts)
    from ray.train.torch import TorchTrainer

    from .backend_together import TogetherConfig

    backend = "nccl" if resources.gpus_per_worker else "gloo"
    return TorchTrainer(_worker, torch_config=TogetherConfig(backend=backend), **parts)


def follow_on_workers(task: Task, resources: Resources, retry: Retry) -> None:
    """Train on workers, again where they were lost, telling followers of the progress.

    The training's MLflow run ends however it ends. Raises DivergedError or UserError with the reason of the last
    failure, and FencedError if a newer attempt has the training's directory.
    """
    state, reason = "STOPPED", "stopped from outside"
    beat = read_beat(task.directory)
    account = Account(halvings=beat.halvings if beat else 0)
    for _ in range(account.halvings):
        task = task.halved()
    try:
        while True:
            task = replace(task, attempt=next_attempt(task.directory, task.attempt.epoch))
            try:
                with _news(task):
                    run_on_workers(task, resources)
                break
            except TrainingFailedError as error:
                from .failures import failure_of

                failure = failure_of(error)
                decision = decide(failure, account, retry, can_halve=task.can_halve(resources.workers))
                if isinstance(decision, GiveUp):
                    state, reason = "FAIL", decision.reason
                    raise error_of(failure, decision.reason) from error
                emit(Stage(text=f"{task.key} is tried again: {failure}"))
                if decision.account.halvings > account.halvings:
                    task = task.halved()
                account = decision.account
        state, reason = "COMPLETE", ""
    finally:
        # What a newer attempt has is not ours to end.
        Lease(task.directory, task.attempt).check()
        last = read_records(task.spool)[-1:]
        told = (last[0]["step"], last[0]["metrics"][METRIC]) if last else (0, None)
        _tell(task, *told, state, reason)
        _settle(task, state, reason)


def _tell(task: Task, step: int, miou: float | None, state: str = "RUNNING", reason: str = "") -> None:
    steps = task.spec["trainer"]["steps"]
    emit(TrialUpdate(key=task.key, state=state, step=step, steps=steps, miou=miou, reason=reason))


@contextmanager
def _news(task: Task) -> Iterator[None]:
    """Meanwhile tell followers of every report in the task's spool."""
    told = 0

    def tell_news() -> None:
        nonlocal told
        records = read_records(task.spool)
        for record in records[told:]:
            _tell(task, record["step"], record["metrics"][METRIC])
        told = len(records)

    def tell_until_ended() -> None:
        while not ended.wait(_POLL_S):
            tell_news()

    _tell(task, 0, None)
    ended = threading.Event()
    thread = threading.Thread(target=tell_until_ended, name="news", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell_news()


def _settle(task: Task, state: str, reason: str) -> None:
    """Make the MLflow run of a task say how it ended: Ray kills workers hard, and they end nothing then."""
    from mlflow.tracking import MlflowClient

    from ..tracking.patience import patiently
    from .settle import settle

    patiently(lambda: settle(MlflowClient(task.tracking_uri), task, state, reason))


def worker_resources(resources: Resources) -> dict[str, float]:
    """What one worker takes, in Ray's names."""
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return {"CPU": resources.cpus_per_worker, **gpus}


def _worker(config: dict[str, Any]) -> None:
    from ray.train.torch import get_device

    from ...trainers.distributed import World
    from .execute import run_task

    context = train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    node = ray.get_runtime_context().get_node_id()
    with closing(run_task(config["task"], world=world, device=get_device(), node=node)) as reports:
        for report in reports:
            train.report({STEP: report.step, METRIC: report.metrics[METRIC]})
