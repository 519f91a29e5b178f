"""A model by the name under which it is registered, or by its folder. It takes neither MLflow nor a cluster."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import torch

from . import bundle
from .bundle import CARD, model_files, read_card, weights_of
from .files import MAX_DOCUMENT_MIB, shown
from .manifest import MANIFEST, BrokenDirectoryError
from .model import Model
from .reference import HISTORY, reference_of
from .sources import refusal
from .tracking_server import RegistryError, TrackingServer, UnknownError, find_server

_REFERENCE = re.compile("[^@/]+@[^@/]+")
_NAME = re.compile(r"[\w-]{1,50}")
_LONGEST = 512
"""Characters of a name and an alias together, each of which MLflow keeps up to 256 of."""
_SHOWN = 200
"""Characters of an address."""


def load(model: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in a folder, or a registered one, `<name>@<alias>` or `<name>@<version>`, on a device.

    A registered one, before which MLflow's `models:/` may stand, comes from the server that MLFLOW_TRACKING_URI names,
    else from the one that `advseg up` runs here: what its manifest lists, checked by it, and no more bytes than the
    networks of its card have. Raises RegistryError if it cannot be had, BrokenDirectoryError, a ValueError, for what is
    incomplete, was changed or is no model, and ValueError for a device that is not there.
    """
    if isinstance(model, Path) or os.path.exists(model):  # noqa: PTH110 Path.exists raises for long names.
        return bundle.load(model, device)
    model = reference_of(model)
    if not _REFERENCE.fullmatch(model):
        name = model if _NAME.fullmatch(model) else "shapes"
        raise BrokenDirectoryError(
            f"there is no folder {shown(model)}: name one, or a registered model, as in {name}@champion"
        )
    if not model.isprintable() or len(model) > _LONGEST:
        raise RegistryError(f"there is no model {shown(model)}: a name is at most {_LONGEST} printable characters")
    with TemporaryDirectory(prefix="advseg-") as scratch:
        folder = Path(scratch)
        try:
            _fetch(find_server(), model, folder)
            return bundle.load(folder, device)
        except BrokenDirectoryError as error:
            raise BrokenDirectoryError(str(error).replace(scratch, model)) from None


def _fetch(server: TrackingServer, reference: str, folder: Path) -> None:
    """Download the files of a registered model. Raises RegistryError, and BrokenDirectoryError for no model's files."""
    source = _source(server, reference)
    if reason := refusal(source, server.url):
        raise RegistryError(f"{reference} is said to lie at {source[:_SHOWN]!r}, but {reason}: register it again")
    place = urlsplit(source)
    if place.scheme != "mlflow-artifacts":
        raise RegistryError(
            f"{reference} lies at {source[:_SHOWN]!r}: bring it by `advseg models pull {reference}`, and load that "
            "folder"
        )
    try:
        for name in (MANIFEST, CARD):
            server.download(f"{place.path.strip('/')}/{name}", folder / name, MAX_DOCUMENT_MIB * 2**20)
        weights = weights_of(read_card(folder, alone=True))
        for name in model_files(folder):
            if name in weights:
                server.download(f"{place.path.strip('/')}/{name}", folder / name, weights[name])
    except UnknownError as error:
        raise RegistryError(
            f"{reference} is not whole, as files of it are gone, or another program's: {error}"
        ) from None


def _source(server: TrackingServer, reference: str) -> str:
    """Where a registered model lies. Raises RegistryError."""
    name, _, which = reference.partition("@")
    is_number = which.isascii() and which.isdigit()
    try:
        if is_number:
            answer = server.ask("mlflow/model-versions/get", name=name, version=which)
        else:
            answer = server.ask("mlflow/registered-models/alias", name=name, alias=which)
        return str(answer["model_version"]["source"])
    except UnknownError as error:
        raise RegistryError(f"there is no model {reference}: {error}{_known(server)}") from None
    except (KeyError, TypeError):
        raise RegistryError(f"{server.url} does not answer as an MLflow server does") from None


def _known(server: TrackingServer) -> str:
    """The registered models, for a message; nothing if the server does not say."""
    try:
        models = server.ask("mlflow/registered-models/search", max_results="100")["registered_models"]
        names = [str(model["name"]) for model in models]
    except (RegistryError, KeyError, TypeError):
        return ""
    known = [name[:_SHOWN] for name in names if name.isprintable() and not name.endswith(HISTORY)]
    return f"; registered models: {', '.join(known)}" if known else ""
