"""One training on Ray Train workers, tracked in MLflow.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.train_on_ray SPEC`. Running it again resumes.
"""

import sys

import ray

from ..platform.base.events import Stage, emit
from ..platform.cluster.driver import Job, run_job
from ..platform.cluster.placement import concurrency_of
from ..platform.spec.resources import Resources
from ..platform.spec.sweep import Retry
from ..platform.tracking.identity import single_identity
from ..platform.workers.account import Account
from ..platform.workers.ray_train import follow_on_workers
from ..platform.workers.task import Task


def train(job: Job) -> None:
    """The whole job. Raises UserError, and whatever the training raised."""
    resources = Resources.model_validate(job.document["resources"])
    concurrency_of(1, resources, ray.cluster_resources())
    task = Task(
        spec=job.document,
        storage=job.storage,
        tracking_uri=job.tracking_uri,
        identity=single_identity(job.document),
    )
    emit(Stage(text=f"training on {resources.workers} Ray Train workers"))
    follow_on_workers(task, resources, Retry(), Account())
    # They import PyTorch and MLflow, for which the workers need not wait.
    from ..platform.registry.champion import keep_model
    from ..platform.tracking.patience import patiently
    from ..platform.tracking.runs import run_of
    from ..trainers.data.opening import open_dataset

    dataset = open_dataset(job.spec.dataset)
    run_id = patiently(lambda: run_of(job.client, job.spec.name, task.key))
    job.describe(run_id)
    patiently(lambda: keep_model(job.client, job.spec, dataset, job.storage, task.key))


if __name__ == "__main__":
    sys.exit(run_job(train, sys.argv[1:]))
