"""This project's code, which travels with every job so that a cluster runs what its submitter has."""

import hashlib
import logging
import os
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)

PACKAGES = ("models", "trainers", "platform", "jobs")
TRAINING = ("models", "trainers")
"""What determines the results of a training."""
CODE = "ADVSEG_CODE"
"""Environment variable with the digest of the code that was sent with a job."""
_SHOWN = 3


def copy_package(folder: Path) -> Path:
    """Copy the packages as they are imported here to `folder/advseg`, and return that.

    A folder, not a wheel: Ray installs a wheel by pip with all its requirements, torch among them, into a place
    of its own, and takes two wheels of one file name for the same. A folder it names by its contents.
    """
    package = folder / "advseg"
    for name, source in zip(PACKAGES, package_folders(), strict=True):
        shutil.copytree(source, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def package_folders() -> list[Path]:
    """Where the packages are imported from first."""
    return [locations[0] for name in PACKAGES if (locations := _locations(name))]


@cache
def code_digest(packages: tuple[str, ...] = PACKAGES) -> str:
    """Identity of the code of some packages as it is imported here, in 64 digits.

    `platform` is a namespace package: a job's own folder and an older one of its image merge, and a module that
    is in the latter alone counts as well, for it can be imported.
    """
    digest = hashlib.sha256()
    for name in packages:
        for relative, path in sorted(_modules(name).items()):
            digest.update(f"{name}/{relative}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def tell_of_other_code() -> None:
    """Log a warning if a job imports other code than was sent with it."""
    sent = os.environ.get(CODE)
    if sent in (None, code_digest()):
        return
    foreign = [
        str(path)
        for name in PACKAGES
        for path in sorted(_modules(name).values())
        if not path.is_relative_to(_locations(name)[0])
    ]
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    also = f", and these files were not sent: {', '.join(foreign[:_SHOWN])}{more}" if foreign else ""
    log.warning(
        "this node imports other code of advseg (digest %s) than was sent (%s)%s: uninstall advseg from its image",
        code_digest()[:12],
        sent[:12],
        also,
    )


def _modules(package: str) -> dict[str, Path]:
    """The files of a package by their paths in it; of two with the same path the one that is imported."""
    found: dict[str, Path] = {}
    for folder in _locations(package):
        for path in folder.rglob("*.py"):
            found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def _locations(package: str) -> list[Path]:
    """The folders of a package, that which is searched first at first."""
    spec = find_spec(f"advseg.{package}")
    return [Path(location) for location in (spec and spec.submodule_search_locations) or ()]
