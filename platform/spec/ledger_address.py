"""Where a ledger lies: a SQLite file on one machine, PostgreSQL for a cluster."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from ...trainers.errors import brief
from ..base.addresses import holds_secret, shown

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


LedgerUrl = Annotated[str, AfterValidator(check_address)]
"""Address of a PostgreSQL database, without a password."""


def ledger_file(storage: Path | None) -> Path:
    """Where the SQLite database lies. Storage that is no folder has its ledger elsewhere."""
    assert storage is not None
    return storage / "ledger.db"


def database_url(storage: Path | None, ledger: str | None) -> str:
    """The database as SQLAlchemy names it."""
    if ledger is None:
        return f"sqlite:///{ledger_file(storage)}"
    return _SCHEME.sub("postgresql+psycopg", ledger, count=1)
