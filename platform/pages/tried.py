"""What was tried of each parameter of a sweep, as Optuna's plots and importances take it."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ..spec.dimensions import Value


def tried(points: Sequence[Mapping[str, Value]], logarithmic: Collection[str] = ()) -> dict[str, BaseDistribution]:
    """A distribution of each parameter, from its least to its greatest value, or over all if one is no number.

    How much more was allowed is left out, so that a first point may lie anywhere. `logarithmic` names the parameters
    whose axes are.
    """
    columns = {name: [point[name] for point in points if name in point] for name in set(chain.from_iterable(points))}
    return {name: _distribution(column, name in logarithmic) for name, column in sorted(columns.items())}


def varied(points: Sequence[Mapping[str, Value]]) -> list[str]:
    """Parameters of which the points have more than one value."""
    names = sorted(set(chain.from_iterable(points)))
    return [name for name in names if len({point[name] for point in points if name in point}) > 1]


def _distribution(column: Sequence[Value], log: bool) -> BaseDistribution:
    numbers = [value for value in column if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(column):
        return CategoricalDistribution(list(dict.fromkeys(column)))
    return FloatDistribution(min(numbers), max(numbers), log=log and min(numbers) > 0)
