"""Which parameters of a sweep decide the mean IoU."""

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from ..ledger.rows import Row

ENOUGH = 4
"""Complete trials below which nothing is said of importance."""


def importances(rows: Sequence[Row]) -> dict[str, float]:
    """Each parameter's share of what varies the mean IoU of complete trials, greatest first.

    Empty where fewer than `ENOUGH` trials are complete, all have the same mean IoU, or no parameter varies. The shares
    are a seeded random forest's: fANOVA's cost grows with the square of the trials, PED-ANOVA looks at the best tenth
    only, which is a single trial of ten.
    """
    points = [
        (row.params, row.value)
        for row in rows
        if row.state is TrialState.COMPLETE and row.value is not None and math.isfinite(row.value)
    ]
    if len(points) < ENOUGH or len({value for _, value in points}) == 1:
        return {}
    ranges = _ranges([params for params, _ in points])
    study = optuna.create_study(direction="maximize")
    for params, value in points:
        varied = {name: params[name] for name in ranges}
        study.add_trial(create_trial(params=varied, distributions=ranges, value=value))
    forest = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=forest)
    return {name: float(share) for name, share in shares.items()}


def _ranges(points: Sequence[Mapping[str, float]]) -> dict[str, BaseDistribution]:
    """What was tried of each parameter that varies. To a forest it is nothing how much more was allowed."""
    columns = {name: [point[name] for point in points] for name in set[str](points[0]).intersection(*points)}
    return {
        name: FloatDistribution(min(column), max(column))
        for name, column in sorted(columns.items())
        if min(column) < max(column)
    }
