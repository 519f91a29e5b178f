"""The database of the ledgers: Optuna's tables, and beside them ours of who owns which sweep and what trials cost."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Column, Connection, Float, Integer, MetaData, String, Table, func, inspect, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from ...trainers.errors import UserError
from ..spec.ledger_address import database_url, ledger_file, shown

_METADATA = MetaData()
SCHEMA = Table("advseg_schema", _METADATA, Column("version", Integer, nullable=False))
OWNERS = Table(
    "advseg_owners",
    _METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("owner", String),  # JSON; nobody owns the sweep if it is null
    Column("beats", Integer, nullable=False),
)
ACCOUNTS = Table(
    "advseg_accounts",
    _METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("halvings", Integer, nullable=False),
    Column("counted", Integer, nullable=False),
    Column("device_seconds", Float, nullable=False),
    Column("lost_steps", Integer, nullable=False),
    Column("run_id", String),
    Column("checkpoint", String),
)

BASELINES = Table(
    "advseg_baselines",
    _METADATA,
    Column("study_id", Integer, primary_key=True),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("curve", String, nullable=False),  # JSON: mean IoU in percent by step
)


def _to_version_1(connection: Connection) -> None:
    """Add owners and accounts. Sweeps of version 0, which held a digest, get their spec when they are next opened."""
    OWNERS.create(connection, checkfirst=True)
    ACCOUNTS.create(connection, checkfirst=True)


def _to_version_2(connection: Connection) -> None:
    """Add baselines; what is known of those of before stays in their checkpoints."""
    BASELINES.create(connection, checkfirst=True)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_to_version_1, _to_version_2)
"""What brings a ledger from each version to the next; also one that a crash left in between."""

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


def migrate(connection: Connection) -> None:
    """Bring our own tables to the newest version. Raises UserError if they are newer still."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise UserError(
            f"the ledger has schema version {version}, but this advseg knows {len(MIGRATIONS)} at most: "
            f"install the version of advseg that wrote it"
        )
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        SCHEMA.create(connection, checkfirst=True)
        connection.execute(SCHEMA.delete())
        connection.execute(SCHEMA.insert().values(version=len(MIGRATIONS)))


def schema_version(connection: Connection) -> int:
    """The version of our own tables, 0 before there were any."""
    if not inspect(connection).has_table(SCHEMA.name):
        return 0
    return connection.execute(select(func.max(SCHEMA.c.version))).scalar() or 0


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
