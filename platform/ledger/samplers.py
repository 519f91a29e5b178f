"""How a sweep's points are proposed. Each point depends on the seed, its number and the trials before, never on the
process that asks: a sampler made anew with one seed would propose its earlier points again."""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from ..spec.dimensions import Choices, Dimension, Range, Value
from ..spec.sweep import Grid, QuasiRandom, Random, Sweep, Tpe


def sampler_of(sweep: Sweep, seed: int, number: int, index: int) -> BaseSampler | None:
    """The sampler that proposes one trial's point; None if there are no more points.

    `index` counts the trials whose points the sampler proposes, `number` all trials of the study.
    """
    match sweep.sampler:
        case Tpe(startup_trials=startup_trials):
            return TPESampler(seed=seed_of(seed, number), n_startup_trials=startup_trials)
        case Random():
            return RandomSampler(seed=seed_of(seed, number))
        case Grid(values=values):
            point = grid_point(sweep.space, values, seed, index)
            return _PointSampler(point) if point else None
        case QuasiRandom():
            return _PointSampler(quasi_random_point(sweep.space, seed, index))


def distributions_of(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """A space as Optuna has it. Sorted: a sampler draws value after value, and a spec knows no order of keys."""
    return {key: _distribution(dimension) for key, dimension in sorted(space.items())}


def _distribution(dimension: Dimension) -> BaseDistribution:
    match dimension:
        case Choices(choices=choices):
            return CategoricalDistribution(choices)
        case Range(low=int(low), high=int(high), log=log, step=step):
            return IntDistribution(low, high, log=log, step=1 if step is None else int(step))
        case Range(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, high, log=log, step=step)


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> None:
    """Draw a trial's value of one key, if it has none yet."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            trial.suggest_categorical(key, choices)
        case IntDistribution(low=low, high=high, log=log, step=step):
            trial.suggest_int(key, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            trial.suggest_float(key, low, high, log=log, step=step)


def seed_of(seed: int, number: int) -> int:
    """The sampler's seed, below 2**32, for a trial of a sweep."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "little")


def grid_point(space: Mapping[str, Dimension], values: int, seed: int, index: int) -> dict[str, Value] | None:
    """The point of the grid that comes `index`-th in an order shuffled by the seed; None past its end."""
    axes = {key: _axis(dimension, values) for key, dimension in sorted(space.items())}
    size = math.prod(map(len, axes.values()))
    if index >= size:
        return None
    cell = _shuffled(size, seed)[index]
    point: dict[str, Value] = {}
    for key, axis in axes.items():
        cell, place = divmod(cell, len(axis))
        point[key] = axis[place]
    return point


def _axis(dimension: Dimension, values: int) -> Sequence[Value]:
    """What a grid tries of one key: all choices, or so many values of a range, if there are as many."""
    if isinstance(dimension, Choices):
        return dimension.choices
    return list(dict.fromkeys(scaled(place / (values - 1), dimension) for place in range(values)))


def quasi_random_point(space: Mapping[str, Dimension], seed: int, index: int) -> dict[str, Value]:
    """The `index`-th point of a Sobol sequence scrambled by the seed (Owen, 1998)."""
    # Imported here: most commands that read a ledger need no PyTorch.
    from torch.quasirandom import SobolEngine

    engine = SobolEngine(len(space), scramble=True, seed=seed % 2**63)
    unit = engine.fast_forward(index).draw(1)[0].double().tolist()
    return {key: _at(share, asked) for (key, asked), share in zip(sorted(space.items()), unit, strict=True)}


def _at(share: float, dimension: Dimension) -> Value:
    """The value at a share, 0 to 1, of a dimension, of which every value has as much as another."""
    count = len(dimension.choices) if isinstance(dimension, Choices) else dimension.count
    if count is None:
        assert isinstance(dimension, Range)
        return scaled(share, dimension)
    place = min(int(share * count), count - 1)
    return dimension.choices[place] if isinstance(dimension, Choices) else _nth(dimension, place)


def scaled(share: float, asked: Range) -> int | float:
    """The value at a share, 0 to 1, of a range; the nearest one if not every number is one of its values."""
    if share in (0, 1):
        return asked.high if share else asked.low  # Exactly: a logarithm and back would round.
    if asked.log:
        value = math.exp(math.log(asked.low) + share * (math.log(asked.high) - math.log(asked.low)))
    elif asked.count is not None:
        return _nth(asked, round(share * (asked.count - 1)))
    else:
        value = asked.low + share * (asked.high - asked.low)
    value = min(max(value, asked.low), asked.high)
    return round(value) if asked.whole else value


def _nth(asked: Range, place: int) -> int | float:
    """A value of an evenly spaced range, counted from 0."""
    assert asked.spacing is not None
    return min(asked.low + place * asked.spacing, asked.high)


@lru_cache(maxsize=1)
def _shuffled(size: int, seed: int) -> list[int]:
    """The cells of a grid in the order of trials, so that a sweep that is cut short has tried some of everything."""
    order = list(range(size))
    random.Random(seed).shuffle(order)
    return order


class _PointSampler(BaseSampler):
    """Proposes one point that is known already."""

    def __init__(self, point: Mapping[str, Value]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: every value is drawn by itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: every value is drawn by itself."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Value:
        """The point's value."""
        return self._point[param_name]
