"""Runs in MLflow, which are found by their keys before they are created, and counted after."""

from mlflow.entities import Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...trainers.errors import UserError
from .ending import Ending
from .identity import RunIdentity
from .patience import TrackingError
from .sending import log_params

KEY_TAG = "advseg.key"
ID_TAG = "advseg.id"
STEPS = "trainer.steps"
STATE_TAG = "advseg.state"
REASON_TAG = "advseg.reason"


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of a name, made if there is none. Raises TrackingError for one that was deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the experiment {name} in MLflow at {client.tracking_uri} is deleted, and its name still taken: "
                f"restore it, as by `mlflow experiments restore -x {experiment.experiment_id}`, or choose another name"
            )
        return experiment.experiment_id
    try:
        return client.create_experiment(name)
    except MlflowException:
        # Another process was faster.
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


def find_run(client: MlflowClient, experiment: str, key: str) -> str | None:
    """The id of the run of a key, None if there is none."""
    run = read_run(client, experiment, key)
    return run.info.run_id if run else None


def run_of(client: MlflowClient, experiment: str, key: str) -> str:
    """The id of the run of a key. Raises TrackingError if there is none any more."""
    run_id = find_run(client, experiment, key)
    if run_id is None:
        raise TrackingError(
            f"{key} has no run in MLflow at {client.tracking_uri} any more, as somebody may have deleted it: "
            f"`advseg sync` brings it back"
        )
    return run_id


def read_run(client: MlflowClient, experiment: str, key: str) -> Run | None:
    """The run of a key, None if there is none."""
    return next(iter(_runs_of(client, experiment, key)), None)


def runs_by_key(client: MlflowClient, experiment: str) -> dict[str, Run]:
    """All runs of an experiment that have keys."""
    found = client.get_experiment_by_name(experiment)
    runs: list[Run] = []
    token = None
    while found is not None:
        page = client.search_runs([found.experiment_id], max_results=1000, page_token=token)
        runs += [run for run in page if KEY_TAG in run.data.tags]
        token = page.token
        if not token:
            break
    return {run.data.tags[KEY_TAG]: run for run in sorted(runs, key=_place, reverse=True)}


def ensure_run(client: MlflowClient, identity: RunIdentity, *, reopen: bool = True) -> str:
    """The id of the run of an identity; it is created only if its key is not found.

    One that had ended is opened again if `reopen`. Parameters that are logged already stay as they are.
    Raises UserError, and writes nothing, if it is another's of that key.
    """
    found = _runs_of(client, identity.experiment, identity.key)
    own = {ID_TAG: identity.id} if identity.id else {}
    if not found:
        tags = {KEY_TAG: identity.key, **own}
        if identity.parent is not None:
            parent = find_run(client, identity.experiment, identity.parent)
            # Somebody may have deleted it.
            tags |= {"mlflow.parentRunId": parent} if parent else {}
        client.create_run(experiment_id(client, identity.experiment), tags=tags, run_name=identity.key)
        # MLflow's client repeats a request whose answer was lost, and then there are two.
        found = _runs_of(client, identity.experiment, identity.key)
    mine = [run for run in found if is_own(run, identity)]
    if len(mine) < len(found):
        # Also of two that made theirs at the same moment, each before it saw the other's.
        for run in mine:
            if not run.data.params:
                client.delete_run(run.info.run_id)
        raise UserError(_refusal(client, identity))
    run, *repeated = mine
    for each in repeated:
        client.delete_run(each.info.run_id)
    run_id, logged = run.info.run_id, run.data.params
    if reopen and run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    # A crash can fall between a run's creation and its parameters.
    params = [Param(key, str(value)) for key, value in identity.params.items() if key not in logged]
    tags = [RunTag(name, value) for name, value in {**own, **identity.tags}.items()]
    log_params(client, run_id, params, tags)
    return run_id


def refuse_another(client: MlflowClient, identity: RunIdentity) -> None:
    """Raise UserError if a run of an identity's key is that of another sweep or training."""
    if not all(is_own(run, identity) for run in _runs_of(client, identity.experiment, identity.key)):
        raise UserError(_refusal(client, identity))


def leave_to_shorter(client: MlflowClient, identity: RunIdentity) -> str | None:
    """Where an identity's training had fewer steps when its run began, give that run a key of its own and return it:
    what goes on from there is another run, with a key and parameters that say what it is."""
    run = read_run(client, identity.experiment, identity.key)
    steps = run.data.params.get(STEPS, "") if run and is_own(run, identity) else ""
    if run is None or not steps.isdecimal() or int(steps) >= identity.params[STEPS]:
        return None
    key = f"{identity.key}-{steps}"
    client.update_run(run.info.run_id, name=key)
    client.set_tag(run.info.run_id, KEY_TAG, key)
    return key


def is_own(run: Run, identity: RunIdentity) -> bool:
    """Whether a run of an identity's key is its own; one without an id is anybody's."""
    return not identity.id or run.data.tags.get(ID_TAG, identity.id) == identity.id


def _refusal(client: MlflowClient, identity: RunIdentity) -> str:
    return (
        f"the experiment {identity.experiment} in MLflow at {client.tracking_uri} holds {identity.key} of another "
        f"ledger or storage: choose another name, as in --set name={identity.experiment}-2, or delete that experiment "
        f"if nobody needs it"
    )


def _runs_of(client: MlflowClient, experiment: str, key: str) -> list[Run]:
    """The runs of a key, that which counts first."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return sorted(client.search_runs([found.experiment_id], f"tags.`{KEY_TAG}` = '{key}'"), key=_place)


def _place(run: Run) -> tuple[bool, int, str]:
    """Where a run stands among those of its key: one that was written to comes first, then the oldest."""
    return not run.data.params, run.info.start_time, run.info.run_id


def close_run(client: MlflowClient, run_id: str, ending: Ending, *, end_time: int | None = None) -> None:
    """End a run, which says how and why, and when: at `end_time` in milliseconds, if that is known, or now.

    One that has ended so already keeps its time, unless something came after it.
    """
    info = client.get_run(run_id).info
    tags = {STATE_TAG: ending.state, REASON_TAG: ending.reason}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    if info.status == ending.status and (info.end_time or 0) >= (end_time or 1):
        return
    client.set_terminated(run_id, ending.status, end_time and max(end_time, info.start_time))


def has_ended(run: Run, ending: Ending) -> bool:
    """Whether a run says already that it ended so, for whatever reason."""
    return (run.info.status, run.data.tags.get(STATE_TAG)) == (ending.status, ending.state)


def run_url(client: MlflowClient, run_id: str) -> str:
    """Where the MLflow UI shows a run."""
    return f"{client.tracking_uri}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"
