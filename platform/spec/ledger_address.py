"""Where a ledger lies: a SQLite file on one machine, PostgreSQL for a cluster."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_PASSWORD = re.compile(r"[^/]*//[^:/@]*:[^@]*@")
"""As SQLAlchemy finds one, which may hold slashes and question marks."""


def check_address(url: str) -> str:
    """A PostgreSQL address that holds no secret. Raises ValueError for any other."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises for what is no port
    except ValueError:
        raise ValueError(f"must be postgresql://user@host/database, but is {shown(url)}") from None
    if parts.scheme not in ("postgresql", "postgresql+psycopg") or not parts.path.strip("/"):
        raise ValueError(f"must be postgresql://user@host/database, but is {shown(url)}")
    if _PASSWORD.match(url) or "password" in parts.query:
        raise ValueError(
            f"{shown(url)} holds a password, which a spec must not: remove it, and put it into the file that "
            f"PGPASSFILE names on the nodes of the cluster"
        )
    return url


LedgerUrl = Annotated[str, AfterValidator(check_address)]
"""Address of a PostgreSQL database, without a password."""


def ledger_file(storage: Path) -> Path:
    """Where the SQLite database lies."""
    return storage / "ledger.db"


def database_url(storage: Path, ledger: str | None) -> str:
    """The database as SQLAlchemy names it."""
    if ledger is None:
        return f"sqlite:///{ledger_file(storage)}"
    return re.sub(r"^postgresql(\+psycopg)?:", "postgresql+psycopg:", ledger)


def shown(url: str) -> str:
    """An address without what may be a secret."""
    return re.sub(r"//.*@", "//...@", url).partition("?")[0]
