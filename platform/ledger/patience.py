"""Patience with a ledger that is away for some minutes: locked by another program, restarted, or out of disk.

Whoever opens a ledger as its owner calls `tell_absence`; from then on every call to the database that finds it away
raises `LedgerAwayError`, which also passes through Optuna, and what may be done twice is done again until it answers.
"""

import functools
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

from ...trainers.errors import UserError

log = logging.getLogger(__name__)

PATIENCE_S = 900.0
"""As long as with MLflow."""
_RETRY_S = 2.0
_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}
_POSTGRESQL = {"25006", "25P03"}
"""A server that has just become a replica, and one that ended a transaction of a process that had been stopped."""

P = ParamSpec("P")
T = TypeVar("T")


class LedgerAwayError(UserError):
    """A ledger that does not answer for now."""


def tell_absence(engine: Engine, place: str) -> None:
    """Have all that is asked of a database raise LedgerAwayError while it is away."""

    @event.listens_for(engine, "handle_error")
    def name(context: ExceptionContext) -> None:
        if context.is_pre_ping:
            return  # SQLAlchemy connects anew by itself.
        if context.is_disconnect or is_away(context.original_exception, context.sqlalchemy_exception):
            cause = str(context.original_exception).splitlines()[0]
            raise LedgerAwayError(
                f"ledger {place} does not answer ({cause}): see to its server, its disk, or whoever locks it"
            ) from context.original_exception


def is_away(cause: BaseException, error: BaseException | None) -> bool:
    """Whether a database is away for now; what it refuses it will refuse again. `error` is SQLAlchemy's, of `cause`."""
    if isinstance(cause, sqlite3.Error):
        # The lower byte is the kind, the others say more.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE
    return isinstance(error, OperationalError) or getattr(cause, "sqlstate", None) in _POSTGRESQL


def patiently(work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
    """Do what may be done twice, again while the ledger is away; raises its error after `PATIENCE_S` seconds.

    The work may have been done though its answer was lost. Where that matters, `again` is done from then on.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return work()
        except LedgerAwayError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("trying again: %s", error)
            time.sleep(_RETRY_S)
        work = again or work


def repeated(work: Callable[P, T]) -> Callable[P, T]:
    """A function that may be called twice with one result, done patiently."""

    @functools.wraps(work)
    def repeat(*args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: work(*args, **kwargs))

    return repeat
