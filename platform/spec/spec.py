"""What a job spec says."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ...models.architectures import SegmenterSettings
from ...trainers.data.dataset import DatasetSettings
from ...trainers.errors import UserError
from ...trainers.identity import drop_unset
from ...trainers.kept import Export
from ...trainers.methods.adversarial import AdversarialSettings
from ...trainers.methods.supervised import SupervisedSettings
from ...trainers.methods.table import MethodSettings, variants
from ...trainers.moved import without_gone
from ...trainers.recipe import Recipe
from ...trainers.settings import TrainerSettings
from ..base.keys import S3
from .dimensions import Value
from .errors import problems_of
from .keep import Keep
from .ledger_address import LEDGER, LedgerUrl, ledger_of
from .presets import Preset
from .resources import Resources
from .runtime_env import RuntimeEnv
from .section import Section
from .storage_address import StorageAddress
from .sweep import Name, Sweep

Variant = Literal[
    "supervised",
    "adversarial",
    "pseudo-label",
    "void-hidden",
    "semi",
    "fixmatch",
    "mean-teacher",
    "unimatch-v2",
    "fixmatch-adversarial",
]
"""A spec itself (semi), an ablation of its method, or another method on the same labels and steps; supervised is none.
fixmatch-adversarial has the spec's own adversarial loss on top."""


class Spec(Section):
    """A job: one training, or a sweep of many."""

    job: Literal["train", "sweep"]
    """One training, or a sweep of many."""
    name: Name
    """Identity of the job and first part of its trials' keys."""
    dataset: DatasetSettings
    model: SegmenterSettings
    method: MethodSettings = AdversarialSettings()
    trainer: TrainerSettings
    resources: Resources = Resources()
    runtime_env: RuntimeEnv | None = None
    sweep: Sweep | None = None
    keep: Keep = Keep()
    export: Export = "last"
    """Which weights become the model: those of the last step, or of the one with the best mIoU on the validation
    images, of equals the first. What a sweep and its gate compare is the last value in either case."""
    preset: Preset | None = None
    """Sets every field of which the paper and its released code differ, or all of a published form of consistency,
    where this spec does not set it itself."""
    profile: bool = False
    """Trace a few steps of each training with torch.profiler; `trace.json.gz` and `phases.txt` are kept with it."""
    published: dict[Variant, float] = Field(default_factory=dict)
    """Published mIoU in percent of this spec and of its ablations; `advseg reproduce` prints ours beside it."""
    storage: StorageAddress | None = None
    """For checkpoints and the ledger: a folder that all nodes reach, or `s3://bucket/prefix` with a PostgreSQL ledger;
    by default `runs` beside the services' state."""
    ledger: LedgerUrl | None = None
    """PostgreSQL database of the ledger, `postgresql://user@host/database`; by default that of `ADVSEG_LEDGER`, or an
    SQLite file in `storage`."""

    @model_validator(mode="after")
    def _parts_match(self) -> Self:
        if self.job == "sweep" and self.sweep is None:
            raise ValueError("job is sweep, but there is no section sweep: add one or set job to train")
        if self.job == "train" and self.sweep is not None:
            raise ValueError("job is train, but there is a section sweep: remove it or set job to sweep")
        if self.sweep and self.sweep.fork == self.name:
            raise ValueError(f"sweep.fork names this very sweep, {self.name}: name another, or remove it to go on")
        if self.sweep and ledger_of(self.ledger) is None and (self.storage or "").startswith(S3):
            raise ValueError(
                f"storage is {self.storage}, where no SQLite file can be: add ledger: postgresql://user@host/database, "
                f"or set {LEDGER} to it"
            )
        for name, spec in self.arms.items():
            try:
                spec.recipe()
            except ValueError as error:
                raise ValueError(f"{error}, in sweep.arms.{name}" if name else str(error)) from None
        return self

    def recipe(self) -> Recipe:
        """What the trainer needs of it. Raises ValueError if its parts do not go together."""
        return Recipe(segmenter=self.model, method=self.method, trainer=self.trainer)

    @property
    def baseline_resources(self) -> Resources:
        """What the supervised baseline of this sweep asks of the cluster."""
        assert self.sweep
        return self.resources.model_copy(update={"workers": self.sweep.baseline_workers})

    def with_values(self, values: Mapping[str, Value]) -> "Spec":
        """This spec with some keys, e.g. `method.lambda_adv`, set to other values."""
        return Spec.model_validate(with_values(self.model_dump(mode="json"), values))

    @property
    def arms(self) -> dict[str | None, "Spec"]:
        """The sweep of each arm alone, by name; of a sweep without arms it itself, under None."""
        names = (self.sweep and self.sweep.arms) or (None,)
        return {name: self.arm(name) for name in names}

    def arm(self, name: str | None) -> "Spec":
        """The sweep of one arm alone, with its method; it itself, if None is asked for."""
        if name is None:
            return self
        assert self.sweep and self.sweep.arms
        return self.model_copy(update={"method": self.sweep.arms[name].method, "sweep": self.sweep.of_arm(name)})

    def variant(self, name: Variant) -> "Spec":
        """The same labels and steps by another method. Raises ValueError if this spec's has no variant of the name."""
        known = variants(self.method)
        if name not in known:
            raise ValueError(f"method {self.method.name} has no variant {name}: name one of {', '.join(known)}")
        return Spec.model_validate({**self.model_dump(mode="json"), "method": known[name]})

    def supervised(self) -> "Spec":
        """This spec without its method."""
        return self.model_copy(update={"method": SupervisedSettings()})

    def identity(self) -> dict[str, Any]:
        """All that determines a sweep's results, apart from how long it goes on and where, as JSON."""
        beside = ("storage", "ledger", "resources", "runtime_env", "keep", "export", "published", "profile")
        document = self.model_dump(mode="json", exclude={**dict.fromkeys(beside, True), "dataset": {"pack", "test"}})
        drop_unset(document["trainer"])
        if sweep := document["sweep"]:
            for key in ("trials", "concurrency", "register_as", "confirm", "retry", "fork"):
                sweep.pop(key)
            for arm in (sweep["arms"] or {}).values():
                arm.pop("trials")
            if sweep["arms"] is None:
                del sweep["arms"]
        return document

    def digest(self) -> str:
        """The identity in 64 digits."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()


def arm_document(document: dict[str, Any], arm: str | None) -> dict[str, Any]:
    """The document of one arm of a sweep alone, as JSON; of a sweep without arms its own."""
    return spec_from(document).arm(arm).model_dump(mode="json") if arm else document


def confirmed(spec: Spec, candidates: int | None, seeds: int | None) -> Spec:
    """The spec of a sweep whose best trials are confirmed, so many on so many seeds; None is as it is, or by default.

    Raises UserError for what no gate takes.
    """
    given = {"candidates": candidates, "seeds": seeds}
    document = spec.model_dump(mode="json")
    confirm = document["sweep"]["confirm"] or {}
    changed = {**confirm, **{key: value for key, value in given.items() if value is not None}}
    return spec_from(with_values(document, {"sweep.confirm": changed}))


def with_values(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
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
    """The spec of a document that was validated before, also by an older version, but for values set since.

    Raises UserError that names all that is wrong in one line.
    """
    document = without_gone(document)
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise UserError("; ".join(map(str, problems_of(error, Spec, document)))) from None
