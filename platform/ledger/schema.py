"""Our own tables, which lie beside Optuna's: owners of sweeps, what trials cost, what became of all else."""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    func,
    inspect,
    select,
    text,
)

from ...trainers.errors import UserError
from .sweep_id import ensure_sweep_id

_METADATA = MetaData()
SCHEMA = Table("advseg_schema", _METADATA, Column("version", Integer, nullable=False))
OWNERS = Table(
    "advseg_owners",
    _METADATA,
    Column("sweep_id", String, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("owner", String),  # JSON; nobody owns the sweep if it is null
    Column("beats", Integer, nullable=False),
)
ACCOUNTS = Table(
    "advseg_accounts",
    _METADATA,
    Column("sweep_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("halvings", Integer, nullable=False),
    Column("counted", Integer, nullable=False),
    Column("device_seconds", Float, nullable=False),
    Column("lost_steps", Integer, nullable=False),
    Column("run_id", String),
    Column("checkpoint", String),
    Column("checksum", String),
    Column("images_per_second", Float),
)

BASELINES = Table(
    "advseg_baselines",
    _METADATA,
    Column("sweep_id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("curve", String, nullable=False),  # JSON: mean IoU in percent by step
)
CONFIRMATIONS = Table(
    "advseg_confirmations",
    _METADATA,
    Column("sweep_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("spec", String, nullable=False),  # JSON
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("curve", String, nullable=False),  # JSON: mean IoU in percent by step
)
JOBS = Table(
    "advseg_jobs",
    _METADATA,
    # The key decides which of several submitters has a number.
    Column("name", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", String, nullable=False),
    Column("cluster", String, nullable=False),
    Column("submitted_by", String, nullable=False),
    Column("submitted_at", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("ended_at", Float),
)


_LOCK = 0x616476736567
"""What PostgreSQL is told to lock while tables are changed."""


def _to_version_1(connection: Connection) -> None:
    """Add owners and accounts. Sweeps of version 0, which held a digest, get their spec when they are next opened."""
    OWNERS.create(connection, checkfirst=True)
    ACCOUNTS.create(connection, checkfirst=True)


def _to_version_2(connection: Connection) -> None:
    """Add baselines; what is known of those of before stays in their checkpoints."""
    BASELINES.create(connection, checkfirst=True)


def _to_version_3(connection: Connection) -> None:
    """Key all rows by the ids of sweeps, no more by the numbers of studies; those of deleted studies are dropped."""
    studies = connection.execute(text("SELECT study_id FROM studies")).scalars().all()
    ids = {study: ensure_sweep_id(connection, study) for study in studies}
    for table in (OWNERS, ACCOUNTS, BASELINES):
        if "study_id" not in {column["name"] for column in inspect(connection).get_columns(table.name)}:
            continue  # It has just been made, as it is now.
        rows = connection.execute(text(f"SELECT * FROM {table.name}")).mappings().all()
        table.drop(connection)
        table.create(connection)
        for row in rows:
            if row["study_id"] in ids:
                held = {name: value for name, value in row.items() if name != "study_id"}
                connection.execute(table.insert().values(sweep_id=ids[row["study_id"]], **held))


def _to_version_4(connection: Connection) -> None:
    """Add jobs; those of before only their clusters know."""
    JOBS.create(connection, checkfirst=True)


def _to_version_5(connection: Connection) -> None:
    """Add confirmations."""
    CONFIRMATIONS.create(connection, checkfirst=True)


def _to_version_6(connection: Connection) -> None:
    """Add how fast trainings go; of those of before nothing is known."""
    if "images_per_second" not in {column["name"] for column in inspect(connection).get_columns(ACCOUNTS.name)}:
        connection.execute(text(f"ALTER TABLE {ACCOUNTS.name} ADD COLUMN images_per_second FLOAT"))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _to_version_1,
    _to_version_2,
    _to_version_3,
    _to_version_4,
    _to_version_5,
    _to_version_6,
)
"""What brings a ledger from each version to the next; also one that a crash left in between."""


def migrate(connection: Connection) -> None:
    """Bring our own tables to the newest version. Raises UserError if they are newer still."""
    refuse_newer(connection)
    if schema_version(connection) == len(MIGRATIONS):
        return
    _wait_for_others(connection)
    version = schema_version(connection)
    for step in MIGRATIONS[version:]:
        step(connection)
    if version < len(MIGRATIONS):
        SCHEMA.create(connection, checkfirst=True)
        connection.execute(SCHEMA.delete())
        connection.execute(SCHEMA.insert().values(version=len(MIGRATIONS)))


def refuse_newer(connection: Connection) -> None:
    """Raise UserError if our own tables are of a version that this program does not know."""
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise UserError(
            f"the ledger has schema version {version}, but this advseg knows {len(MIGRATIONS)} at most: "
            f"install the version of advseg that wrote it"
        )


def schema_version(connection: Connection) -> int:
    """The version of our own tables, 0 before there were any."""
    if not inspect(connection).has_table(SCHEMA.name):
        return 0
    return connection.execute(select(func.max(SCHEMA.c.version))).scalar() or 0


def _wait_for_others(connection: Connection) -> None:
    """Let one process at a time change the tables, in one transaction: a crash leaves them as they were."""
    if connection.dialect.name == "sqlite":
        # By itself sqlite3 begins none before tables are made.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


class Held:
    """What our tables hold of sweeps, for whoever only reads: of an older version as it is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        tables = {table.name for table in (OWNERS, ACCOUNTS, BASELINES, CONFIRMATIONS)}
        self._columns = {
            name: {column["name"] for column in inspect(connection).get_columns(name)}
            for name in tables & set(inspect(connection).get_table_names())
        }

    def of(self, table: Table, study_id: int, sweep_id: str | None) -> Sequence[RowMapping]:
        """The rows of a sweep in a table; none if there is no such table yet."""
        columns = self._columns.get(table.name, set())
        if not columns:
            return []
        key = ("sweep_id", sweep_id) if "sweep_id" in columns else ("study_id", study_id)
        query = text(f"SELECT * FROM {table.name} WHERE {key[0]} = :key")
        return self._connection.execute(query, {"key": key[1]}).mappings().all()
