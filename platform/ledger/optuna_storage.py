"""Optuna's storage for an owner, who waits for a ledger that is away. Each trial is made and ended once."""

from collections.abc import Sequence
from typing import Any

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import column, func, select, table

from .patience import patiently, repeated

_STUDIES = table("studies", column("study_id"))
_TRIALS = table("trials", column("trial_id"), column("study_id"))


class PatientStorage(RDBStorage):
    """Optuna's storage, which does again what failed because the database was away.

    Of most calls a second one changes nothing. Of the two that begin and end trials the first one may have been done
    though its answer was lost: then it is not done again.
    """

    create_new_study = repeated(RDBStorage.create_new_study)
    set_study_user_attr = repeated(RDBStorage.set_study_user_attr)
    set_study_system_attr = repeated(RDBStorage.set_study_system_attr)
    get_study_id_from_name = repeated(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = repeated(RDBStorage.get_study_name_from_id)
    get_study_directions = repeated(RDBStorage.get_study_directions)
    get_study_user_attrs = repeated(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = repeated(RDBStorage.get_study_system_attrs)
    get_all_studies = repeated(RDBStorage.get_all_studies)
    get_trial = repeated(RDBStorage.get_trial)
    get_trial_id_from_study_id_trial_number = repeated(RDBStorage.get_trial_id_from_study_id_trial_number)
    set_trial_intermediate_value = repeated(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = repeated(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = repeated(RDBStorage.set_trial_system_attr)
    # Optuna's cache, which stands before every storage of this kind, calls these.
    _set_trial_param = repeated(RDBStorage._set_trial_param)
    _get_trials = repeated(RDBStorage._get_trials)
    _get_best_trial_id = repeated(RDBStorage._get_best_trial_id)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        newest = self._newest_trial(study_id)

        def make() -> FrozenTrial:
            return RDBStorage._create_new_trial(self, study_id, template_trial)

        def find_or_make() -> FrozenTrial:
            # Nobody but a study's owner makes trials.
            made = self._newest_trial(study_id)
            return make() if made is None or made == newest else self.get_trial(made)

        return patiently(make, find_or_make)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Change a trial's state; whether it was this call that did."""

        def change() -> bool:
            return RDBStorage.set_trial_state_values(self, trial_id, state, values)

        return patiently(change, lambda: self.get_trial(trial_id).state is state or change())

    @repeated
    def _newest_trial(self, study_id: int) -> int | None:
        """The id of the trial that was made last. Waits for a transaction that is making one, whoever began it."""
        with self.engine.begin() as connection:
            connection.execute(select(_STUDIES).where(_STUDIES.c.study_id == study_id).with_for_update())
            newest: Any = select(func.max(_TRIALS.c.trial_id)).where(_TRIALS.c.study_id == study_id)
            return connection.execute(newest).scalar()
