"""Submitting jobs to a Ray cluster through its Jobs API. The same job submitted twice is one job."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from ...trainers.errors import UserError
from ..base.keys import JOB
from ..base.mlflow_account import PASSWORD_PATH
from ..services.connection import Services
from ..spec.spec import Spec
from ..tracking.git_state import git_state, write_git_state
from .jobs import numbers_of
from .nodes import driver_selector
from .package import CODE, code_digest, copy_package, package_folders

SPEC_FILE = "spec.yaml"
MODULES = {"train": "advseg.jobs.train_on_ray", "sweep": "advseg.jobs.sweep"}
"""What the cluster runs, by the spec's `job`."""
_SPEC_KEY = "advseg.spec"
RAY_TRAIN = {
    # The controller looks for reports this often; each report waits for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # An actor more for every training, which takes a third of a core while it starts; nothing asks it yet.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""How Ray Train is run."""
_TRIES = 20
"""How often an id is drawn that another submitter takes at the same moment."""
_STOP_WAIT_S = 30
"""Seconds that a job has to end in order before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job on the cluster."""

    id: str
    is_new: bool
    """False if the very job was running already."""


@dataclass(frozen=True, kw_only=True)
class KnownJob:
    """What the cluster knows of an earlier submission."""

    id: str
    active: bool
    digest: str
    """Of the spec that it runs."""


def connect_jobs(services: Services) -> JobSubmissionClient:
    """A client of the cluster's Jobs API. Raises UserError if it does not answer or refuses the token.

    Ray reads how to authenticate when it is first imported, so `services.environment()` must be set by then.
    """
    try:
        return JobSubmissionClient(services.dashboard_url)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the Ray cluster at {services.dashboard_url} cannot be reached ({reason}): start it, as `advseg up` does "
            f"on this machine, or set RAY_ADDRESS to its dashboard"
        ) from None


def submit(client: JobSubmissionClient, spec: Spec, services: Services, home: Path) -> Submitted:
    """Submit a job, or find it running. Raises UserError if another job of its name is running."""
    if spec.storage is None:
        spec = spec.model_copy(update={"storage": str(home / "runs")})
    document = spec.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    for tries_left in reversed(range(_TRIES)):
        id, is_new = choose_id(spec.name, digest, [_known(job) for job in client.list_jobs()])
        try:
            if is_new:
                _send(client, id, spec, digest, document, services)
        except RuntimeError as error:
            # Another submitter drew the same id and was faster: perhaps it is the very job.
            if f"{id} already exists" not in str(error) or not tries_left:
                raise
        else:
            return Submitted(id=id, is_new=is_new)
    raise AssertionError("the last try returns or raises")


def _send(
    client: JobSubmissionClient, id: str, spec: Spec, digest: str, document: dict[str, Any], services: Services
) -> None:
    """Submit a job under an id. Raises RuntimeError if the id was used."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        (work / SPEC_FILE).write_text(yaml.safe_dump(document, sort_keys=False))
        if git := git_state(package_folders()):
            write_git_state(work, git)
        client.submit_job(
            entrypoint=f"python -m {MODULES[spec.job]} {SPEC_FILE}",
            submission_id=id,
            metadata={_SPEC_KEY: digest, "name": spec.name},
            entrypoint_label_selector=driver_selector(services.dashboard_url),
            runtime_env={
                **(spec.runtime_env.for_ray() if spec.runtime_env else {}),
                "working_dir": str(work),
                "py_modules": [str(copy_package(Path(folder)))],
                "env_vars": {
                    "MLFLOW_TRACKING_URI": services.tracking_uri,
                    PASSWORD_PATH: str(services.mlflow_password_path or ""),
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
                    # Waits for up to 14 s, then we try again: by default it sleeps for minutes, and wakes up late.
                    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
                    JOB: id,
                    CODE: code_digest(),
                    **RAY_TRAIN,
                    "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
                },
            },
        )


def choose_id(name: str, digest: str, known: Sequence[KnownJob]) -> tuple[str, bool]:
    """The submission id for a job, and whether it is a new one.

    A running job of the same name and spec is that job; one of the same name and another spec raises UserError.
    """
    numbers = numbers_of(name, (job.id for job in known))
    mine = {f"{name}-{number}" for number in numbers}
    for job in known:
        if job.id in mine and job.active:
            if job.digest == digest:
                return job.id, False
            raise UserError(
                f"job {job.id} of this name runs with another spec: stop it by `advseg job stop {job.id}` "
                f"or submit under another name, as in --set name={name}-2"
            )
    return f"{name}-{numbers[-1] + 1 if numbers else 1}", True


def _known(job: JobDetails) -> KnownJob:
    return KnownJob(
        id=job.submission_id or "",
        active=not job.status.is_terminal(),
        digest=(job.metadata or {}).get(_SPEC_KEY, ""),
    )
