"""What a job spec says."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ...models.architectures import SegmenterSettings
from ...models.discriminator import DiscriminatorSettings
from ...trainers.data.dataset import DatasetSettings
from ...trainers.errors import UserError
from ...trainers.recipe import Recipe, TrainerSettings
from .errors import problems_of
from .ledger_address import LedgerUrl
from .presets import Preset
from .resources import Resources
from .section import Section
from .sweep import Name, Sweep, Value

Variant = Literal["supervised", "adversarial", "self-taught", "semi"]
"""A spec itself (semi), or with some lambdas at 0: without L_semi (adversarial), L_adv (self-taught) or both."""

_WITHOUT: dict[Variant, tuple[str, ...]] = {
    "supervised": ("lambda_adv", "lambda_semi_adv", "lambda_semi"),
    "adversarial": ("lambda_semi_adv", "lambda_semi"),
    "self-taught": ("lambda_adv", "lambda_semi_adv"),
    "semi": (),
}


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
    ledger: LedgerUrl | None = None
    """PostgreSQL database of the ledger, `postgresql://user@host/database`; by default an SQLite file in `storage`."""

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

    def with_values(self, values: Mapping[str, Value]) -> "Spec":
        """This spec with some keys, e.g. `trainer.lambda_adv`, set to other values."""
        return Spec.model_validate(with_values(self.model_dump(mode="json"), values))

    def variant(self, name: Variant) -> "Spec":
        """This spec with some lambdas at 0: the same labels and steps."""
        return self.with_values({f"trainer.{knob}": 0 for knob in _WITHOUT[name]})

    def supervised(self) -> "Spec":
        """This spec without the method: every lambda at 0."""
        return self.variant("supervised")

    def identity(self) -> dict[str, Any]:
        """All that determines a sweep's results, apart from how long it goes on and where, as JSON."""
        where = dict.fromkeys(("storage", "ledger", "resources", "published", "profile"), True)
        document = self.model_dump(mode="json", exclude={**where, "dataset": {"pack"}})
        for key in ("trials", "concurrency", "register_as", "retry", "fork"):
            (document["sweep"] or {}).pop(key, None)
        return document

    def digest(self) -> str:
        """The identity in 64 digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def with_values(document: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """A spec's document, as JSON, with some dotted keys set to other values."""
    changed = deepcopy(dict(document))
    for key, value in values.items():
        *path, name = key.split(".")
        section = changed
        for part in path:
            section = section.setdefault(part, {})
        section[name] = value
    return changed


def spec_from(document: Mapping[str, Any]) -> Spec:
    """The spec of a document that was validated before, but for values that have been set since.

    Raises UserError that names all that is wrong in one line.
    """
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise UserError("; ".join(map(str, problems_of(error, Spec, document)))) from None
