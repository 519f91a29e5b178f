"""What is searched in a study: the arms of a sweep, each as if it were alone, or its one space."""

from collections.abc import Container, Mapping

import optuna
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState

from ..spec.spec import Spec
from .rows import Row
from .samplers import distributions_of, sampler_of, suggest
from .study import ARM, FROM


def in_turn(trials: Mapping[str | None, int], budgets: Mapping[str | None, int]) -> str | None:
    """Whose turn it is of those with trials left, one or more: who has had the fewest, of equals the first."""
    left = [name for name, budget in budgets.items() if trials[name] < budget]
    return min(left, key=trials.__getitem__)


class ArmStorage(_CachedStorage):
    """Optuna's cache before a ledger, which shows of a study the trials of one arm alone."""

    def __init__(self, database: RDBStorage, arm: str | None) -> None:
        super().__init__(database)
        self._arm = arm

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Those of the arm, by number."""
        trials = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.user_attrs.get(ARM) == self._arm]


class Search:
    """Draws the points of one arm, or of a sweep without arms, which is None: they depend on its own trials alone."""

    def __init__(self, study: optuna.Study, database: RDBStorage, arm: str | None, spec: Spec) -> None:
        """`spec` is that of the arm alone."""
        assert spec.sweep
        self.arm = arm
        self.study = optuna.load_study(
            study_name=study.study_name,
            storage=ArmStorage(database, arm),
            sampler=study.sampler,
            pruner=study.pruner,
        )
        self._sweep = spec.sweep
        self._seed = spec.trainer.seed
        self._space = distributions_of(spec.sweep.space)
        trials = self.study.get_trials(deepcopy=False)
        self._inherited = sum(FROM in trial.user_attrs for trial in trials)
        self._begun = [trial.number for trial in trials if trial.state is not TrialState.WAITING]

    @property
    def trials(self) -> int:
        """How many were handed out."""
        return len(self._begun) - self._inherited

    @property
    def budget(self) -> int:
        """How many there are to be; no more than there were where a grid has no more points."""
        return self._sweep.budget if self._take_sampler_for(len(self._begun)) else self.trials

    def ask(self) -> optuna.Trial:
        """Open a new trial, with its point."""
        place = self.trials
        is_first = place < len(self._sweep.first)
        if (is_first or self.arm) and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            # Its arm is entered with it: a crash leaves no trial of none.
            point = dict(self._sweep.first[place]) if is_first else {}
            self.study.enqueue_trial(point, user_attrs={ARM: self.arm} if self.arm else None)
        self._take_sampler_for(len(self._begun))
        trial = self.study.ask(self._space)
        self._begun.append(trial.number)
        return trial

    def draw_what_is_missing(self, row: Row, trial_id: int) -> None:
        """Complete the point of a trial that a crash cut off while it was drawn, value after value."""
        if row.params.keys() != self._space.keys():
            self._take_sampler_for(self._begun.index(row.number))
            trial = optuna.Trial(self.study, trial_id)
            for key, distribution in self._space.items():
                suggest(trial, key, distribution)

    def _take_sampler_for(self, place: int) -> bool:
        """Put the sampler of a trial, by its place among those of the arm, in place; False if it has no more points."""
        base = self._inherited + len(self._sweep.first)
        if place < base:
            return True  # A first point, which is known.
        sampler = sampler_of(self._sweep, self._seed, place, place - base)
        if sampler is not None:
            self.study.sampler = sampler
        return sampler is not None
