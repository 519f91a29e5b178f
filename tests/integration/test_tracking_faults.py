"""Tracking through a network that loses answers, and a server that is away for a while."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from proxy import Proxy, Trouble
from waiting import wait_for

from advseg.platform.services.connection import connect
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.platform.tracking.runs import KEY_TAG, ensure_run, experiment_id
from advseg.platform.tracking.spool import has_unsent
from advseg.trainers.reporter import Report

pytestmark = pytest.mark.cluster

TRIES = 5
"""After so many a sender has given one request up, for which it has waited 14 s, and begun another."""


@pytest.fixture
def proxy(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    # As jobs have it.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with Proxy(connect(cluster).tracking_uri).serving() as proxy:
        yield proxy


def test_no_run_is_made_twice_though_answers_get_lost(proxy: Proxy, mlflow_client: MlflowClient) -> None:
    """MLflow's client repeats a request whose answer does not come: each of 50 runs is created at least twice."""
    lost: set[bytes] = set()

    def loses_the_first(path: str, body: bytes) -> bool:
        first = path.endswith("runs/create") and body not in lost
        lost.update([body] if first else [])
        return first

    proxy.loses = loses_the_first
    client = MlflowClient(proxy.uri)
    experiment = experiment_id(client, "lossy")
    identities = [RunIdentity(experiment="lossy", key=f"lossy/{number}", params={"n": number}) for number in range(50)]
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda identity: ensure_run(client, identity), identities))

    assert len(lost) == 50
    runs = mlflow_client.search_runs([experiment])
    assert sorted(run.info.run_id for run in runs) == sorted(ids)
    assert {run.data.tags[KEY_TAG]: run.data.params["n"] for run in runs} == {
        f"lossy/{number}": str(number) for number in range(50)
    }


def test_what_is_reported_while_the_server_is_away_arrives_once_when_it_is_back(
    proxy: Proxy, mlflow_client: MlflowClient, tmp_path: Path
) -> None:
    spool = tmp_path / "metrics.jsonl"
    identity = RunIdentity(experiment="outage", key="outage/0")
    reporter = MlflowReporter(proxy.uri, identity, spool, head_start_s=0)
    reporter.report(Report(step=0, steps=200, metrics={"val/miou": 0.0}))
    wait_for(lambda: not has_unsent(spool))

    proxy.trouble = Trouble.AWAY
    slowest, steps = 0.0, 0
    while proxy.troubled < TRIES:
        steps += 1
        began = time.monotonic()
        reporter.report(Report(step=steps, steps=10**6, metrics={"val/miou": float(steps)}))
        slowest = max(slowest, time.monotonic() - began)
        threading.Event().wait(0.05)
    assert has_unsent(spool)
    proxy.trouble = None
    wait_for(lambda: not has_unsent(spool))
    reporter.close()

    assert slowest < 7, "a report waited for the server"
    history = mlflow_client.get_metric_history(reporter.run_id or "", "val/miou")
    assert [(point.step, point.value) for point in history] == [(step, float(step)) for step in range(steps + 1)]
