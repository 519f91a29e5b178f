"""The database of the ledgers: opening it, and saying in words why it cannot be read."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ...trainers.errors import UserError
from ..spec.ledger_address import database_url, ledger_file, shown
from .schema import migrate

_TRIES = 50
_RETRY_S = 0.1


def open_database(storage: Path, ledger: str | None) -> RDBStorage:
    """The database of a storage folder or at a PostgreSQL address, brought to this version's schema.

    Raises UserError if it cannot be read or was written by a newer version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if ledger is None:
        storage.mkdir(parents=True, exist_ok=True)
    with readable(storage, ledger):
        tries = 0
        while True:
            try:
                return _brought_up_to_date(database_url(storage, ledger))
            except SQLAlchemyError as error:
                # Another process may be making the tables at the same moment.
                racing = isinstance(error, IntegrityError) or "already exists" in str(error)
                tries += 1
                if not racing or tries == _TRIES:
                    raise
                time.sleep(_RETRY_S)


def _brought_up_to_date(url: str) -> RDBStorage:
    database = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    try:
        with database.engine.begin() as connection:
            migrate(connection)
    except BaseException:
        close_database(database)
        raise
    return database


def close_database(database: RDBStorage) -> None:
    """End the calling thread's session and all connections that are not in use."""
    database.remove_session()
    database.engine.dispose()


@contextmanager
def reading(storage: Path, ledger: str | None) -> Iterator[RDBStorage]:
    """The database, closed after use. Raises UserError as `open_database`, also if it breaks meanwhile."""
    with readable(storage, ledger):
        database = open_database(storage, ledger)
        try:
            yield database
        finally:
            close_database(database)


def exists(storage: Path, ledger: str | None) -> bool:
    """Whether there is a database to read, without making one."""
    return ledger is not None or ledger_file(storage).exists()


@contextmanager
def readable(storage: Path, ledger: str | None) -> Iterator[None]:
    """Turn what a damaged or absent database raises into a UserError."""
    place = ledger_file(storage) if ledger is None else shown(ledger)
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        raise UserError(
            f"ledger {place} cannot be read ({str(cause).splitlines()[0]}): restore or move it"
            if ledger is None
            else f"ledger {place} cannot be read ({str(cause).splitlines()[0]}): is the server up, and does the file "
            f"that PGPASSFILE names hold the password?"
        ) from None
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise UserError(f"ledger {place} needs psycopg: pip install 'advseg[postgresql]'") from None
