"""The code of this project as a process imports it, which is to be the code that was sent with its job."""

import hashlib
import logging
import os
import socket
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
    """Log a warning if this process imports other code than was sent with its job."""
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
    # Where none of its files lies beside those of the job, all of them are an image's.
    which = f"{', '.join(foreign[:_SHOWN])}{more} beside it" if foreign else f"that of {package_folders()[0].parent}"
    log.warning(
        "%s imports other code of advseg (digest %s) than was sent (%s), %s: uninstall advseg from its image",
        socket.gethostname(),
        code_digest()[:12],
        sent[:12],
        which,
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
