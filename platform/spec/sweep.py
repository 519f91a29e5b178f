"""What a job spec says of a sweep: what to search, how, for how long, and when to give a trial up."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ...trainers.errors import brief
from ...trainers.methods.adversarial import AdversarialSettings
from ...trainers.methods.table import MethodSettings
from .confirm import Confirm, cannot_pass
from .section import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
"""Lower-case letters, digits and hyphens: what Ray, MLflow, file systems and URLs all take."""


Value = bool | int | float | str | None
"""What a sweep may give a key."""


MOST_KEYS = 64
"""That a sweep may vary."""
MOST_ARMS = 16
"""That a sweep may compare."""
MOST_CHOICES = 1000
"""Of one key."""
MOST_VALUES = 1_000_000
"""Of a range with a step, and combinations of a grid."""
MOST_AT_ONCE = 10_000
"""Trials, for each of which a cluster is asked for room."""
_LARGEST = 2**63


class Range(Section):
    """Numbers that a sweep may try for one key; whole numbers alone if the key holds such."""

    low: int | float
    """Least value."""
    high: int | float
    """Greatest value."""
    log: bool = False
    """Draw uniformly in the logarithm; the range must then lie above 0."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Distance between the values, from `low` to `high`; by default 1 for whole numbers, and none for others."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(isinstance(end, int) and abs(end) >= _LARGEST for end in (self.low, self.high)):
            raise ValueError("low and high must lie within 2**63, as no computer's whole numbers are larger")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but low is {self.low} and high is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must lie above 0, but low is {self.low}")
        if self.step is not None:
            if self.log:
                raise ValueError(f"a logarithmic range takes no step, but step is {self.step}: remove either")
            intervals = (self.high - self.low) / self.step
            divides = math.isfinite(intervals) and math.isclose(intervals, round(intervals), rel_tol=1e-9)
            if not divides or round(intervals) < 1:
                raise ValueError(f"step must divide high - low, {self.high - self.low:g}, but is {self.step:g}")
            if intervals > MOST_VALUES:
                raise ValueError(f"step must make at most {MOST_VALUES:,} values, but {self.step:g} makes more")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def spacing(self) -> int | float | None:
        """Distance between the values; None if any value between the ends may be tried."""
        return 1 if self.step is None and self.whole and not self.log else self.step

    @property
    def count(self) -> int | None:
        """How many values there are; None if they are not evenly spaced."""
        return None if self.spacing is None else round((self.high - self.low) / self.spacing) + 1

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.spacing is None:
            return not self.whole or isinstance(value, int)
        place = (value - self.low) / self.spacing
        return math.isclose(place, round(place), rel_tol=1e-9, abs_tol=1e-9)


class Choices(Section):
    """Values that a sweep may try for one key, in no order."""

    choices: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_CHOICES)]

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, written: Any) -> Any:
        if isinstance(written, Mapping) and (ends := [key for key in Range.model_fields if key in written]):
            raise ValueError(f"takes no {' and '.join(ends)} beside it, as it is no range: remove either")
        return written

    @model_validator(mode="after")
    def _different(self) -> Self:
        seen = {(type(choice), choice) for choice in self.choices}
        if len(seen) < len(self.choices):
            raise ValueError(f"choices must differ, but are {brief(', '.join(map(str, self.choices)))}")
        return self

    def __contains__(self, value: object) -> bool:
        return (type(value), value) in {(type(choice), choice) for choice in self.choices}


def _kind(dimension: Any) -> str:
    names = isinstance(dimension, Choices) or (isinstance(dimension, Mapping) and "choices" in dimension)
    return "choices" if names else "range"


Dimension = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]
"""What a sweep may try for one key."""
DIMENSION_KEYS = (*Range.model_fields, *Choices.model_fields)


class Tpe(Section):
    """Proposes by a tree-structured Parzen estimator (Bergstra et al., NIPS 2011)."""

    name: Literal["tpe"] = "tpe"
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Trials drawn at random before the model decides."""


class Random(Section):
    """Draws every point for itself."""

    name: Literal["random"]


class Grid(Section):
    """Tries every combination once, in shuffled order."""

    name: Literal["grid"]
    values: Annotated[int, Field(ge=2)]
    """Values for each range, evenly spaced from its low to its high end, in the logarithm if it is logarithmic; fewer
    where it has fewer. Of choices all are tried."""


class QuasiRandom(Section):
    """Points of a scrambled Sobol sequence, which cover the space more evenly than random ones."""

    name: Literal["quasi_random"]


Sampler = Annotated[Tpe | Random | Grid | QuasiRandom, Field(discriminator="name")]
"""How trials are proposed."""


class SuccessiveHalving(Section):
    """Asynchronous successive halving (Li et al., MLSys 2020)."""

    name: Literal["successive_halving"]
    min_resource: Annotated[int, Field(ge=1)]
    """Steps that every trial may make; it is judged then, and whenever its steps have grown by `reduction_factor`."""
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    """A trial goes on if it is among the best 1 / `reduction_factor` of those judged at the same step so far."""


class Hyperband(Section):
    """Successive halving in several brackets, of which some stop later (Li et al., JMLR 2018)."""

    name: Literal["hyperband"]
    min_resource: Annotated[int, Field(ge=1)]
    """Steps before the strictest bracket judges."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Median(Section):
    """Stops a trial whose best value so far is below the median of the others' at the same step."""

    name: Literal["median"]
    startup_trials: Annotated[int, Field(ge=0)] = 5
    """Complete trials before any is stopped."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps that every trial may make."""


class Patient(Section):
    """Stops a trial that has not improved for several reports, if another pruner, where one is named, agrees."""

    name: Literal["patient"]
    patience: Annotated[int, Field(ge=0)]
    """Reports, the newest apart, in which a trial may stay below its best before."""
    min_delta: Annotated[float, Field(ge=0)] = 0
    """Percentage points of mean IoU by which it may stay below."""
    wrapped: Annotated[SuccessiveHalving | Hyperband | Median, Field(discriminator="name")] | None = None


Pruner = Annotated[SuccessiveHalving | Hyperband | Median | Patient, Field(discriminator="name")]
"""When a trial is stopped early."""


class Retry(Section):
    """When a trial is tried again, what counts as a lost worker, and when the whole sweep stops."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Attempts that may be lost to dead or hung workers before the trial fails. Pre-empted ones do not count, nor do
    those that a disk, a mount, a driver or a server ended."""
    stop_after: Annotated[int, Field(ge=1)] = 5
    """Times in a row, with no report in between, that a disk, a mount, a driver or a server may end a trial, which is
    tried again after 3 to 30 seconds, before the sweep stops and leaves it unfinished. So many trials that fail of one
    error before any has reported stop it, too."""
    hang_timeout: Annotated[float, Field(gt=0)] = 600
    """Seconds without any progress, be it a step, a batch of an evaluation or a file opened, after which a worker
    counts as hung; from its first sign of life on, so that it may wait for its CPUs and GPUs."""
    start_timeout: Annotated[float, Field(gt=0)] = 3600
    """Seconds in which nothing of a job begins, as others hold the CPUs or GPUs that it needs, before it stops."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a trial may train in all its attempts together."""


Space = Annotated[dict[str, Dimension], Field(max_length=MOST_KEYS)]
Point = dict[str, Value]


class Arm(Section):
    """One of several methods that a sweep compares, each with trials and a space of its own."""

    method: MethodSettings = AdversarialSettings()
    """Its method. What it leaves out is the spec's section `method`, where that is of the same name."""
    trials: Annotated[int, Field(ge=1)]
    """Trials of this arm, those included that are pruned or fail."""
    space: Space
    """Ranges and choices by key, as `sweep.space`."""
    first: tuple[Point, ...] = ()
    """Points to try before the sampler proposes any for this arm."""


class Sweep(Section):
    """What to search, how, and for how long: `trials` and `space`, or `arms`."""

    trials: Annotated[int, Field(ge=1)] | None = None
    """Trials in all, those included that are pruned or fail."""
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 2
    """Trials that run at the same time."""
    space: Space = Field(default_factory=dict)
    """Ranges and choices by key, e.g. `method.lambda_adv`: of any number or choice that determines a result."""
    first: tuple[Point, ...] = ()
    """Points to try before the sampler proposes any; the paper's, for example."""
    arms: Annotated[dict[Name, Arm], Field(min_length=1, max_length=MOST_ARMS)] | None = None
    """Methods that are compared, by names of your own: they take turns, and share baseline, sampler and gate."""
    sampler: Sampler = Tpe()
    pruner: Pruner | None = None
    retry: Retry = Retry()
    baseline_workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers of the supervised baseline, which runs beside the study on the same labels and steps."""
    register_as: Name | None = None
    """Registered model that the best trial becomes a version of, if it beats the baseline: its champion where it was
    confirmed, its candidate otherwise."""
    confirm: Confirm | None = None
    fork: Name | None = None
    """Sweep whose finished trials the sampler learns from; they count neither as trials nor as best."""

    @model_validator(mode="after")
    def _searches(self) -> Self:
        given = [key for key in ("trials", "space", "first") if getattr(self, key)]
        if self.arms and given:
            raise ValueError(f"arms have {' and '.join(given)} of their own: remove sweep.{given[0]}, or arms")
        if not self.arms and self.trials is None:
            raise ValueError("trials is missing: say how many, as in trials: 20, or name arms")
        if (
            self.arms
            and self.confirm
            and (reason := cannot_pass(self.confirm, self.confirm.candidates * len(self.arms)))
        ):
            raise ValueError(f"confirm, of {len(self.arms)} arms together: {reason}")
        return self

    @property
    def budget(self) -> int:
        """Trials in all, of all arms."""
        return sum(arm.trials for arm in self.arms.values()) if self.arms else self.trials or 0

    def of_arm(self, arm: str) -> "Sweep":
        """The sweep of one arm alone."""
        assert self.arms
        own = self.arms[arm]
        return self.model_copy(update={"trials": own.trials, "space": own.space, "first": own.first, "arms": None})
