"""The supervised baseline of a sweep, which is trained beside the study and held in the ledger."""

from dataclasses import replace

from optuna.trial import TrialState

from ..base.events import TrialUpdate, emit
from ..ledger.ledger import Ledger
from ..ledger.rows import Row
from ..spec.resources import Resources
from ..spec.retry import Retry
from ..workers.account import Account
from ..workers.followed import follow_on_workers
from ..workers.task import Task
from .attempts import update_of

_STATES = {state.name: state for state in TrialState} | {"STOPPED": TrialState.RUNNING}


def train_baseline(ledger: Ledger, task: Task, resources: Resources, retry: Retry) -> Row:
    """The baseline, trained unless it already was. Raises what `follow_on_workers` raises."""
    row = ledger.baseline()
    if row.state is TrialState.COMPLETE:
        emit(update_of(row, ledger.spec.name, ledger.spec.trainer.steps))
        return row

    def hold(update: TrialUpdate, account: Account) -> None:
        ledger.hold_baseline(heard(ledger.baseline(), update, account))
        emit(update)

    follow_on_workers(task, resources, retry, row.account, hold)
    return ledger.baseline()


def heard(row: Row, update: TrialUpdate, account: Account) -> Row:
    """The baseline's row after what was told of it; one that was stopped is not over."""
    curve = row.curve if update.miou is None else {**row.curve, update.step: update.miou}
    return replace(row, state=_STATES[update.state], reason=update.reason, curve=curve, account=account)
