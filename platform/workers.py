"""A training on the workers of Ray Train.

What imports PyTorch or MLflow is imported where it is used: the process that starts workers need not wait for it.
"""

import threading
import uuid
from collections.abc import Sequence
from typing import Any

from ray import train
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ..trainers.reporter import Report
from .events import TrialUpdate, emit
from .report_keys import METRIC, STEP
from .resources import Resources
from .spool import read_records
from .task import Task

_POLL_S = 0.5


class TrainReporter:
    """Reports to Ray Train's controller; every worker must."""

    def report(self, report: Report) -> None:
        """Send step and mean IoU."""
        train.report({STEP: report.step, METRIC: report.metrics[METRIC]})


def run_on_workers(task: Task, resources: Resources, callbacks: Sequence[UserCallback] = ()) -> None:
    """Train on workers that share each global batch. Raises what the first worker to fail raised."""
    try:
        _trainer(task, resources, callbacks).fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        raise next(iter(failures.values()), error) from error


def _trainer(task: Task, resources: Resources, callbacks: Sequence[UserCallback]) -> DataParallelTrainer:
    parts: dict[str, Any] = {
        "train_loop_config": {"task": task},
        "scaling_config": ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=worker_resources(resources),
        ),
        # Ray resumes a run whose name it has seen: nothing but our own checkpoints may resume.
        "run_config": RunConfig(
            name=f"{task.key.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
            storage_path=str(task.scratch),
            callbacks=list(callbacks),
        ),
    }
    if resources.workers == 1:
        # One worker needs no process group. All else that a TorchTrainer does is to import PyTorch here and in
        # Ray Train's controller, one after the other, before the worker itself can.
        return DataParallelTrainer(_worker, **parts)
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "nccl" if resources.gpus_per_worker else "gloo"
    return TorchTrainer(_worker, torch_config=TorchConfig(backend=backend), **parts)


def follow_on_workers(task: Task, resources: Resources) -> None:
    """As `run_on_workers`, telling followers of its progress, and ending its MLflow run however it ends."""
    steps = task.spec["trainer"]["steps"]
    told = 0

    def tell(step: int, miou: float | None, state: str = "RUNNING", reason: str = "") -> None:
        emit(TrialUpdate(key=task.key, state=state, step=step, steps=steps, miou=miou, reason=reason))

    def tell_news() -> None:
        nonlocal told
        records = read_records(task.spool)
        for record in records[told:]:
            tell(record["step"], record["metrics"][METRIC])
        told = len(records)

    def tell_until_ended() -> None:
        while not ended.wait(_POLL_S):
            tell_news()

    tell(0, None)
    ended = threading.Event()
    thread = threading.Thread(target=tell_until_ended, name="news", daemon=True)
    thread.start()
    state, reason = "STOPPED", "stopped from outside"
    try:
        run_on_workers(task, resources)
        state, reason = "COMPLETE", ""
    except Exception as error:
        from .execute import reason_of

        state, reason = "FAIL", reason_of(error)
        raise
    finally:
        ended.set()
        thread.join()
        tell_news()
        last = read_records(task.spool)[-1:]
        tell(*((last[0]["step"], last[0]["metrics"][METRIC]) if last else (0, None)), state, reason)
        _close_run(task, state, reason)


def _close_run(task: Task, state: str, reason: str) -> None:
    """End the MLflow run of a task: Ray kills workers hard, and they end nothing then."""
    from mlflow.tracking import MlflowClient

    from .tracking import close_key

    close_key(MlflowClient(task.tracking_uri), task.identity.experiment, task.key, state, reason)


def worker_resources(resources: Resources) -> dict[str, float]:
    """What one worker takes, in Ray's names."""
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return {"CPU": resources.cpus_per_worker, **gpus}


def _worker(config: dict[str, Any]) -> None:
    from ray.train.torch import get_device

    from ..trainers.distributed import World
    from .execute import run_task

    context = train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    run_task(config["task"], TrainReporter(), world=world, device=get_device())
