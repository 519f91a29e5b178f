"""A sweep's trainings on fresh seeds, in a table of their own: they are no trials of a study."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import Engine, RowMapping, select

from ..workers.account import Account
from .ownership import require_epoch
from .patience import repeated
from .rows import BASELINE_NUMBER, Row
from .schema import CONFIRMATIONS


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One such training."""

    name: str
    """What stands in its key for the number of a trial."""
    spec: dict[str, Any]
    """What it trains, as JSON."""


@repeated
def read_confirmations(engine: Engine, sweep_id: str, accounts: Mapping[int, Account]) -> list[Row]:
    """All that were planned, in that order."""
    with engine.connect() as connection:
        found = connection.execute(select(CONFIRMATIONS).where(CONFIRMATIONS.c.sweep_id == sweep_id)).mappings().all()
    return confirmations_from(found, accounts)


def confirmations_from(found: Iterable[RowMapping], accounts: Mapping[int, Account]) -> list[Row]:
    """The trainings that rows of the table tell of, in the order in which they were planned."""
    return [
        Row(
            number=row["number"],
            params={"trainer.seed": json.loads(row["spec"])["trainer"]["seed"]},
            state=TrialState[row["state"]],
            reason=row["reason"],
            curve={int(step): value for step, value in json.loads(row["curve"]).items()},
            account=accounts.get(row["number"], Account()),
            beside=row["name"],
        )
        for row in sorted(found, key=lambda row: -row["number"])
    ]


@repeated
def read_planned(engine: Engine, sweep_id: str) -> dict[int, Planned]:
    """What they are, by number."""
    with engine.connect() as connection:
        found = connection.execute(select(CONFIRMATIONS).where(CONFIRMATIONS.c.sweep_id == sweep_id)).mappings().all()
    return {row["number"]: Planned(name=row["name"], spec=json.loads(row["spec"])) for row in found}


@repeated
def plan_confirmations(engine: Engine, sweep_id: str, epoch: int, planned: Iterable[Planned]) -> None:
    """Enter trainings; one whose name is there stays as it is.

    Raises FencedError if the sweep has an owner of a newer epoch.
    """
    with engine.begin() as connection:
        columns = select(CONFIRMATIONS.c.name, CONFIRMATIONS.c.number).where(CONFIRMATIONS.c.sweep_id == sweep_id)
        known = {row.name: row.number for row in connection.execute(columns)}
        number = min(known.values(), default=BASELINE_NUMBER)
        for training in planned:
            if training.name not in known:
                number -= 1
                spec = json.dumps(training.spec)
                values = {"name": training.name, "spec": spec, "state": "WAITING", "reason": "", "curve": "{}"}
                connection.execute(CONFIRMATIONS.insert().values(sweep_id=sweep_id, number=number, **values))
        require_epoch(connection, sweep_id, epoch)


@repeated
def write_confirmation(engine: Engine, sweep_id: str, epoch: int, row: Row) -> None:
    """Hold what became of one, apart from its account. Raises FencedError as `plan_confirmations` does."""
    values = {"state": row.state.name, "reason": row.reason, "curve": json.dumps(row.curve)}
    mine = (CONFIRMATIONS.c.sweep_id == sweep_id, CONFIRMATIONS.c.number == row.number)
    with engine.begin() as connection:
        connection.execute(CONFIRMATIONS.update().where(*mine).values(**values))
        require_epoch(connection, sweep_id, epoch)
