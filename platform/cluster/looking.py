"""What a node finds out about itself for a job: it runs there, in the environment of the job's workers.

What is not of the standard library is imported where it is used, for the node may lack it.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...trainers.errors import BrokenEnvironmentError, UserError, brief
from ..base.code_digest import code_digest
from ..base.mlflow_account import log_in

PACKAGES = ("torch", "numpy", "opencv-python-headless", "pillow", "pyarrow", "safetensors", "pydantic", "mlflow")
"""What trains, or speaks to a server: on all nodes of the same version."""
LEAST_FREE = 2**30
"""Bytes that Ray and a training need on a node's own disk."""
_LONGEST = 800
"""Characters of what is wrong with a dataset."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What there is on a machine."""

    packages: Mapping[str, str | None]
    """Versions, None for what is not installed."""
    code: str
    """Digest of this project's code, as it is imported there."""
    lacks: Sequence[str] = ()
    """What a job needs beside these and does not find."""


def programs() -> Sight:
    """The packages and the code of this machine."""
    return Sight(packages={name: _version(name) for name in PACKAGES}, code=code_digest())


def look(storage: str, nonce: str, tracking_uri: str | None) -> Sight:
    """What this machine has. It is to find the nonce in the storage, and MLflow to answer it if an address is given."""
    lacks = [*_of_storage(storage, nonce), *_of_disk(Path.cwd())]
    if tracking_uri is not None:
        lacks += _of_mlflow(tracking_uri)
    return replace(programs(), lacks=lacks)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """The dataset of a spec as it lies on a machine."""

    digest: str | None = None
    lack: str = ""
    """Why it cannot be opened, if it cannot."""


def read_copy(document: dict[str, Any]) -> Copy:
    """This machine's copy of a spec's dataset, of which every file has been read."""
    try:
        from ..spec.paths import missing_files
        from ..spec.spec import spec_from
        from .opened import digest_of
    except ImportError as error:
        return Copy(lack=f"the dataset cannot be read without {error.name}")
    if missing := [str(problem) for problem in missing_files(document)]:
        return Copy(lack="; ".join(missing))
    try:
        return Copy(digest=digest_of(spec_from(document)))
    except (UserError, BrokenEnvironmentError, OSError) as error:
        return Copy(lack=brief(" ".join(str(error).split()), _LONGEST))


def _of_storage(storage: str, nonce: str) -> Iterator[str]:
    try:
        from ..storage.opening import open_store
        from ..storage.s3_client import Patience
        from ..storage.store import MissingKeyError, StoreError
    except ImportError:
        return  # As the packages say.
    store = open_store(storage, Patience(outage_s=0))
    probe = f"{nonce}-{uuid.uuid4().hex}"
    try:
        store.read(nonce)
        store.write(probe, b"")
        store.remove(probe)
    except MissingKeyError:
        yield f"storage {storage} is not what the driver sees there: all nodes need the same"
    except StoreError as error:
        yield str(error)
    except OSError as error:
        yield f"storage {storage} cannot be used ({error.strerror})"


def _of_disk(folder: Path) -> Iterator[str]:
    if (free := shutil.disk_usage(folder).free) < LEAST_FREE:
        yield f"the disk of {folder} has {free / 2**20:.0f} MiB left, but needs {LEAST_FREE / 2**20:.0f}: make room"


def _of_mlflow(tracking_uri: str) -> Iterator[str]:
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        from ..tracking.patience import is_away, reason_of
    except ImportError:
        return  # As the packages say.
    log_in()
    with _environment(_PATIENCE):
        try:
            MlflowClient(tracking_uri).search_experiments(max_results=1)
        except MlflowException as error:
            if is_away(error):
                yield f"MLflow does not answer at {tracking_uri} ({reason_of(error)})"
            else:
                yield f"MLflow refuses at {tracking_uri}: {reason_of(error)}"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Another environment for a while: this process may run something else of the job later."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _version(package: str) -> str | None:
    try:
        # A build for GPUs, as in 2.13.0+cu126, is the same version.
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None
