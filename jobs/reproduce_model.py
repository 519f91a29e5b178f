"""A registered model is trained again, from what the registry alone knows of it, and compared to the bit."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from ..models.bundle import CARD, read_card
from ..models.manifest import read_manifest
from ..models.weights import digest_of
from ..platform.base.code_digest import TRAINING, code_digest
from ..platform.base.environment import Environment, environment_here
from ..platform.base.home import find_home
from ..platform.base.keys import MODEL
from ..platform.registry.made import Made
from ..platform.spec.spec import Spec
from ..platform.spec.spec_file import override_keys, parse_spec
from ..platform.storage.packs import open_dataset
from ..platform.storage.weights import local_weights
from ..platform.tracking.identity import SECTIONS
from ..trainers.data.dataset import DatasetError
from ..trainers.devices import usual_device
from ..trainers.errors import NotReproducedError, UserError
from ..trainers.moved import without_gone
from ..trainers.reporter import Reporter
from ..trainers.whole_file import write_whole
from .reproduced import Compared
from .train_together import train_as

PLACES = (
    *(f"dataset.{key}" for key in ("root", "pack", "labelled", "unlabelled", "validation", "order")),
    "model.weights",
)
"""Keys of a spec that may be others than then: where things lie. What lies there is known by its digest."""
BEGUN = "reproduces.json"
"""Which model a folder reproduces, and by what."""
_DIGITS = 12
_NAME = re.compile(r"[\w.+-]{1,100}")
"""Of a version or a commit; nothing else is put into a command that somebody may type."""


def reproduce_model(
    made: Made, overrides: Sequence[str], folder: Path | None, *, any_code: bool, console: Console, reporter: Reporter
) -> Compared:
    """Train a model again, in a folder of its own, where the same call goes on if it was killed; and compare.

    Raises NotReproducedError for other code, unless `any_code` is let through; UserError for another spec than the
    model's, other data or other start weights, and for a folder of something else.
    """
    record, then = made.record, made.environment
    if record.card.lineage.get("grown"):
        raise UserError(
            f"{record.description} was trained further after its trainer.steps had been raised: what has learning "
            f"rates of two schedules is not reproduced"
        )
    if not record.card.metrics:
        raise UserError(f"{record.description} has no figures on its card: there is nothing to compare with")
    spec = spec_of(made, overrides)
    if not any_code:
        refuse_other_code(made)
    unknown = [*then.unknown, *refuse_other_input(made, spec)]
    here = _here(then, spec)
    for name, (before, now) in then.differences(here).items():
        console.print(f"{name}: {before} then, {now} here", soft_wrap=True)
    if unknown:
        console.print(f"not known, as an older version of advseg registered it: {', '.join(unknown)}", soft_wrap=True)
    folder = _begun(folder, made, here)
    console.print(f"training in {folder}; the same command goes on if it is interrupted", soft_wrap=True)
    train_as(spec, folder, reporter, here)
    metrics, sums = read_card(folder / MODEL).metrics, read_manifest(folder / MODEL)
    return Compared(
        model=record.description,
        folder=folder,
        metrics={name: (value, metrics.get(name)) for name, value in record.card.metrics.items()},
        weights={name: (sum, sums.get(name)) for name, sum in record.sums.items() if name != CARD},
        then=then,
        here=here,
        unknown=tuple(unknown),
    )


def spec_of(made: Made, overrides: Sequence[str]) -> Spec:
    """What a model was trained by, with places of this machine. Raises UserError."""
    what = made.record.description
    for override in overrides:
        if override.partition("=")[0].strip() not in PLACES:
            raise UserError(
                f"--set {override} would train another model than {what}: only where things lie may be set, "
                f"{', '.join(PLACES)}"
            )
    given = made.record.card.lineage.get("spec")
    if not isinstance(given, dict) or not all(isinstance(given.get(name), dict) for name in SECTIONS):
        raise UserError(f"{what} does not say by which spec it was trained: it was not trained by advseg, or long ago")
    # On the test images no training depends, and they need not be here.
    dataset = {**given["dataset"], "test": None}
    document = {"job": "train", **{key: given.get(key) for key in ("name", *SECTIONS)}, "dataset": dataset}
    document["export"] = given.get("export", "last")
    if any(override.startswith("dataset.root") for override in overrides):
        dataset["pack"] = None
    override_keys(document, overrides)
    return parse_spec(without_gone(document), source=f"the spec of {what}")


def refuse_other_code(made: Made) -> None:
    """Raise NotReproducedError if the code that trains is known to be other than then."""
    then, ours = made.environment, code_digest(TRAINING)
    if then.code in (None, ours):
        return
    commands = {"pip install advseg==": then.advseg, "git checkout ": made.commit}
    ways = [f"`{command}{name}`" for command, name in commands.items() if name and _NAME.fullmatch(name)]
    if made.diff_of and ways:
        ways[-1] += f" with the changes in code.diff of MLflow's run {made.diff_of}"
    remedy = f"install that, by {' or '.join(ways)}" if ways else "install that"
    raise NotReproducedError(
        f"{made.record.description} was trained by other code in models/ and trainers/ (digest "
        f"{then.code[:_DIGITS]}, here {ours[:_DIGITS]}): {remedy}; --any-code shows whether it makes a difference"
    )


def refuse_other_input(made: Made, spec: Spec) -> list[str]:
    """Raise UserError if dataset or start weights are not those of then; the names of what is not known of then."""
    lineage, what = made.record.card.lineage, made.record.description
    unknown = []
    digest = open_dataset(spec.dataset).digest
    if (then := lineage.get("dataset_digest")) is None:
        unknown.append("dataset")
    elif digest != then:
        raise DatasetError(
            f"dataset {spec.dataset.pack or spec.dataset.root} has digest {digest[:_DIGITS]}, but {what} was trained "
            f"on {then[:_DIGITS]}: restore it, or name where that one lies, as in --set dataset.root=DIR"
        )
    if spec.model.weights is not None:
        path = local_weights(spec.model.weights)
        found = digest_of(path)
        if (then := lineage.get("start_weights")) is None:
            unknown.append("start weights")
        elif found != then:
            raise UserError(
                f"start weights {spec.model.weights} have digest {str(found)[:_DIGITS]}, but {what} began with "
                f"{str(then)[:_DIGITS]}: restore them, or name where those lie, as in --set model.weights=FILE"
            )
    return unknown


def _here(then: Environment, spec: Spec) -> Environment:
    """By what it is trained here: as much as can be as it was then."""
    device = torch.device("cpu") if then.device == "cpu" else usual_device()
    here = environment_here(device, min(then.workers or 1, spec.trainer.micro_batch_size))
    return replace(here, threads=then.threads or here.threads)


def _begun(folder: Path | None, made: Made, here: Environment) -> Path:
    """The folder of a training, which says what it reproduces and by what. Raises UserError for another's."""
    identity = json.dumps({"files": dict(made.record.sums), "environment": asdict(here)}, indent=1, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()
    folder = folder or find_home() / "reproduce" / "models" / f"{made.record.folder}-{digest[:_DIGITS]}"
    note = folder / BEGUN
    if not note.exists() and folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder with --to")
    if note.exists() and note.read_text() != identity:
        raise UserError(
            f"{folder} holds the training of another model, or of other code, torch or hardware than here: name "
            f"another folder with --to, or remove it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(note, identity)
    return folder
