"""Submitting jobs to a Ray cluster through its Jobs API. The same job submitted twice is one job."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from ray.job_submission import JobSubmissionClient

from ...trainers.errors import UserError, brief
from ..base.code_digest import CODE, code_digest, package_folders
from ..base.keys import JOB
from ..base.mlflow_account import PASSWORD_PATH
from ..ledger.jobs import JobRecord, JobState, JobTable
from ..ledger.location import Location, location_of
from ..ledger.reading import read_location
from ..services.connection import Services, connect
from ..services.servers import MLFLOW
from ..spec.ledger_address import ledger_of
from ..spec.spec import Spec
from ..storage.opening import open_store
from ..tracking.git_state import git_state, write_git_state
from .jobs import choose_number
from .nodes import Node, nodes_at, off_the_head
from .package import copy_package
from .placement import first_lack, trainings_of

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
"""How often a number is drawn that another submitter takes at the same moment."""
_STOP_WAIT_S = 30
"""Seconds that a job has to end in order before it is killed."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job on the cluster."""

    id: str
    is_new: bool
    """False if the very job was submitted already, and is at work."""


def submit(client: JobSubmissionClient, spec: Spec, services: Services, home: Path, say: Say) -> Submitted:
    """Submit a job, or find it at work. A sweep that has begun goes on where its ledger has it, which is said.

    Raises UserError if another job of its name is at work, the sweep is elsewhere than its spec says, or this machine,
    where it is the whole cluster, has too few CPUs or GPUs.
    """
    spec = spec.model_copy(update={"ledger": ledger_of(spec.ledger)})
    location = _location(spec, services, home, say)
    spec = spec.with_values({"storage": location.storage})
    # Storage that is no folder has no file of a ledger.
    folder = open_store(location.storage).folder or home / "runs"
    nodes = nodes_at(services.dashboard_url)
    with closing(JobTable(folder, spec.ledger)) as table:
        asked = JobRecord.of_now(spec.name, job_digest(spec), services.dashboard_url)
        for _ in range(_TRIES):
            records, jobs = table.jobs(spec.name), client.list_jobs()
            at_work = {job.submission_id: not job.status.is_terminal() for job in jobs if job.submission_id}
            number, is_new = choose_number(asked, records, at_work)
            if is_new:
                _check_room(spec, nodes, say)
            job = replace(asked, number=number)
            if is_new and not table.enter(job):
                continue  # Another submitter was faster, perhaps with the very job.
            if job.id not in at_work:
                try:
                    _send(client, spec, job, location.tracking_uri, services, off_the_head(nodes))
                except UserError as error:
                    table.note(job.name, number, JobState.FAILED, str(error))
                    if isinstance(error, _TakenError):
                        continue
                    raise
                table.note(job.name, number, JobState.SUBMITTED)
            return Submitted(id=job.id, is_new=is_new)
    raise UserError(f"others take all numbers of jobs of the name {spec.name}: submit it again")


def _location(spec: Spec, services: Services, home: Path, say: Say) -> Location:
    """Where a job keeps its files and runs. Raises UserError if nobody knows, or the spec names another place."""
    own = Location(storage=str(home / "runs"), tracking_uri=services.tracking_uri)
    begun = read_location(spec.name, spec.ledger) if spec.job == "sweep" else None
    location = location_of(spec.name, spec.storage, begun, own)
    if not location.tracking_uri:
        connect(home, [MLFLOW])  # It says what is missing.
    if begun and spec.storage is None and location.storage != own.storage:
        say(f"sweep {spec.name} goes on in storage {location.storage}, as its ledger has it")
    if begun and location.tracking_uri != own.tracking_uri:
        say(f"sweep {spec.name} goes on with MLflow at {location.tracking_uri}, as its ledger has it")
    return location


def job_digest(spec: Spec) -> str:
    """What tells a job from others of its name in a ledger, in 64 digits.

    Which ledger it is goes without saying, and so does the storage of one in PostgreSQL: a name is one sweep there.
    """
    document = spec.model_dump(mode="json", exclude={"ledger": True, "storage": spec.ledger is not None})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class _TakenError(UserError):
    """The cluster has another job of this id."""


def _check_room(spec: Spec, nodes: Sequence[Node], say: Say) -> None:
    """Raise UserError if a job can never begin: this machine alone gets no more nodes. Of others it is said."""
    if (lack := first_lack(trainings_of(spec), nodes)) is None:
        return
    if all(node.is_hidden for node in nodes):
        raise UserError(lack)
    say(f"it will wait for nodes that an autoscaler, or you, may add: {lack}")


def _send(
    client: JobSubmissionClient,
    spec: Spec,
    job: JobRecord,
    tracking_uri: str,
    services: Services,
    selector: dict[str, str],
) -> None:
    """Have the cluster run a job, unless it does already. Raises _TakenError, and UserError if it refuses it."""
    # The account is that of the local server alone.
    password_path = services.mlflow_password_path if tracking_uri == services.tracking_uri else None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        work.mkdir()
        (work / SPEC_FILE).write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False))
        if git := git_state(package_folders()):
            write_git_state(work, git)
        try:
            client.submit_job(
                entrypoint=f"python -m {MODULES[spec.job]} {SPEC_FILE}",
                submission_id=job.id,
                metadata={_SPEC_KEY: job.digest, "name": spec.name},
                entrypoint_label_selector=selector,
                runtime_env={
                    **(spec.runtime_env.for_ray() if spec.runtime_env else {}),
                    "working_dir": str(work),
                    "py_modules": [str(copy_package(Path(folder)))],
                    "env_vars": {
                        "MLFLOW_TRACKING_URI": tracking_uri,
                        PASSWORD_PATH: str(password_path or ""),
                        "MLFLOW_DISABLE_TELEMETRY": "true",
                        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
                        # Waits for up to 14 s, then we try again: by default it sleeps for minutes, and wakes up late.
                        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
                        JOB: job.id,
                        CODE: code_digest(),
                        **RAY_TRAIN,
                        "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
                    },
                },
            )
        except RuntimeError as error:
            if f"{job.id} already exists" in str(error):
                if (client.get_job_info(job.id).metadata or {}).get(_SPEC_KEY) == job.digest:
                    return  # Another submitter of the very job was faster.
                raise _TakenError(f"the cluster has a job {job.id} of another ledger") from None
            if str(error).startswith("Request failed with status code 4"):
                reason = brief(" ".join(str(error).split()), 300)
                raise UserError(f"the Ray cluster at {job.cluster} takes no job {job.id} ({reason})") from None
            raise
