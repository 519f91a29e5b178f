"""Tracking through a network that loses answers, and a server that is away for a while."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow.tracking import MlflowClient

from advseg.platform.services.connection import connect
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.platform.tracking.runs import KEY_TAG, ensure_run, experiment_id
from advseg.platform.tracking.spool import has_unsent
from advseg.trainers.reporter import Report

pytestmark = pytest.mark.cluster

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "host"}


class Proxy(ThreadingHTTPServer):
    """Stands between clients and the MLflow server; can lose answers, or be away."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        self.target = urlsplit(target).netloc
        self.away = threading.Event()
        self.loses: Callable[[str, bytes], bool] = lambda path, body: False
        """Whether the answer to a request, which is carried out, gets lost."""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forwarder(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = True
        if self.server.away.is_set():
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if self.server.loses(self.path, body):
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def proxy(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    # As jobs have it.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    with Proxy(connect(cluster).tracking_uri) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


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

    proxy.away.set()
    ends, slowest = time.monotonic() + 10, 0.0
    steps = 0
    while time.monotonic() < ends:
        steps += 1
        began = time.monotonic()
        reporter.report(Report(step=steps, steps=200, metrics={"val/miou": float(steps)}))
        slowest = max(slowest, time.monotonic() - began)
        threading.Event().wait(0.05)
    assert has_unsent(spool)
    proxy.away.clear()
    wait_for(lambda: not has_unsent(spool), seconds=60)
    reporter.close()

    assert slowest < 1, "a report waited for the server"
    history = mlflow_client.get_metric_history(reporter.run_id or "", "val/miou")
    assert [(point.step, point.value) for point in history] == [(step, float(step)) for step in range(steps + 1)]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)
