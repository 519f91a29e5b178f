"""Where a ledger lies: a SQLite file on one machine, PostgreSQL for a cluster."""

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from ...trainers.errors import UserError, brief
from ..base.addresses import holds_secret, shown

LEDGER = "ADVSEG_LEDGER"
"""Environment variable with the address of a team's ledger."""
ELSEWHERE = f"a team's ledger is named by --ledger or {LEDGER}"
"""For who finds nothing in the ledger of a folder."""
_SCHEME = re.compile(r"postgresql(\+psycopg)?(?=://)", re.IGNORECASE)


def check_address(url: str) -> str:
    """A PostgreSQL address that holds no secret. Raises ValueError, which echoes none, for any other."""
    if holds_secret(url):
        raise ValueError(
            f"{shown(url)} holds a password, which a spec must not: remove it, and put it into the file that "
            f"PGPASSFILE names on the nodes of the cluster"
        )
    if not _is_postgresql(url):
        raise ValueError(f"must be postgresql://user@host/database, but is {brief(shown(url))}")
    return url


def _is_postgresql(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises for what is no port
    except ValueError:
        return False
    # `urlsplit` overlooks what the database's driver might not.
    is_clean = not re.search(r"[\s\x00-\x1f]", url)
    return is_clean and _SCHEME.match(url) is not None and parts.path.strip("/") != ""


def ledger_of(named: str | None) -> str | None:
    """Which ledger is meant: the one that a spec or an option names, else that of `ADVSEG_LEDGER`; None is SQLite.

    Raises UserError if the variable holds no address of a ledger.
    """
    if named is not None or not (address := os.environ.get(LEDGER)):
        return named
    try:
        return check_address(address)
    except ValueError as error:
        raise UserError(f"{LEDGER} {error}") from None


LedgerUrl = Annotated[str, AfterValidator(check_address)]
"""Address of a PostgreSQL database, without a password."""


def ledger_file(storage: Path | None) -> Path:
    """Where the SQLite database lies. Raises UserError for storage that is no folder, whose ledger is elsewhere."""
    if storage is None:
        raise UserError(
            f"a storage in S3 has its ledger elsewhere: name that by --ledger postgresql://user@host/database, or set "
            f"{LEDGER} to it"
        )
    return storage / "ledger.db"


def database_url(storage: Path | None, ledger: str | None) -> str:
    """The database as SQLAlchemy names it."""
    if ledger is None:
        return f"sqlite:///{ledger_file(storage)}"
    return _SCHEME.sub("postgresql+psycopg", ledger, count=1)
