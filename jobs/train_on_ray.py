"""One training on Ray Train workers, tracked in MLflow.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.train_on_ray SPEC`. Running it again resumes.
"""

import sys

import ray

from ..platform.champion import keep_model
from ..platform.driver import Job, run_job
from ..platform.events import Stage, emit
from ..platform.execute import Task
from ..platform.placement import concurrency_of
from ..platform.runs import single_identity
from ..platform.workers import follow_on_workers
from ..trainers.data.dataset import open_dataset


def train(job: Job) -> None:
    """The whole job. Raises UserError, and whatever the training raised."""
    spec = job.spec
    concurrency_of(1, spec.resources, ray.cluster_resources())
    dataset = open_dataset(spec.dataset)
    task = Task(
        spec=spec.model_dump(mode="json"),
        storage=job.storage,
        tracking_uri=job.tracking_uri,
        identity=single_identity(spec),
    )
    emit(Stage(text=f"training on {spec.resources.workers} Ray Train workers"))
    follow_on_workers(task, spec.resources, job.client)
    keep_model(job.client, spec, dataset, job.storage, task.key)


if __name__ == "__main__":
    sys.exit(run_job(train, sys.argv[1:]))
