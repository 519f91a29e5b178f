"""The tasks of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..base.keys import BASELINE
from ..ledger.rows import Row
from ..spec.spec import Spec
from ..spec.sweep import Value
from ..tracking.identity import trial_identity
from ..workers.lease import Attempt
from ..workers.task import Task


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Makes the tasks of a sweep, for the owner of an epoch; it travels to the processes that train."""

    spec: Spec
    storage: Path
    tracking_uri: str
    epoch: int

    def baseline(self) -> Task:
        """The supervised baseline's."""
        return self._task(self.spec.supervised(), BASELINE, 1)

    def __call__(self, number: int, params: Mapping[str, Value], attempt: int, halvings: int) -> Task:
        task = self._task(self.spec.with_values(params), number, attempt)
        for _ in range(halvings):
            task = task.halved()
        return task

    def of(self, row: Row) -> Task:
        """That of a trial's newest attempt."""
        return self(row.number, row.params, row.account.attempts, row.account.halvings)

    def _task(self, spec: Spec, trial: int | str, attempt: int) -> Task:
        document = spec.model_dump(mode="json")
        return Task(
            spec=document,
            storage=self.storage,
            tracking_uri=self.tracking_uri,
            identity=trial_identity(document, trial),
            attempt=Attempt(epoch=self.epoch, number=attempt),
        )
