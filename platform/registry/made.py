"""How a model was made, as far as the registry knows: by its card, and by the tags of its training's run."""

from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..base.environment import Environment, environment_of
from ..tracking.provenance import CODE_TAG, COMMIT_TAG, DIFF, TORCH_TAG
from .registry import Record, pull_record

_PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a model was made."""

    record: Record
    environment: Environment
    commit: str | None
    """Of git, of the code that trained it."""
    diff_of: str | None
    """The run that holds what differed from the commit, if anything did."""


def how_made(client: MlflowClient, reference: str) -> Made:
    """How the model of a reference was made. Raises UserError as `pull` does."""
    record = pull_record(client, reference)
    given = record.card.lineage.get("environment")
    own = _tags(client, record.run_id)
    # Of a trial's code the run of its sweep tells.
    job_id = own.get(_PARENT_TAG, record.run_id)
    job = _tags(client, job_id) if job_id != record.run_id else own
    # Cards of older versions of advseg hold less.
    by_runs = {"code": job.get(CODE_TAG), "torch": own.get(TORCH_TAG)}
    commit = job.get(COMMIT_TAG)
    return Made(
        record=record,
        environment=environment_of({**by_runs, **(given if isinstance(given, dict) else {})}),
        commit=commit,
        diff_of=job_id if commit and job_id and _has_diff(client, job_id) else None,
    )


def _tags(client: MlflowClient, run_id: str | None) -> dict[str, Any]:
    """The tags of a run; none of one that there is not, or not any more."""
    if run_id is None:
        return {}
    try:
        return client.get_run(run_id).data.tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _has_diff(client: MlflowClient, run_id: str) -> bool:
    return any(artifact.path == DIFF for artifact in client.list_artifacts(run_id))
