"""Secrets in the environments of a submitter and of a node, through a whole sweep: where they must not be seen."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from finished_sweep import SECRETS, Followed

from advseg.platform.services.belonging import members
from advseg.platform.services.connection import Services, connect
from advseg.platform.services.mlflow_accounts import page_path, password_path
from advseg.platform.services.records import read_records
from advseg.platform.services.servers import MLFLOW, RAY, folder, token_path

pytestmark = pytest.mark.cluster

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def services(cluster: Path) -> Services:
    return connect(cluster)


def processes(cluster: Path) -> list[psutil.Process]:
    return [process for name, record in read_records(cluster).items() for process in members(cluster, name, record)]


def told_by_ray(services: Services) -> dict[str, str]:
    """What Ray's APIs tell of jobs, actors, tasks and workers, with their runtime environments."""
    assert services.ray_token_path
    paths = ["/api/jobs/", *(f"/api/v0/{what}?detail=1&limit=10000" for what in ("actors", "tasks", "workers"))]
    paths += ["/api/v0/runtime_envs?detail=1&limit=10000", "/api/v0/nodes?detail=1&limit=10000"]
    answers: dict[str, str] = {}
    for path in paths:
        headers = {"Authorization": f"Bearer {services.ray_token_path.read_text()}"}
        request = urllib.request.Request(services.dashboard_url + path, headers=headers)
        with OPENER.open(request, timeout=30) as response:
            answers[path.partition("?")[0]] = response.read().decode()
    return answers


def files(cluster: Path) -> Iterator[Path]:
    """All that services and jobs have written, apart from what holds the local secrets on purpose."""
    kept = {password_path(folder(cluster, MLFLOW)), page_path(folder(cluster, MLFLOW)), token_path(cluster)}
    for place in (cluster, *(record.temp_dir for record in read_records(cluster).values())):
        yield from (path for path in place.rglob("*") if path.is_file() and path not in kept)


def test_no_secret_is_seen_beside_the_environments_that_have_it(
    cluster: Path, services: Services, finished: str, followed: Followed, node_secrets: dict[str, str], mlflow_client
) -> None:
    told = told_by_ray(services)
    runs = mlflow_client.search_runs([mlflow_client.get_experiment_by_name(finished).experiment_id])
    places = {
        "output": followed.output,
        "command lines": followed.command_lines,
        "MLflow": json.dumps([run.to_dictionary() for run in runs]),
        **told,
    }
    local = [password_path(folder(cluster, MLFLOW)).read_text(), token_path(cluster).read_text()]
    secrets = [*SECRETS.values(), *node_secrets.values(), *local]
    assert {where: secret for where, text in places.items() for secret in secrets if secret in text} == {}
    found = {path: secret for path in files(cluster) for secret in secrets if secret.encode() in path.read_bytes()}
    assert found == {}
    # It looked where they would have been: trials and the variables of their actors are told, and nodes have secrets.
    assert "PL_DISABLE_FORK" in told["/api/v0/actors"] + told["/api/v0/runtime_envs"]
    assert "advseg.jobs.sweep" in places["command lines"]
    raylet = next(process for process in processes(cluster) if process.name() == "raylet")
    assert node_secrets.items() <= raylet.environ().items()
    assert finished in "".join(str(path) for path in files(cluster))


def test_what_services_and_jobs_wrote_is_for_its_owners_eyes_alone(cluster: Path) -> None:
    assert cluster.stat().st_mode & 0o077 == 0
    written = [*folder(cluster, MLFLOW).rglob("*"), *folder(cluster, RAY).rglob("*"), *(cluster / "runs").rglob("*")]
    assert any(path.suffix == ".db" for path in written)
    assert [path for path in written if not path.is_symlink() and path.stat().st_mode & 0o077] == []
