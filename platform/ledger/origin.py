"""What a sweep's trials share beside its spec, data and code; and what a new sweep may learn from an old one's."""

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from ...trainers.differences import differences
from ...trainers.errors import UserError
from ..base.keys import key_of
from ..spec.dimensions import Dimension
from ..spec.spec import Spec
from .samplers import distributions_of
from .study import ARM, FROM

_LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a sweep's trials share beside its spec."""

    dataset: str
    """Digest of the dataset's content."""
    code: str
    """Digest of the code that trains."""


def refuse_changes(spec: Spec, begun: Spec, origin: Origin, begun_from: Origin) -> None:
    """Raise UserError, naming what differs, if a sweep was begun with another spec, other data or other code."""
    if changed := differences(spec.identity(), begun.identity(), "the sweep"):
        what = f"with another spec ({changed}): submit the old one to go on with it"
    elif origin.dataset != begun_from.dataset:
        what = (
            f"on other data (digest {origin.dataset[:12]}, but the sweep has {begun_from.dataset[:12]}): "
            f"restore the dataset to go on with it"
        )
    elif origin.code != begun_from.code:
        what = (
            f"by other code in models/ and trainers/ (digest {origin.code[:12]}, but the sweep has "
            f"{begun_from.code[:12]}): install that version to go on with it"
        )
    else:
        return
    raise UserError(
        f"sweep {spec.name} was begun {what}, or begin another that learns from its trials, "
        f"as in --set name={spec.name}-2 --fork {spec.name}"
    )


def inherit(
    study: optuna.Study, spec: Spec, source: optuna.Study, begun: Spec, origin: Origin, begun_from: Origin
) -> None:
    """Add the finished trials of another sweep, whose points lie in the spec's space, for the sampler to learn from.

    Raises UserError if the other sweep searched other keys or ran on other data.
    """
    ours, theirs = ({arm: each.sweep.space for arm, each in s.arms.items() if each.sweep} for s in (spec, begun))
    if ours.keys() != theirs.keys() or any(ours[arm].keys() != theirs[arm].keys() for arm in ours):
        raise UserError(
            f"sweep.fork names {begun.name}, which searched {_told(theirs)}, but this spec's space has "
            f"{_told(ours)}: search the same keys, or remove sweep.fork"
        )
    if origin.dataset != begun_from.dataset:
        raise UserError(
            f"sweep.fork names {begun.name}, which ran on other data (digest {begun_from.dataset[:12]}, but this "
            f"spec's has {origin.dataset[:12]}): its results do not tell of these; remove sweep.fork"
        )
    # Running it again after a crash adds what is missing.
    there = {trial.user_attrs.get(FROM) for trial in study.get_trials(deepcopy=False)}
    for trial in source.get_trials(deepcopy=False, states=_LEARNT_FROM):
        key = trial.user_attrs.get(FROM) or key_of(begun.name, trial.number)
        arm = trial.user_attrs.get(ARM)
        if key not in there and all(trial.params[name] in dimension for name, dimension in ours[arm].items()):
            study.add_trial(_copied(trial, distributions_of(ours[arm]), key, arm))


def _copied(trial: FrozenTrial, space: dict[str, BaseDistribution], key: str, arm: str | None) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=trial.state,
        value=trial.value,
        params=dict(trial.params),
        distributions=dict(space),
        intermediate_values=dict(trial.intermediate_values),
        user_attrs={FROM: key, **({ARM: arm} if arm else {})},
    )


def _told(spaces: Mapping[str | None, Mapping[str, Dimension]]) -> str:
    """The keys of spaces by arm."""
    keys = {arm: ", ".join(sorted(space)) for arm, space in spaces.items()}
    return "; ".join(f"{listed} in arm {arm}" if arm else listed for arm, listed in keys.items())
