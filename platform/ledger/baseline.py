"""The supervised baselines of sweeps, in a table of their own: they are no trials of a study."""

import json
from collections.abc import Mapping

from optuna.trial import TrialState
from sqlalchemy import Engine, RowMapping, select

from ..base.keys import BASELINE
from ..workers.account import Account
from .ownership import require_epoch
from .patience import repeated
from .rows import BASELINE_NUMBER, Row
from .schema import BASELINES


@repeated
def read_baseline(engine: Engine, sweep_id: str, accounts: Mapping[int, Account]) -> Row:
    """A sweep's baseline; one that waits if it has not begun."""
    with engine.connect() as connection:
        found = connection.execute(select(BASELINES).where(BASELINES.c.sweep_id == sweep_id)).mappings().first()
    return baseline_from(found, accounts)


def baseline_from(found: RowMapping | None, accounts: Mapping[int, Account]) -> Row:
    """The baseline that a row of the table tells of."""
    curve = json.loads(found["curve"]) if found else {}
    return Row(
        number=BASELINE_NUMBER,
        params={},
        state=TrialState[found["state"]] if found else TrialState.WAITING,
        reason=found["reason"] if found else "",
        curve={int(step): value for step, value in curve.items()},
        account=accounts.get(BASELINE_NUMBER, Account()),
        beside=BASELINE,
    )


@repeated
def write_baseline(engine: Engine, sweep_id: str, epoch: int, row: Row) -> None:
    """Hold a baseline, apart from its account. Raises FencedError if the sweep has an owner of a newer epoch."""
    values = {"state": row.state.name, "reason": row.reason, "curve": json.dumps(row.curve)}
    with engine.begin() as connection:
        mine = BASELINES.c.sweep_id == sweep_id
        if not connection.execute(BASELINES.update().where(mine).values(**values)).rowcount:
            connection.execute(BASELINES.insert().values(sweep_id=sweep_id, **values))
        require_epoch(connection, sweep_id, epoch)
