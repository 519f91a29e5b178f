"""A training on the workers of Ray Train."""

import threading
import uuid
from typing import Any

from mlflow.tracking import MlflowClient
from ray import train
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Queue

from ..trainers.distributed import World
from ..trainers.reporter import Report
from .events import TrialUpdate, emit
from .execute import Task, reason_of, run_task
from .ledger import METRIC
from .search import STEP
from .spec import Resources
from .tracking import close_key


class TrainReporter:
    """Reports to Ray Train's controller; every worker must."""

    def report(self, report: Report) -> None:
        """Send step and mean IoU."""
        train.report({STEP: report.step, METRIC: report.metrics[METRIC]})


class QueueCallback(UserCallback):
    """Passes what the leading worker reports on to a queue; it runs in the process of Ray Train's controller."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Pass on one report."""
        self._queue.put(metrics[0])


def run_on_workers(task: Task, resources: Resources, callback: UserCallback) -> None:
    """Train on workers that share each global batch. Raises what the first worker to fail raised."""
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=worker_resources(resources),
        ),
        # Ray resumes a run whose name it has seen: nothing but our own checkpoints may resume.
        run_config=RunConfig(
            name=f"{task.key.replace('/', '-')}-{uuid.uuid4().hex[:8]}",
            storage_path=str(task.scratch),
            callbacks=[callback],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        raise next(iter(failures.values()), error) from error


def follow_on_workers(task: Task, resources: Resources, client: MlflowClient) -> None:
    """As `run_on_workers`, telling followers of its progress, and ending its MLflow run however it ends."""
    steps = task.spec["trainer"]["steps"]

    def tell(step: int, miou: float | None, state: str = "RUNNING", reason: str = "") -> None:
        emit(TrialUpdate(key=task.key, state=state, step=step, steps=steps, miou=miou, reason=reason))

    queue = Queue(actor_options={"num_cpus": 0})
    heard = [(0, None)]

    def pass_on() -> None:
        while (report := queue.get()) is not None:
            heard.append((report[STEP], report[METRIC]))
            tell(*heard[-1])

    tell(*heard[-1])
    thread = threading.Thread(target=pass_on, name="reports", daemon=True)
    thread.start()
    state, reason = "STOPPED", "stopped from outside"
    try:
        run_on_workers(task, resources, QueueCallback(queue))
        state, reason = "COMPLETE", ""
    except Exception as error:
        state, reason = "FAIL", reason_of(error)
        raise
    finally:
        queue.put(None)
        thread.join()
        queue.shutdown()
        tell(*heard[-1], state, reason)
        # Ray kills workers hard, and they end nothing then.
        close_key(client, task.identity.experiment, task.key, state, reason)


def worker_resources(resources: Resources) -> dict[str, float]:
    """What one worker takes, in Ray's names."""
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}
    return {"CPU": resources.cpus_per_worker, **gpus}


def _worker(config: dict[str, Any]) -> None:
    context = train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    run_task(config["task"], TrainReporter(), world=world, device=get_device())
