"""Which checkpoints of a sweep nobody needs any more."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from ..base.keys import key_of
from ..ledger.rows import Row, best_first, of_arm
from ..spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Surplus:
    """A training that needs its checkpoints no more."""

    row: Row
    key: str
    why: str


def surplus_of(
    spec: Spec, trials: Sequence[Row], confirmations: Sequence[Row], registered: Collection[str]
) -> list[Surplus]:
    """The trainings of a sweep whose checkpoints go, as its spec and its ledger say.

    Those stay that a registered version came from, by their keys, and of whatever is not finished. So do those of the
    supervised baseline, which is trained again if it failed.
    """
    return [
        Surplus(row=row, key=key, why=why)
        for row, why in (*_of_trials(spec, trials), *_of_confirmations(confirmations))
        if (key := key_of(spec.name, row.trial)) not in registered
    ]


def _of_trials(spec: Spec, rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    assert spec.sweep
    best, confirm = spec.keep.best, spec.sweep.confirm
    if best is not None and confirm is not None:
        best = max(best, confirm.candidates)
    complete = [row for row in best_first(rows) if row.state is TrialState.COMPLETE]
    chosen = {row.number for arm in spec.arms for row in of_arm(complete, arm)[:best]}
    for row in rows:
        match row.state:
            case TrialState.PRUNED:
                yield row, "pruned"
            case TrialState.FAIL:
                yield row, "failed"
            case TrialState.COMPLETE if row.number not in chosen:
                yield row, f"not among the best {best}"


def _of_confirmations(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    # That is in the ledger, and nobody asks for more of them.
    return ((row, "only its figure is needed") for row in rows if row.state.is_finished())
