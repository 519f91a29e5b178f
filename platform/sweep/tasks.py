"""The tasks of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.keys import ARM, ATTEMPT, BASELINE, HALVINGS, NUMBER, PARAMS
from ..ledger.confirmations import Planned
from ..ledger.rows import BASELINE_NUMBER, Row
from ..spec.dimensions import Value
from ..spec.spec import Spec, arm_document, with_values
from ..storage.store import Store
from ..tracking.identity import trial_identity
from ..workers.lease import Attempt
from ..workers.task import Task


@dataclass(frozen=True, kw_only=True)
class SweepTasks:
    """Makes the tasks of a sweep, for the owner of an epoch; it travels to the processes that train."""

    document: dict[str, Any]
    """The sweep's spec, validated, as JSON."""
    store: Store
    tracking_uri: str
    epoch: int
    sweep_id: str = ""
    dataset: str | None = None
    """Digest of what all trials train on; not asked of those that only say what became of them."""
    planned: Mapping[int, Planned] = field(default_factory=dict)
    """Trainings on fresh seeds, by number."""

    def configured(self, config: Mapping[str, Any]) -> Task:
        """That of an attempt at a training, as Tune is told of it."""
        return self._attempt(config[NUMBER], config[ARM], config[PARAMS], config[ATTEMPT], config[HALVINGS])

    def _attempt(self, number: int, arm: str | None, params: Mapping[str, Value], attempt: int, halvings: int) -> Task:
        """By the training's arm and parameters, and how often its micro-batch was halved."""
        planned = self.planned.get(number) or Planned(name=str(number), spec=arm_document(self.document, arm))
        task = self._task(with_values(planned.spec, params), planned.name, attempt, arm)
        for _ in range(halvings):
            task = task.halved()
        return task

    def of(self, row: Row) -> Task:
        """That of the newest attempt at a training."""
        if row.number == BASELINE_NUMBER:
            return self.baseline()
        return self._attempt(row.number, row.arm, row.params, row.account.attempts, row.account.halvings)

    def baseline(self) -> Task:
        """The supervised baseline's; it counts its attempts itself."""
        supervised = Spec.model_validate(self.document).supervised()
        return self._task(supervised.model_dump(mode="json"), BASELINE, 1)

    def _task(self, document: dict[str, Any], trial: int | str, attempt: int, arm: str | None = None) -> Task:
        return Task(
            spec=document,
            store=self.store,
            tracking_uri=self.tracking_uri,
            identity=trial_identity(document, trial, self.sweep_id, arm),
            attempt=Attempt(epoch=self.epoch, number=attempt),
            dataset=self.dataset,
        )
