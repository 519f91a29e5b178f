"""A model by the name under which it is registered, or by its folder. It takes neither MLflow nor a cluster."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import torch

from . import bundle
from .bundle import Model, model_files
from .manifest import MANIFEST, BrokenDirectoryError
from .sources import refusal
from .tracking_server import RegistryError, TrackingServer, UnknownError, find_server

_REFERENCE = re.compile("[^@/]+@[^@/]+")
_SHOWN = 200
"""Characters of an address."""


def load(model: str | Path, device: str | torch.device = "cpu") -> Model:
    """The model in a folder, or a registered one, `<name>@<alias>` or `<name>@<version>`, on a device.

    A registered one comes from the server that MLFLOW_TRACKING_URI names, else from the one that `advseg up` runs here:
    what its manifest lists, checked by it. Raises RegistryError if it cannot be had, BrokenDirectoryError, a
    ValueError, for what is incomplete, was changed or is no model, and ValueError for a device that is not there.
    """
    if isinstance(model, Path) or not _REFERENCE.fullmatch(model) or Path(model).exists():
        return bundle.load(model, device)
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
        server.download(f"{place.path.strip('/')}/{MANIFEST}", folder / MANIFEST)
        for name in model_files(folder):
            server.download(f"{place.path.strip('/')}/{name}", folder / name)
    except UnknownError as error:
        raise RegistryError(f"{reference} is not whole, as files of it are gone: {error}") from None


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
        raise RegistryError(f"there is no model {reference}: {error}") from None
    except (KeyError, TypeError):
        raise RegistryError(f"{server.url} does not answer as an MLflow server does") from None
