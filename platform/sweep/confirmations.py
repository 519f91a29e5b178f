"""A sweep's trainings on fresh seeds, handed out in their order as a ledger hands out trials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import TrialState

from ..ledger.confirmations import Planned
from ..ledger.ledger import Ledger
from ..ledger.rows import Row, ended
from ..workers.account import Account


class Confirmations:
    """Hands out planned trainings in their order, and holds in a ledger what became of them. A `Book`."""

    def __init__(self, ledger: Ledger, planned: Sequence[Planned]) -> None:
        """One of a name that was planned before keeps its spec and what became of it."""
        self.ownership = ledger.ownership
        self._ledger = ledger
        ledger.plan_confirmations(planned)
        names = {training.name for training in planned}
        self._rows = {row.number: row for row in ledger.confirmations() if row.beside in names}
        self._planned = ledger.planned()
        self._numbers = {str(row.trial): row.number for row in self._rows.values()}
        self.is_wanted: Callable[[str], bool] = lambda name: True
        """Asked, once its turn has come, whether a training is to be made at all."""

    def trial_of(self, number: int) -> int | str:
        """What stands for a training in its key: its name."""
        return self._rows[number].trial

    def number_of(self, trial: str) -> int:
        """The number of the training of a name."""
        return self._numbers[trial]

    def unfinished(self) -> list[int]:
        """Those that were handed out and never finished, in their order."""
        return [number for number, row in self._rows.items() if row.state is TrialState.RUNNING]

    def propose(self) -> int | None:
        """Begin the next one that is wanted, and return its number; None if there is none."""
        for number, row in self._rows.items():
            if row.state is TrialState.WAITING and self.is_wanted(str(row.trial)):
                self._hold(replace(row, state=TrialState.RUNNING))
                return number
        return None

    def report(self, number: int, step: int, value: float) -> tuple[Row, bool]:
        """Hold its mean IoU at a step, as `Ledger.report` does; nothing prunes it."""
        row = self.row(number)
        if row.state is TrialState.RUNNING and step not in row.curve:
            self._hold(row := replace(row, curve=dict(sorted({**row.curve, step: value}.items()))))
        return row, False

    def note(self, number: int, account: Account) -> None:
        """Hold what it has cost; also after its end."""
        self._ledger.note(number, account)
        self._rows[number] = replace(self._rows[number], account=account)

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close it, as `Ledger.finish` does a trial."""
        row = self.row(number)
        if not row.state.is_finished():
            state, reason = ended(row, state, reason)
            self._hold(replace(row, state=state, reason=reason))

    def row(self, number: int) -> Row:
        """One of them."""
        return self._rows[number]

    def trainer(self, number: int) -> Mapping[str, Any]:
        """Of its spec, before any of its micro-batches was halved."""
        return self._planned[number].spec["trainer"]

    def rows(self) -> list[Row]:
        """All that are planned, in their order."""
        return list(self._rows.values())

    def _hold(self, row: Row) -> None:
        self._ledger.hold_confirmation(row)
        self._rows[row.number] = row
