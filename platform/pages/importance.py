"""Which parameters of a sweep decide the mean IoU."""

import math
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState, create_trial

from ..ledger.rows import Row
from .tried import tried, varied

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
    everywhere = [
        name for name in varied([params for params, _ in points]) if all(name in params for params, _ in points)
    ]
    ranges = tried([{name: params[name] for name in everywhere} for params, _ in points])
    study = optuna.create_study(direction="maximize")
    for params, value in points:
        point = {name: params[name] for name in everywhere}
        study.add_trial(create_trial(params=point, distributions=ranges, value=value))
    forest = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=forest)
    return {name: float(share) for name, share in shares.items()}
