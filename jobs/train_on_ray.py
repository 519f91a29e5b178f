"""One training on Ray Train workers, tracked in MLflow.

`advseg submit` runs it on the cluster as `python -m advseg.jobs.train_on_ray SPEC`. Running it again resumes.
"""

import logging
import sys

from ..platform.base.events import Stage, emit
from ..platform.base.keys import SINGLE, key_of
from ..platform.cluster.driver import Job, run_job
from ..platform.cluster.preflight import Preflight
from ..platform.cluster.waiting import wait_for_room
from ..platform.spec.resources import Resources
from ..platform.spec.retry import Retry
from ..platform.tracking.identity import RunIdentity, single_identity
from ..platform.workers.account import Account
from ..platform.workers.followed import follow_on_workers
from ..platform.workers.task import Task
from ..platform.workers.training_id import ensure_training_id

log = logging.getLogger(__name__)


def train(job: Job) -> None:
    """The whole job. Raises UserError, and whatever the training raised."""
    resources = Resources.model_validate(job.document["resources"])
    retry = Retry()
    nodes = wait_for_room([resources], retry.start_timeout)
    preflight = Preflight(job, resources, nodes, retry.start_timeout)
    digest = preflight.check()
    key = key_of(job.document["name"], SINGLE)
    identity = single_identity(job.document, ensure_training_id(job.store.at(key)))
    settle_run(job, identity)
    task = Task(spec=job.document, store=job.store, tracking_uri=job.tracking_uri, identity=identity, dataset=digest)
    emit(Stage(text=f"training on {resources.workers} Ray Train worker{'s' if resources.workers > 1 else ''}"))
    with preflight.watching():
        follow_on_workers(task, resources, retry, Account())
    # They import PyTorch and MLflow, for which the workers need not wait.
    from ..platform.registry.champion import keep_model
    from ..platform.tracking.patience import patiently
    from ..platform.tracking.runs import run_of

    run_id = patiently(lambda: run_of(job.client, job.document["name"], key))
    job.describe(run_id)
    patiently(lambda: keep_model(job.client, job.store, job.document["name"], key, None))
    emit(Stage(text=f"the model is in MLflow: `advseg models pull {key} --to DIR` downloads it"))


def settle_run(job: Job, identity: RunIdentity) -> None:
    """Raise UserError if MLflow has another's training of this name, and leave the run of fewer steps as it is, if it
    has one; if it does not answer, it is not waited for."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    from ..platform.tracking.patience import reason_of
    from ..platform.tracking.runs import leave_to_shorter, refuse_another

    try:
        refuse_another(job.client, identity)
        if left := leave_to_shorter(job.client, identity):
            emit(Stage(text=f"goes on from {left} to step {identity.params['trainer.steps']}, as a run of its own"))
    except (MlflowException, RequestException) as error:
        log.warning("MLflow does not say whether %s is another's: %s", identity.key, reason_of(error))


if __name__ == "__main__":
    sys.exit(run_job(train, sys.argv[1:]))
