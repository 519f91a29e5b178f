"""The place where an MLflow server keeps artifacts, and which locations are in it."""

from pathlib import Path
from urllib.parse import urlsplit

from mlflow.utils.file_utils import local_file_uri_to_path

from ..base.addresses import is_address


def is_own(location: str, place: str) -> bool:
    """Whether a location is a place, a folder or an address, or below it. A path counts as what it leads to."""
    if is_address(place):
        return f"{location}/".startswith(place.rstrip("/") + "/")
    if urlsplit(location).scheme not in ("", "file"):
        return False
    return Path(local_file_uri_to_path(location)).resolve().is_relative_to(Path(place).resolve())
