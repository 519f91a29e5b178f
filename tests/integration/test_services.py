import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from waiting import LIMIT_S, wait_for

from advseg.platform.services.belonging import members
from advseg.platform.services.connection import Services, connect
from advseg.platform.services.launching import ServiceStartError
from advseg.platform.services.records import ServiceRecord, read_records, records_path
from advseg.platform.services.services import down, up
from advseg.platform.services.state import ServiceState, status

pytestmark = pytest.mark.cluster

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose services run, unless a test ended some; the tests below tell their story in order."""
    home = tmp_path_factory.mktemp("home")
    try:
        up(home, say=print)
        yield home
    finally:
        down(home, say=print)


@pytest.fixture(autouse=True)
def no_other_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def get(url: str, *, token: str | None = None, password: str | None = None) -> str:
    basic = base64.b64encode(f"advseg:{password}".encode()).decode()
    authorization = f"Bearer {token}" if token else f"Basic {basic}" if password else None
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    with OPENER.open(request, timeout=LIMIT_S) as response:
        return response.read().decode()


def refusal(url: str, *, token: str | None = None) -> int:
    """The HTTP status of a request that must fail."""
    with pytest.raises(urllib.error.HTTPError) as error:
        get(url, token=token)
    error.value.close()
    return error.value.code


def submit_job(services: Services, marker: Path) -> None:
    """Submits a job whose entry point, which Ray starts in a session of its own, writes its pid to a file."""
    assert services.ray_token_path is not None
    code = f"import os, pathlib, time;pathlib.Path({str(marker)!r}).write_text(str(os.getpid())); time.sleep(1000)"
    request = urllib.request.Request(
        f"{services.dashboard_url}/api/jobs/",
        data=json.dumps({"entrypoint": f'python -c "{code}"'}).encode(),
        headers={
            "Authorization": f"Bearer {services.ray_token_path.read_text()}",
            "Content-Type": "application/json",
        },
    )
    OPENER.open(request, timeout=LIMIT_S).close()


def pids(home: Path) -> dict[str, int]:
    return {name: record.pid for name, record in read_records(home).items()}


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(record: ServiceRecord) -> None:
    process = psutil.Process(record.pid)
    process.kill()
    process.wait(timeout=LIMIT_S)


def left_of(home: Path, records: dict[str, ServiceRecord]) -> list[str]:
    """The command lines of the services' processes, found by every trace of them."""
    survivors = set().union(*(members(home, name, record) for name, record in records.items()))
    lines = {process.pid: process.cmdline() for process in survivors}
    traces = [str(home), *(str(record.temp_dir) for record in records.values())]
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(trace in word for trace in traces for word in line):
            lines[process.pid] = line
    return [" ".join(line) for line in lines.values()]


def test_up_starts_both_and_notes_them(home: Path) -> None:
    assert [each.state for each in status(home)] == [ServiceState.RUNNING] * 2
    assert [each.log.exists() for each in status(home)] == [True] * 2
    assert read_records(home)["ray"].temp_dir.is_dir()


def test_both_answer_and_want_their_secrets(home: Path) -> None:
    services = connect(home)
    assert services.ray_token_path is not None
    assert services.mlflow_password_path is not None
    token, password = services.ray_token_path.read_text(), services.mlflow_password_path.read_text()
    search = f"{services.tracking_uri}/api/2.0/mlflow/experiments/search?max_results=1"
    assert json.loads(get(search, password=password))["experiments"][0]["name"] == "Default"
    assert refusal(search) == http.client.UNAUTHORIZED
    assert json.loads(get(f"{services.dashboard_url}/api/jobs/", token=token)) == []
    assert refusal(f"{services.dashboard_url}/api/jobs/") == http.client.UNAUTHORIZED
    assert refusal(f"{services.dashboard_url}/api/jobs/", token="0" * 64) == http.client.FORBIDDEN


def test_mlflow_refuses_requests_by_another_name(home: Path) -> None:
    port = read_records(home)["mlflow"].port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        connection.request("GET", path, headers={"Host": "example.org"})
        assert connection.getresponse().status == http.client.FORBIDDEN
    finally:
        connection.close()


def test_nothing_listens_beyond_this_machine(home: Path) -> None:
    listening = {
        connection.laddr.ip
        for name, record in read_records(home).items()
        for process in members(home, name, record)
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_a_second_up_finds_the_first(home: Path) -> None:
    before, environment = read_records(home), dict(os.environ)
    said: list[str] = []
    assert up(home, say=said.append) == connect(home)
    assert read_records(home) == before
    assert dict(os.environ) == environment
    # Another home of this user may be on its way up or down at the same time.
    told = [line.split(":")[0] for line in said if not line.startswith("waiting for another")]
    assert told == [
        "the MLflow server runs already",
        "the Ray head runs already",
        "open MLflow in a browser by file",
    ]


def test_two_homes_are_up_at_once_and_concurrent_ups_share_one(home: Path, tmp_path: Path) -> None:
    try:
        with ThreadPoolExecutor() as threads:
            first, second = threads.map(lambda _: up(tmp_path, cpus=1, say=print), range(2))
        assert first == second == connect(tmp_path)
        records = read_records(tmp_path)
        ours = connect(home)
        assert first.tracking_uri != ours.tracking_uri
        assert first.dashboard_url != ours.dashboard_url
        assert first.ray_token_path is not None
        foreign = first.ray_token_path.read_text()
        assert refusal(f"{ours.dashboard_url}/api/jobs/", token=foreign) == http.client.FORBIDDEN
        before = pids(home)
    finally:
        down(tmp_path, say=print)
    assert left_of(tmp_path, records) == []
    assert pids(home) == before
    assert [each.state for each in status(home)] == [ServiceState.RUNNING] * 2


def test_only_a_service_that_died_is_started_anew(home: Path) -> None:
    before = read_records(home)
    kill(before["mlflow"])
    assert [each.state for each in status(home)] == [ServiceState.DEAD, ServiceState.RUNNING]

    services = up(home, say=print)

    after = read_records(home)
    assert after["ray"] == before["ray"]
    assert after["mlflow"].pid != before["mlflow"].pid
    assert services.tracking_uri == before["mlflow"].url
    assert [each.state for each in status(home)] == [ServiceState.RUNNING] * 2
    assert not before["mlflow"].temp_dir.exists()


def test_a_service_that_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_text("This is no database, but it is long enough to be one. " * 9)
    with pytest.raises(ServiceStartError, match=r"^the MLflow server ended while it was starting; its log") as error:
        up(tmp_path, say=print)
    assert "file is not a database" in str(error.value)
    assert not records_path(tmp_path).exists()
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])] == []


def test_down_cleans_up_after_a_killed_head_and_its_job(home: Path, tmp_path: Path) -> None:
    records = read_records(home)
    marker = tmp_path / "job.pid"
    submit_job(connect(home), marker)
    wait_for(lambda: marker.exists() and marker.read_text())
    kill(records["ray"])
    assert runs(int(marker.read_text()))

    assert down(home, say=print) is True

    assert not runs(int(marker.read_text()))
    assert left_of(home, records) == []
    assert [record.temp_dir.exists() for record in records.values()] == [False, False]
    assert [each.state for each in status(home)] == [ServiceState.DOWN] * 2
    assert (home / "mlflow" / "mlflow.db").is_file()
    assert down(home, say=print) is False
