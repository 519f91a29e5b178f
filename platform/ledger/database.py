"""The database of the ledgers: opening it, and saying in words why it cannot be read."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from ...trainers.errors import UserError
from ..spec.ledger_address import database_url, ledger_file, shown
from .optuna_storage import PatientStorage
from .patience import tell_absence
from .schema import migrate, refuse_newer

OWNER_WAIT_S = 60.0
"""Seconds that an owner's statement waits for the lock of a SQLite file, before it is tried again."""
_READER_WAIT_S = 10.0
_LIMITS_S = {"statement_timeout": 60, "lock_timeout": 60, "idle_in_transaction_session_timeout": 60}
"""Seconds that PostgreSQL lets a statement run, wait for a lock, and a stopped process keep the locks it has."""
_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""How libpq notices that a server is gone: after 30 s at most."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_TRIES = 50
_RETRY_S = 0.1


def open_database(storage: Path | None, ledger: str | None) -> PatientStorage:
    """The database of a storage folder or at a PostgreSQL address for an owner, brought to this version's schema.

    From then on what is asked of it waits while it is away. Raises UserError if it cannot be opened or was written by
    a newer version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if ledger is None:
        file = ledger_file(storage)
        file.parent.mkdir(parents=True, exist_ok=True)
        # For its owner's eyes alone, whoever is the first to open it; SQLite says what is wrong with the place.
        with suppress(OSError):
            file.touch(0o600, exist_ok=False)
    with readable(storage, ledger):
        tries = 0
        while True:
            try:
                database = _brought_up_to_date(database_url(storage, ledger))
                break
            except SQLAlchemyError as error:
                # Another process may be making the tables at the same moment.
                racing = isinstance(error, IntegrityError) or "already exists" in str(error)
                tries += 1
                if not racing or tries == _TRIES:
                    raise
                time.sleep(_RETRY_S)
    tell_absence(database.engine, _place(storage, ledger))
    return database


def _brought_up_to_date(url: str) -> PatientStorage:
    database = PatientStorage(url, engine_kwargs=engine_options(url, OWNER_WAIT_S))
    try:
        with database.engine.begin() as connection:
            migrate(connection)
        if database.engine.dialect.name == "sqlite":
            _let_readers_in(database.engine)
    except BaseException:
        close_database(database)
        raise
    return database


def _let_readers_in(engine: Engine) -> None:
    """Have readers hold up no writer (write-ahead log); a file that somebody uses otherwise stays as it is."""
    with engine.connect() as connection, suppress(OperationalError):
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def engine_options(url: str, wait_s: float) -> dict[str, Any]:
    """How SQLAlchemy connects: seconds that SQLite waits for a lock, and limits to all that PostgreSQL may wait for."""
    if url.startswith("sqlite"):
        return {"pool_pre_ping": True, "connect_args": {"timeout": wait_s}}
    limits = " ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in _LIMITS_S.items())
    # What the address says itself counts.
    arguments = {"options": limits, **_CONNECTION}
    return {
        "pool_pre_ping": True,
        "connect_args": {name: value for name, value in arguments.items() if f"{name}=" not in url},
    }


def close_database(database: RDBStorage) -> None:
    """End the calling thread's session and all connections that are not in use."""
    database.remove_session()
    database.engine.dispose()


@contextmanager
def at_hand(storage: Path | None, ledger: str | None) -> Iterator[Engine | None]:
    """The database of a ledger that its owners have made, without Optuna, closed after use; None if it is not here.

    What is asked of it waits while it is away.
    """
    if ledger is None and not (storage and ledger_file(storage).exists()):
        yield None
        return
    url = database_url(storage, ledger)
    engine = create_engine(url, **engine_options(url, OWNER_WAIT_S))
    tell_absence(engine, _place(storage, ledger))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(storage: Path | None, ledger: str | None) -> Iterator[RDBStorage | None]:
    """The database as it is, closed after use; None if there is none yet. Nothing is made or changed.

    Raises UserError if it cannot be read, also if that happens meanwhile, or was written by a newer version.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if ledger is None and not ledger_file(storage).exists():
        yield None
        return
    with readable(storage, ledger):
        url = database_url(storage, ledger)
        options = engine_options(url, _READER_WAIT_S)
        if not _is_made(url, options):
            yield None
            return
        database = RDBStorage(url, engine_kwargs=options, skip_table_creation=True)
        try:
            yield database
        finally:
            close_database(database)


def _is_made(url: str, options: dict[str, Any]) -> bool:
    """Whether a database has all of Optuna's tables. Raises UserError if ours are of a newer version."""
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            refuse_newer(connection)
            # Optuna writes it last.
            made = inspect(connection).has_table("alembic_version")
            return made and connection.exec_driver_sql("SELECT 1 FROM alembic_version").first() is not None
    finally:
        engine.dispose()


def _place(storage: Path | None, ledger: str | None) -> str:
    return str(ledger_file(storage)) if ledger is None else shown(ledger)


@contextmanager
def readable(storage: Path | None, ledger: str | None) -> Iterator[None]:
    """Turn what a damaged, locked or absent database raises into a UserError."""
    place = _place(storage, ledger)
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        original = getattr(cause, "orig", None)
        first_line = str(original or cause).splitlines()[0]
        if ledger is not None:
            remedy = "is the server up, and does the file that PGPASSFILE names hold the password?"
        elif getattr(original, "sqlite_errorcode", 0) & 0xFF in _LOCKED:
            raise UserError(
                f"ledger {place} is locked by another program: try again, or end that program (`fuser {place}` gives "
                f"its number)"
            ) from None
        elif isinstance(original, sqlite3.OperationalError):
            remedy = "see to its disk, and to who may write there"
        else:
            remedy = "restore or move it"
        raise UserError(f"ledger {place} cannot be read ({first_line}): {remedy}") from None
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        raise UserError(f"ledger {place} needs psycopg: pip install 'advseg[postgresql]'") from None
