"""One owner for each sweep, by an epoch in the ledger: whoever takes a sweep over raises it, and fences out all before.

An owner's heartbeat is a counter that others time on their own clocks, so it does no harm if clocks jump.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, Row, RowMapping, event, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from ...trainers.errors import FencedError, UserError
from ..base.keys import JOB
from ..base.processes import ProcessIdentity, is_alive, pid_space, this_process
from .patience import LedgerAwayError, patiently, repeated
from .schema import OWNERS

log = logging.getLogger(__name__)

BEAT_S = 2.0
"""Seconds between two heartbeats of an owner."""
PATIENCE_S = 20.0
"""Seconds of silence after which an owner counts as gone."""
_JOIN_S = 5.0
"""Seconds that giving a sweep up waits for a heartbeat that is under way."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process that runs a sweep."""

    job: str
    """Id of its job on the cluster; empty outside of one."""
    host: str
    pid: int
    created: float
    """Its start, as `ProcessIdentity` has it."""
    space: str = ""
    """Among whose pids, as `ProcessIdentity` has it."""

    @classmethod
    def here(cls) -> Self:
        """This process."""
        me = this_process()
        return cls(
            job=os.environ.get(JOB, ""), host=socket.gethostname(), pid=me.pid, created=me.created, space=me.space
        )

    def is_gone(self) -> bool:
        """Whether it is known to have ended; of a process on another machine or in another container nothing is."""
        if self.space != pid_space():
            return False
        return not is_alive(ProcessIdentity(pid=self.pid, created=self.created, space=self.space))

    def may_be_gone(self) -> bool:
        """Whether it has ended, or may have: before this machine went down, or in a container with its host's name."""
        return self.is_gone() or (self.host == socket.gethostname() and self.space != pid_space())

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}"


class Ownership:
    """This process's hold on a sweep, from `claim` until `release`."""

    def __init__(self, engine: Engine, sweep_id: str, epoch: int, *, beat_s: float = BEAT_S) -> None:
        self._engine = engine
        self._sweep_id = sweep_id
        self._beat_s = beat_s
        self.epoch = epoch
        self._lost = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="owner", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise FencedError if another process has taken the sweep over."""
        if self._lost.is_set() or _read(self._engine, self._sweep_id).epoch != self.epoch:
            raise fenced(self.epoch)

    def release(self) -> None:
        """Give the sweep up, so that the next owner need not wait."""
        self._released.set()
        self._thread.join(_JOIN_S)
        try:
            with self._engine.begin() as connection:
                connection.execute(self._mine().values(owner=None))
        except LedgerAwayError as error:
            log.warning("the sweep is not given up, so the next owner waits for %g s: %s", PATIENCE_S, error)

    def _beat_on(self) -> None:
        while not self._released.wait(self._beat_s):
            try:
                with self._engine.begin() as connection:
                    beaten = connection.execute(self._mine().values(beats=OWNERS.c.beats + 1)).rowcount
            except (SQLAlchemyError, LedgerAwayError) as error:
                log.warning("the ledger did not take a heartbeat, trying again: %s", str(error).splitlines()[0])
                continue
            if not beaten:
                self._lost.set()
                return

    def _mine(self) -> Any:
        return update(OWNERS).where(OWNERS.c.sweep_id == self._sweep_id, OWNERS.c.epoch == self.epoch)


def claim(
    engine: Engine,
    sweep_id: str,
    sweep: str,
    owner: Owner,
    *,
    above: int = 0,
    patience_s: float = PATIENCE_S,
    poll_s: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Become the owner of a sweep and return the new epoch, which is above all before, and above one seen elsewhere.

    Waits up to `patience_s` seconds for a heartbeat of a former owner whose end is not known.
    Raises UserError that names the owner if there is one.
    """
    _enter(engine, sweep_id)
    seen, since = _read(engine, sweep_id), clock()
    while seen.owner is not None:
        holder = Owner(**json.loads(seen.owner))
        if holder.is_gone() or clock() - since >= patience_s:
            break
        time.sleep(poll_s)
        now = _read(engine, sweep_id)
        if now.owner is not None and (now.epoch, now.beats) != (seen.epoch, seen.beats):
            raise UserError(_owned(sweep, Owner(**json.loads(now.owner))))
        seen = now
    epoch = max(seen.epoch, above) + 1
    mine = {"epoch": epoch, "owner": json.dumps(asdict(owner))}

    def take() -> bool:
        with engine.begin() as connection:
            before = update(OWNERS).where(OWNERS.c.sweep_id == sweep_id, OWNERS.c.epoch == seen.epoch)
            return connection.execute(before.values(**mine, beats=0)).rowcount > 0

    def find_or_take() -> bool:
        now = _read(engine, sweep_id)
        return {"epoch": now.epoch, "owner": now.owner} == mine or take()

    if not patiently(take, find_or_take):
        raise UserError(f"sweep {sweep} was taken over by another process at this very moment: follow that one")
    return epoch


def owner_from(rows: Sequence[RowMapping]) -> Owner | None:
    """Who owns a sweep, alive or not, as its row says, if it has one; None if nobody does."""
    return Owner(**json.loads(rows[0]["owner"])) if rows and rows[0]["owner"] else None


def fence(database: RDBStorage, sweep_id: str, epoch: int) -> None:
    """Refuse every commit of Optuna's to a sweep that has a newer epoch, with FencedError."""

    # What is to be written is sent first: only then does the transaction hold the lock under which the epoch stands
    # still. Whether the session looks dirty says nothing, for Optuna writes attributes past it.
    @event.listens_for(database.scoped_session, "before_commit")
    def check(session: Session) -> None:
        session.flush()
        require_epoch(session, sweep_id, epoch)


def require_epoch(transaction: Connection | Session, sweep_id: str, epoch: int) -> None:
    """Raise FencedError if a sweep has another epoch; until the transaction's end it then keeps this one.

    To be called after what the transaction writes, whose lock holds the epoch still on SQLite.
    """
    current = select(OWNERS.c.epoch).where(OWNERS.c.sweep_id == sweep_id).with_for_update(read=True)
    if transaction.execute(current).scalar() != epoch:
        raise fenced(epoch)


def fenced(epoch: int) -> FencedError:
    """What a stale owner is told."""
    return FencedError(f"another process has taken this sweep over since epoch {epoch}: nothing more is written")


def _owned(sweep: str, holder: Owner) -> str:
    stop = f"`advseg job stop {holder.job}`" if holder.job else "ending that process"
    return f"sweep {sweep} is owned by {holder}, which is alive: follow it, or stop it by {stop}"


@repeated
def _enter(engine: Engine, sweep_id: str) -> None:
    """See to it that a sweep has a row."""
    try:
        with engine.begin() as connection:
            connection.execute(OWNERS.insert().values(sweep_id=sweep_id, epoch=0, owner=None, beats=0))
    except IntegrityError:
        pass  # It has had an owner before.


@repeated
def _read(engine: Engine, sweep_id: str) -> Row[Any]:
    with engine.connect() as connection:
        return connection.execute(select(OWNERS).where(OWNERS.c.sweep_id == sweep_id)).one()
