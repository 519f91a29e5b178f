"""A training on the workers of Ray Train.

What imports PyTorch or MLflow is imported where it is used: the process that starts workers need not wait for it.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import ray
from ray import train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from ..base.keys import METRIC, STEP
from ..spec.resources import Resources
from ..storage.scratch import scratch_of
from .task import Task


def run_on_workers(task: Task, resources: Resources, callbacks: Sequence[UserCallback] = ()) -> None:
    """Train on workers that share each global batch. Raises TrainingFailedError."""
    _trainer(task, resources, callbacks).fit()


def _trainer(task: Task, resources: Resources, callbacks: Sequence[UserCallback]) -> DataParallelTrainer:
    parts: dict[str, Any] = {
        "train_loop_config": {"task": task, "controller": ray.get_runtime_context().get_node_id()},
        "scaling_config": ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.per_worker,
            placement_strategy=resources.placement.upper(),
            label_selector=resources.node_labels,
        ),
        # Ray resumes a run whose name it has seen: each attempt has its own, and only our checkpoints resume.
        "run_config": RunConfig(
            name=f"{task.key.replace('/', '-')}-a{task.attempt.number}",
            storage_path=str(scratch_of(task.store, task.identity.experiment)),
            # We decide what is tried again. Ray Train would, by itself, what a drained node took along.
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
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


def _worker(config: dict[str, Any]) -> None:
    from ray.train.torch import get_device

    from ...trainers.distributed import World
    from .execute import run_task
    from .failures import naming_the_machine

    context = train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    nodes = {"node": ray.get_runtime_context().get_node_id(), "controller": config["controller"]}
    with naming_the_machine():
        gpu = get_device()
    with closing(run_task(config["task"], world=world, gpu=gpu, **nodes)) as reports:
        for report in reports:
            train.report({STEP: report.step, METRIC: report.metrics[METRIC]})
