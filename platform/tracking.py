"""Tracking in MLflow, off the training path: metrics go to a local spool and a thread of its own sends them."""

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..trainers.reporter import Report
from .spool import Spool

log = logging.getLogger(__name__)

KEY_TAG = "advseg.key"
STATE_TAG = "advseg.state"
REASON_TAG = "advseg.reason"
RUN_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED", "STOPPED": "KILLED"}
"""MLflow's status of a run by the state of its trial."""

_BATCH = 1000
"""Metrics that MLflow takes in one request."""
_RETRY_S = 2.0
_FAREWELL_S = 30.0
"""How long closing waits for a server that does not answer."""


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Which run something is tracked in."""

    experiment: str
    key: str
    parent: str | None = None
    """Key of the parent run."""
    params: dict[str, Any] = field(default_factory=dict)


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of a name, made if there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
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
    found = client.search_runs(
        [experiment_id(client, experiment)],
        f"tags.`{KEY_TAG}` = '{key}'",
        max_results=1,
        order_by=["created ASC"],
    )
    return found[0].info.run_id if found else None


def ensure_run(client: MlflowClient, identity: RunIdentity) -> str:
    """The id of the run of an identity; it is created only if its key is not found, and reopened if it had ended.

    Parameters that are logged already stay as they are.
    """
    run_id = find_run(client, identity.experiment, identity.key)
    if run_id is None:
        tags = {KEY_TAG: identity.key}
        if identity.parent is not None:
            parent = find_run(client, identity.experiment, identity.parent)
            assert parent is not None, f"the parent run {identity.parent} must exist before its children"
            tags["mlflow.parentRunId"] = parent
        run = client.create_run(experiment_id(client, identity.experiment), tags=tags, run_name=identity.key)
        run_id, logged = run.info.run_id, {}
    else:
        client.update_run(run_id, status="RUNNING")
        logged = client.get_run(run_id).data.params
    # A crash can fall between a run's creation and its parameters.
    params = [Param(key, str(value)) for key, value in identity.params.items() if key not in logged]
    if params:
        client.log_batch(run_id, params=params)
    return run_id


def close_run(client: MlflowClient, run_id: str, state: str, reason: str = "") -> None:
    """End a run with the status that matches its trial's state: COMPLETE, PRUNED, FAIL or STOPPED."""
    tags = [RunTag(STATE_TAG, state), RunTag(REASON_TAG, reason)]
    client.log_batch(run_id, tags=tags)
    client.set_terminated(run_id, RUN_STATUS[state])


def run_url(client: MlflowClient, run_id: str) -> str:
    """Where the MLflow UI shows a run."""
    return f"{client.tracking_uri}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"


def close_key(client: MlflowClient, experiment: str, key: str, state: str, reason: str = "") -> None:
    """End the run of a key from outside, whatever became of the process that wrote to it."""
    run_id = find_run(client, experiment, key)
    if run_id is not None:
        close_run(client, run_id, state, reason)


class MlflowReporter:
    """Spools reports and sends them from a background thread; training never waits for the server.

    A step that was reported before, by this process or one that died, is not sent again.
    """

    def __init__(
        self,
        tracking_uri: str,
        identity: RunIdentity,
        directory: Path,
        *,
        farewell_s: float = _FAREWELL_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._client = MlflowClient(tracking_uri)
        self._identity = identity
        self._farewell_s = farewell_s
        self._retry_s = retry_s
        self._spool = Spool(directory / "metrics.jsonl")
        self._last_step = max((record["step"] for record in self._spool.records()), default=-1)
        self._wake = threading.Event()
        self._end: tuple[str, str, list[Path]] | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def report(self, report: Report) -> None:
        """Spool one report."""
        if report.step > self._last_step:
            self._last_step = report.step
            self._spool.append(
                {"step": report.step, "timestamp": time.time_ns() // 1_000_000, "metrics": report.metrics}
            )
            self._wake.set()

    def close(self, state: str, reason: str, artifacts: list[Path]) -> None:
        """Send what is left, then the artifacts that exist, then the end of the run.

        If the server does not answer in `farewell_s` seconds, all stays in the spool, and a warning says so.
        """
        self._end = state, reason, artifacts
        self._wake.set()
        self._thread.join(self._farewell_s)
        if self._thread.is_alive():
            # From here on the spool and the run belong to whoever resumes the training.
            self._abandoned.set()
            log.warning("MLflow does not answer; metrics of %s stay in its spool", self._identity.key)

    def _send_all(self) -> None:
        run_id: str | None = None
        while not self._abandoned.is_set():
            self._wake.clear()
            end = self._end
            try:
                run_id = run_id or ensure_run(self._client, self._identity)
                self._send_unsent(run_id)
                if end and not self._abandoned.is_set():
                    state, reason, artifacts = end
                    for path in artifacts:
                        if path.exists():
                            self._client.log_artifact(run_id, str(path))
                    close_run(self._client, run_id, state, reason)
                    return
            except Exception as error:
                # Whatever MLflow or an artifact store raises: it may not end the training, nor this thread.
                log.warning("MLflow did not take metrics of %s, trying again: %s", self._identity.key, error)
                self._abandoned.wait(self._retry_s)
                continue
            if end is None:
                self._wake.wait()

    def _send_unsent(self, run_id: str) -> None:
        for record in self._spool.unsent():
            metrics = [
                Metric(name, value, record["timestamp"], record["step"]) for name, value in record["metrics"].items()
            ]
            for start in range(0, len(metrics), _BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
            if self._abandoned.is_set():
                return
            self._spool.mark_sent(1)
