"""What an Optuna study holds of a sweep, and by which names."""

from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ...trainers.errors import UserError
from ..spec.ledger_address import shown
from ..spec.spec import Spec, spec_from
from ..workers.account import Account
from .rows import Row

SPEC = "advseg.spec"
ORIGIN = "advseg.origin"
ARM = "advseg.arm"
"""Attribute of a trial: the arm of its sweep that it belongs to; none where the sweep has no arms."""
FROM = "advseg.from"
"""Attribute of an inherited trial: its key in the sweep that ran it."""
GATE = "advseg.gate"
"""What the gate has said of the best trials, as JSON."""
REASON = "advseg.reason"
VERSION_0_DIGEST = "advseg.spec_digest"


def load_study(database: RDBStorage, sweep: str, place: str) -> optuna.Study:
    """The study of a sweep. Raises UserError if there is no such sweep."""
    names = optuna.get_all_study_names(database)
    if sweep not in names:
        raise UserError(f"there is no sweep {sweep} in {place}; known sweeps: {', '.join(names) or 'none yet'}")
    return optuna.load_study(study_name=sweep, storage=database)


def place_of(storage: Path | None, ledger: str | None) -> str:
    """Where a ledger lies, in words."""
    return str(storage) if ledger is None else shown(ledger)


def spec_of(study: optuna.Study) -> Spec:
    """The spec that a sweep was last run with. Raises UserError if this version does not understand it."""
    document = study.user_attrs.get(SPEC)
    if document is None:
        raise UserError(
            f"sweep {study.study_name} was begun by an older version of advseg, or broke off while it began: submit "
            f"its spec to go on with it"
        )
    try:
        return spec_from(document)
    except UserError as error:
        raise UserError(
            f"sweep {study.study_name} holds a spec that this version of advseg does not read ({error}): "
            f"go on with the version that wrote it"
        ) from None


def rows_of(study: optuna.Study, accounts: Mapping[int, Account]) -> list[Row]:
    """All trials that were handed out, by number; those of another sweep that the sampler learns from are not."""
    trials = study.get_trials(deepcopy=False)
    return [row_of(t, accounts) for t in trials if t.state is not TrialState.WAITING and FROM not in t.user_attrs]


def row_of(trial: FrozenTrial, accounts: Mapping[int, Account]) -> Row:
    """One trial."""
    return Row(
        number=trial.number,
        arm=trial.user_attrs.get(ARM),
        params=dict(trial.params),
        state=trial.state,
        reason=trial.user_attrs.get(REASON, ""),
        curve=dict(sorted(trial.intermediate_values.items())),
        account=accounts.get(trial.number, Account()),
    )
