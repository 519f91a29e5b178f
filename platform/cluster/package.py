"""This project's code, which travels with every job so that a cluster runs what its submitter has."""

import shutil
from pathlib import Path

from ..base.code_digest import PACKAGES, package_folders


def copy_package(folder: Path) -> Path:
    """Copy the packages as they are imported here to `folder/advseg`, and return that.

    A folder, not a wheel: Ray installs a wheel by pip with all its requirements, torch among them, into a place
    of its own, and takes two wheels of one file name for the same. A folder it names by its contents.
    """
    package = folder / "advseg"
    for name, source in zip(PACKAGES, package_folders(), strict=True):
        shutil.copytree(source, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    return package
