"""Failed trials are handed out again: Optuna takes the end of a trial for final, so this goes past it."""

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Engine, delete, update

from .ownership import require_epoch
from .study import REASON

_TRIALS = models.TrialModel.__table__
_VALUES = models.TrialIntermediateValueModel.__table__
_ATTRIBUTES = models.TrialUserAttributeModel.__table__
_FINITE = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE


def reopen_trial(engine: Engine, sweep_id: str, epoch: int, trial_id: int) -> None:
    """Make a failed trial, which stays the same row, one that was handed out and never finished.

    Of what it reported, finite values stay. Raises FencedError if the sweep has an owner of a newer epoch.
    """
    failed = (_TRIALS.c.trial_id == trial_id, _TRIALS.c.state == TrialState.FAIL)
    broken = (_VALUES.c.trial_id == trial_id, _VALUES.c.intermediate_value_type != _FINITE)
    reason = (_ATTRIBUTES.c.trial_id == trial_id, _ATTRIBUTES.c.key == REASON)
    with engine.begin() as connection:
        opened = update(_TRIALS).where(*failed).values(state=TrialState.RUNNING, datetime_complete=None)
        if connection.execute(opened).rowcount:
            connection.execute(delete(_VALUES).where(*broken))
            connection.execute(delete(_ATTRIBUTES).where(*reason))
        require_epoch(connection, sweep_id, epoch)
