"""How a sweep's points are proposed. Each point depends on the seed, its number and the trials before, never on the
process that asks: a sampler made anew with one seed would propose its earlier points again."""

import hashlib
import math
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from ..spec.sweep import Grid, QuasiRandom, Random, Range, Sweep, Tpe


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


def distributions_of(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """A space as Optuna has it. Sorted: a sampler draws value after value, and a spec knows no order of keys."""
    return {key: FloatDistribution(r.low, r.high, log=r.log) for key, r in sorted(space.items())}


def seed_of(seed: int, number: int) -> int:
    """The sampler's seed, below 2**32, for a trial of a sweep."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "little")


def grid_point(space: dict[str, Range], values: int, seed: int, index: int) -> dict[str, float] | None:
    """The point of the grid that comes `index`-th in an order shuffled by the seed; None past its end."""
    size = values ** len(space)
    if index >= size:
        return None
    cell = _shuffled(size, seed)[index]
    point = {}
    for key, asked in sorted(space.items()):
        cell, step = divmod(cell, values)
        point[key] = scaled(step / (values - 1), asked)
    return point


def quasi_random_point(space: dict[str, Range], seed: int, index: int) -> dict[str, float]:
    """The `index`-th point of a Sobol sequence scrambled by the seed (Owen, 1998)."""
    # Imported here: most commands that read a ledger need no PyTorch.
    from torch.quasirandom import SobolEngine

    engine = SobolEngine(len(space), scramble=True, seed=seed % 2**63)
    unit = engine.fast_forward(index).draw(1)[0].double().tolist()
    return {key: scaled(share, asked) for (key, asked), share in zip(sorted(space.items()), unit, strict=True)}


def scaled(share: float, asked: Range) -> float:
    """The value at a share, 0 to 1, of a range."""
    if share in (0, 1):
        return asked.high if share else asked.low  # Exactly: a logarithm and back would round.
    if asked.log:
        value = math.exp(math.log(asked.low) + share * (math.log(asked.high) - math.log(asked.low)))
    else:
        value = asked.low + share * (asked.high - asked.low)
    return min(max(value, asked.low), asked.high)


@lru_cache(maxsize=1)
def _shuffled(size: int, seed: int) -> list[int]:
    """The cells of a grid in the order of trials, so that a sweep that is cut short has tried some of everything."""
    order = list(range(size))
    random.Random(seed).shuffle(order)
    return order


class _PointSampler(BaseSampler):
    """Proposes one point that is known already."""

    def __init__(self, point: dict[str, float]) -> None:
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
    ) -> float:
        """The point's value."""
        return self._point[param_name]
