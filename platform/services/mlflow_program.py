"""The program behind the local MLflow server: `python -m advseg.platform.services.mlflow_program FOLDER OPTION...`.

It begins the server with the options, once the databases in the folder are whole and of the installed version.
"""

import os
import secrets
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from .mlflow_accounts import CONFIGURATION, accounts_database, password_path
from .servers import DATABASE

OLD = ".old"
"""Ending of a database as it was before its last upgrade."""


def main(folder: Path, options: list[str]) -> None:
    """Serve until the process is ended."""
    from mlflow.cli import cli
    from mlflow.db import upgrade
    from mlflow.store import db_migrations

    make_current(
        folder / DATABASE,
        version="alembic_version",
        content="runs",
        scripts=Path(db_migrations.__path__[0]),
        upgrade=lambda url: upgrade([url], standalone_mode=False),
    )
    if CONFIGURATION in os.environ:
        # The first import reads them.
        os.environ |= {
            "MLFLOW_AUTH_ADMIN_PASSWORD": password_path(folder).read_text().strip(),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }
        from mlflow.server.auth.db import cli as accounts
        from mlflow.server.auth.db import migrations

        make_current(
            accounts_database(folder),
            version="alembic_version_auth",
            content="users",
            scripts=Path(migrations.__path__[0]),
            upgrade=lambda url: accounts.upgrade(["--url", url], standalone_mode=False),
        )
    cli(["server", *options])


def make_current(
    database: Path, *, version: str, content: str, scripts: Path, upgrade: Callable[[str], object]
) -> None:
    """Give a database the newest schema, or make it. Whoever is ended meanwhile leaves it as it was.

    `version` is the table with the version of its schema, `scripts` the migrations, which `upgrade` runs on the
    database at a URL. One with an older schema and no row in the table `content` is begun anew: its making was
    broken off. One with rows is kept as it was beside the new one.
    """
    from alembic.script import ScriptDirectory

    if database.exists() and _first(database, version) == ScriptDirectory(str(scripts)).get_current_head():
        return
    partial = database.with_name(f".{database.name}.partial")
    partial.unlink(missing_ok=True)
    kept = database.exists() and _first(database, content) is not None
    if kept:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
    upgrade(f"sqlite:///{partial}")
    if kept:
        old = database.with_name(database.name + OLD)
        old.unlink(missing_ok=True)
        old.hardlink_to(database)
    partial.replace(database)


def _first(database: Path, table: str) -> Any:
    """The first value of a table; None if it is empty or there is none."""
    with closing(sqlite3.connect(database)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        row = connection.execute(f"SELECT * FROM {table}").fetchone() if known else None
    return row[0] if row else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
