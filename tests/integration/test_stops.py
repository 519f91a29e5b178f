"""Stopping a training: its run in MLflow says so, whatever MLflow does meanwhile."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from waiting import wait_for

from advseg.platform.services.records import read_records as read_services
from advseg.platform.services.servers import MLFLOW
from advseg.platform.tracking.runs import REASON_TAG, STATE_TAG, runs_by_key
from advseg.platform.tracking.spool import read_records

# Waits for a server that never answers, which test_patience does in seconds; a stop while it does, test_jobs has.
pytestmark = [pytest.mark.cluster, pytest.mark.chaos]


@pytest.fixture
def at_work(
    cluster: Path, sweep_document: Callable[..., dict[str, Any]], advseg, tmp_path: Path
) -> Callable[..., None]:
    """Submit a single training that does not end by itself, and wait until it has reported and has a run."""

    def begin(name: str) -> None:
        document = sweep_document(name, trainer={"steps": 10**6, "evaluate_every": 10}, sweep={"trials": 1})
        del document["sweep"]
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**document, "job": "train"}))
        advseg("submit", path)
        wait_for(lambda: any(read_records(spool) for spool in (cluster / "runs" / name).glob("*/metrics.jsonl")))

    return begin


def run_of(client: MlflowClient, name: str) -> Run | None:
    return next(iter(runs_by_key(client, name).values()), None)


def said_of(run: Run | None) -> tuple[str, str | None, str | None]:
    assert run
    return run.info.status, run.data.tags.get(STATE_TAG), run.data.tags.get(REASON_TAG)


def test_one_that_is_stopped_while_mlflow_hangs_ends_in_time_and_is_synced(
    at_work, advseg, cluster: Path, mlflow_client
) -> None:
    at_work("hanging")
    wait_for(lambda: run_of(mlflow_client, "hanging") is not None)
    server = psutil.Process(read_services(cluster)[MLFLOW].pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        advseg("job", "stop", "hanging")
        logs = advseg("job", "logs", "hanging").stdout
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
    assert "MLflow does not answer, and does not have the end of hanging/" in logs
    advseg("sync")
    assert said_of(run_of(mlflow_client, "hanging"))[:2] == ("KILLED", "STOPPED")
