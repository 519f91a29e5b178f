"""What holds the trainings that Tune runs: a ledger its trials, `Confirmations` those on fresh seeds."""

from collections.abc import Mapping
from typing import Any, Protocol

from optuna.trial import TrialState

from ..ledger.ownership import Ownership
from ..ledger.rows import Row
from ..workers.account import Account


class Book(Protocol):
    """Hands out trainings by number and holds what became of them. Every write is refused once another process owns
    the sweep."""

    ownership: Ownership

    def trial_of(self, number: int) -> int | str:
        """What stands for a training in its key."""
        ...

    def number_of(self, trial: str) -> int:
        """The number of the training for which that stands."""
        ...

    def unfinished(self) -> list[int]:
        """Those that were handed out and never finished, oldest first."""
        ...

    def propose(self) -> int | None:
        """Begin a new one; None if there are no more."""
        ...

    def report(self, number: int, step: int, value: float) -> tuple[Row, bool]:
        """Hold its mean IoU at a step; the training as it is then, and whether a pruner would stop it."""
        ...

    def note(self, number: int, account: Account) -> None:
        """Hold what it has cost."""
        ...

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close it."""
        ...

    def row(self, number: int) -> Row:
        """One of them."""
        ...

    def trainer(self, number: int) -> Mapping[str, Any]:
        """The keys of its spec's trainer that say how large batches are, before any micro-batch was halved."""
        ...

    def rows(self) -> list[Row]:
        """All that were handed out."""
        ...
