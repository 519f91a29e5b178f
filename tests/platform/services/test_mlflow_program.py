"""The databases of the local MLflow server: whole and of the newest schema before it starts, whoever is killed when."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from mlflow.db import upgrade
from mlflow.store import db_migrations

from advseg.platform.services.mlflow_program import make_current

SCRIPTS = Path(db_migrations.__path__[0])
HEAD = ScriptDirectory(str(SCRIPTS)).get_current_head()


def prepare(database: Path, migrate: Callable[[str], object]) -> None:
    make_current(database, version="alembic_version", content="runs", scripts=SCRIPTS, upgrade=migrate)


def mlflow_upgrade(url: str) -> None:
    upgrade([url], standalone_mode=False)


def interrupted(url: str) -> None:
    """Gets half of the way."""
    execute(Path(url.removeprefix("sqlite:///")), "CREATE TABLE half (id INTEGER)")
    raise KeyboardInterrupt


def finished(url: str) -> None:
    database = Path(url.removeprefix("sqlite:///"))
    execute(database, "CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
    execute(database, "DELETE FROM alembic_version")
    execute(database, f"INSERT INTO alembic_version VALUES ('{HEAD}')")


def never(url: str) -> None:
    raise AssertionError(f"{url} is of the newest schema already")


def execute(database: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


@pytest.fixture
def older(database: Path) -> Path:
    """Of an older version, with a run."""
    execute(database, "CREATE TABLE alembic_version (version_num TEXT)")
    execute(database, "INSERT INTO alembic_version VALUES ('0123')")
    execute(database, "CREATE TABLE runs (run_uuid TEXT)")
    execute(database, "INSERT INTO runs VALUES ('precious')")
    return database


def test_whoever_is_interrupted_while_it_is_made_begins_anew(database: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            prepare(database, interrupted)
        assert not database.exists()
    prepare(database, finished)
    assert [path.name for path in database.parent.iterdir()] == ["mlflow.db"]
    assert execute(database, "SELECT name FROM sqlite_master") == [("alembic_version",)]
    prepare(database, never)


def test_an_older_one_is_upgraded_beside_itself_and_kept(older: Path) -> None:
    before = older.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        prepare(older, interrupted)
    assert older.read_bytes() == before
    prepare(older, finished)
    assert execute(older, "SELECT * FROM runs") == [("precious",)]
    assert older.with_name("mlflow.db.old").read_bytes() == before
    assert sorted(path.name for path in older.parent.iterdir()) == ["mlflow.db", "mlflow.db.old"]
    prepare(older, never)


def test_a_half_made_one_of_an_earlier_time_is_begun_anew(database: Path, migrated: Path) -> None:
    shutil.copy(migrated, database)
    execute(database, "DELETE FROM alembic_version")
    execute(database, "DROP TABLE webhooks")
    copy = shutil.copy(database, database.with_name("copy.db"))
    with pytest.raises(Exception, match="duplicate column"):
        mlflow_upgrade(f"sqlite:///{copy}")

    prepare(database, mlflow_upgrade)

    assert execute(database, "SELECT * FROM alembic_version") == [(HEAD,)]
    assert execute(database, "SELECT count(*) FROM runs") == [(0,)]
    assert execute(database, "SELECT count(*) FROM webhooks") == [(0,)]
