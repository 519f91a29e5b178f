"""What a job spec says of a sweep: what to search, how, for how long, and when to give a trial up."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ...trainers.methods.adversarial import AdversarialSettings
from ...trainers.methods.table import MethodSettings
from .confirm import Confirm, cannot_pass
from .dimensions import MOST_KEYS, Dimension, Value
from .retry import Retry
from .section import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
"""Lower-case letters, digits and hyphens: what Ray, MLflow, file systems and URLs all take."""
MOST_AT_ONCE = 10_000
"""Trials, for each of which a cluster is asked for room."""
MOST_ARMS = 16
"""That a sweep may compare."""


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
