"""What a job spec says."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self, get_type_hints

from pydantic import Field, model_validator

from ..models.architectures import SegmenterSettings
from ..models.discriminator import DiscriminatorSettings
from ..trainers.data.dataset import DatasetSettings
from ..trainers.recipe import Recipe, TrainerSettings
from .presets import Preset
from .resources import Resources
from .section import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
"""Lower-case letters, digits and hyphens: what Ray, MLflow, file systems and URLs all take."""

SEARCHABLE = {
    f"trainer.{name}": get_type_hints(TrainerSettings, include_extras=True)[name]
    for name in ("lambda_adv", "lambda_semi_adv", "lambda_semi", "threshold")
}
"""Keys that a sweep may vary, with their types."""


Variant = Literal["supervised", "adversarial", "self-taught", "semi"]
"""A spec itself (semi), or with some lambdas at 0: without L_semi (adversarial), L_adv (self-taught) or both."""

_WITHOUT: dict[Variant, tuple[str, ...]] = {
    "supervised": ("lambda_adv", "lambda_semi_adv", "lambda_semi"),
    "adversarial": ("lambda_semi_adv", "lambda_semi"),
    "self-taught": ("lambda_adv", "lambda_semi_adv"),
    "semi": (),
}


class Range(Section):
    """Values that a sweep may try for one key."""

    low: float
    high: float
    log: bool = False
    """Draw uniformly in the logarithm; the range must then lie above 0."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but low is {self.low} and high is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must lie above 0, but low is {self.low}")
        return self


class Sampler(Section):
    """How trials are proposed."""

    name: Literal["tpe"] = "tpe"
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Trials drawn at random before the model of the tree-structured Parzen estimator decides."""


class Pruner(Section):
    """When a trial is stopped early."""

    name: Literal["successive_halving"] = "successive_halving"
    min_resource: Annotated[int, Field(ge=1)]
    """Steps that every trial may make; it is judged then, and whenever its steps have grown by `reduction_factor`."""
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    """A trial goes on if it is among the best 1 / `reduction_factor` of those judged at the same step so far."""


class Sweep(Section):
    """What to search, how, and for how long."""

    trials: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] = 2
    """Trials that run at the same time."""
    space: dict[str, Range]
    """Ranges by key, e.g. `trainer.lambda_adv`."""
    first: tuple[dict[str, float], ...] = ()
    """Points to try before the sampler proposes any; the paper's, for example."""
    sampler: Sampler = Sampler()
    pruner: Pruner | None = None
    baseline_workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers of the supervised baseline, which runs beside the study on the same labels and steps."""
    register_as: Name | None = None
    """Registered model that the best trial becomes a version of, if it beats the baseline."""


class Spec(Section):
    """A job: one training, or a sweep of many."""

    job: Literal["train", "sweep"]
    name: Name
    """Identity of the job and first part of its trials' keys."""
    dataset: DatasetSettings
    model: SegmenterSettings
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    trainer: TrainerSettings
    resources: Resources = Resources()
    sweep: Sweep | None = None
    preset: Preset | None = None
    """Sets every field of which the paper and its released code differ, where this spec does not set it itself."""
    profile: bool = False
    """Trace a few steps of each training with torch.profiler; `trace.json.gz` and `phases.txt` are kept with it."""
    published: dict[Variant, float] = Field(default_factory=dict)
    """Published mIoU in percent of this spec and of its ablations; `advseg reproduce` prints ours beside it."""
    storage: Path | None = None
    """Folder for checkpoints and the ledger, reachable from all nodes; by default `runs` beside the services' state."""

    @model_validator(mode="after")
    def _parts_match(self) -> Self:
        if self.job == "sweep" and self.sweep is None:
            raise ValueError("job is sweep, but there is no section sweep: add one or set job to train")
        if self.job == "train" and self.sweep is not None:
            raise ValueError("job is train, but there is a section sweep: remove it or set job to sweep")
        self.recipe()
        return self

    def recipe(self) -> Recipe:
        """What the trainer needs of it. Raises ValueError if its parts do not go together."""
        return Recipe(segmenter=self.model, discriminator=self.discriminator, trainer=self.trainer)

    def with_values(self, values: dict[str, float]) -> "Spec":
        """This spec with some keys, e.g. `trainer.lambda_adv`, set to other values."""
        document = self.model_dump(mode="json")
        for key, value in values.items():
            section, _, name = key.partition(".")
            document[section][name] = value
        return Spec.model_validate(document)

    def variant(self, name: Variant) -> "Spec":
        """This spec with some lambdas at 0: the same labels and steps."""
        return self.with_values({f"trainer.{knob}": 0 for knob in _WITHOUT[name]})

    def supervised(self) -> "Spec":
        """This spec without the method: every lambda at 0."""
        return self.variant("supervised")

    def digest(self) -> str:
        """Identity of all that determines a sweep's results, apart from how long it goes on and where."""
        where = {"storage": True, "resources": True, "published": True, "profile": True, "dataset": {"pack"}}
        document = self.model_dump(mode="json", exclude=where)
        for key in ("trials", "concurrency", "register_as"):
            (document["sweep"] or {}).pop(key, None)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
