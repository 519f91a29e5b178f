"""What an exception means for the training that it ended."""

import errno
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError
from ray.exceptions import OutOfMemoryError as KilledForMemoryError
from ray.train import ControllerError, PreemptionError, TrainingFailedError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from safetensors import SafetensorError
from torch.distributed import DistNetworkError, DistStoreError

from ...trainers.data.dataset import DatasetError
from ...trainers.data.images import ImageError
from ...trainers.distributed import is_cut_off
from ...trainers.errors import (
    BrokenEnvironmentError,
    CheckpointError,
    DivergedError,
    FencedError,
    ForeignCheckpointError,
    LostProcessError,
    PreemptedError,
    UserError,
)
from .retry import Failure, Kind

_LOST = (
    LostProcessError,
    NodeDiedError,
    RayActorError,
    WorkerCrashedError,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
    DistNetworkError,
    DistStoreError,
)
_TELLING = (
    Kind.FENCED,
    Kind.PREEMPTED,
    Kind.ENVIRONMENT,
    Kind.OUT_OF_MEMORY,
    Kind.DIVERGED,
    Kind.LOST,
    Kind.ERROR,
)
"""Of several workers' failures, what tells most of the cause first."""
_MACHINES = (OSError, CheckpointError, DatasetError, ImageError)
"""What a training raises for its disks, mounts and connections: its own settings were read before it began."""
_DEVICE = (
    "CUDA error",
    "CUDA driver",
    "CUDA initialization",
    "CUDA unknown error",
    "No CUDA GPUs",
    "not compiled with CUDA",
    "NVIDIA driver",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "ncclUnhandledCudaError",
    "ncclSystemError",
)
"""What an error says that comes of a GPU, its driver or what joins several."""
_OUR_BUG = "device-side assert"
"""Is raised by a GPU that works."""
_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_DISK = ("PytorchStreamWriter failed", "I/O error", "IoError")
"""What libraries that are not in Python say of a disk."""
_WORKER = re.compile(r"Worker info: Worker\(.*?hostname='([^']*)'.*?\n\)", re.DOTALL)
"""How Ray Train describes a worker, in 500 characters."""
_LONGEST = 400
"""Characters; a dataset lists twenty problems."""


def failure_of(error: BaseException) -> Failure:
    """How a training failed, in one line."""
    match error:
        case UserExceptionWithTraceback():
            return failure_of(error._base_exc)
        case TrainingFailedError() if failures := getattr(error, "worker_failures", None):
            return failure_of(min(failures.values(), key=_place))
        case ControllerError():
            return failure_of(error.controller_failure)
        case FencedError():
            return Failure(kind=Kind.FENCED, text=str(error))
        case PreemptedError():
            return Failure(kind=Kind.PREEMPTED, text=str(error))
        case WorkerHealthCheckFailedError(health_check_failure=RayActorError(preempted=True)):
            return failure_of(error.health_check_failure)
        case PreemptionError() | RayActorError(preempted=True):
            return Failure(kind=Kind.PREEMPTED, text=_one_line(error))
        case DivergedError():
            return Failure(kind=Kind.DIVERGED, text=str(error))
        case BrokenEnvironmentError():
            return Failure(kind=Kind.ENVIRONMENT, text=_one_line(error))
        case torch.cuda.OutOfMemoryError() | MemoryError() | KilledForMemoryError():
            return Failure(kind=Kind.OUT_OF_MEMORY, text=_one_line(error))
        case RuntimeError() if _says(error, _MEMORY):
            return Failure(kind=Kind.OUT_OF_MEMORY, text=_one_line(error))
        case OSError() if error.errno == errno.ENOMEM:
            return Failure(kind=Kind.OUT_OF_MEMORY, text=_one_line(error))
        case _ if isinstance(error, _LOST) or is_cut_off(error):
            return Failure(kind=Kind.LOST, text=_one_line(error))
        case _ if _is_environments(error):
            return Failure(kind=Kind.ENVIRONMENT, text=_here(error))
        case UserError():
            return Failure(kind=Kind.ERROR, text=str(error))
        case _:
            return Failure(kind=Kind.ERROR, text=_named(error))


@contextmanager
def naming_the_machine() -> Iterator[None]:
    """Raise BrokenEnvironmentError, with this machine's name, for what its disks, drivers or connections broke.

    What another process is told of such an exception says no more where it came from.
    """
    try:
        yield
    except BrokenEnvironmentError:
        raise
    except Exception as error:
        if failure_of(error).kind is not Kind.ENVIRONMENT:
            raise
        raise BrokenEnvironmentError(_here(error)) from error


def _is_environments(error: BaseException) -> bool:
    """Whether an error comes of a disk, a mount, a driver or a connection."""
    match error:
        case ForeignCheckpointError():
            return False
        case RuntimeError() | AssertionError() if _says(error, _DEVICE):
            return _OUR_BUG not in str(error)
        case RuntimeError() | SafetensorError():
            return _says(error, _DISK)
    return isinstance(error, _MACHINES)


def _says(error: BaseException, words: Collection[str]) -> bool:
    return any(each in str(error) for each in words)


def _here(error: BaseException) -> str:
    words = _one_line(error) if isinstance(error, UserError) else _named(error)
    return f"on {socket.gethostname()}: {words if len(words) <= _LONGEST else f'{words[:_LONGEST]} ...'}"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_one_line(error)}".rstrip(": ")


def _place(error: BaseException) -> tuple[bool, int]:
    """Where an error comes among those of several workers: whoever was cut off knows nothing of the cause."""
    return is_cut_off(error), _TELLING.index(failure_of(error).kind)


def _one_line(error: BaseException) -> str:
    return " ".join(_WORKER.sub(r"It was on \1.", str(error)).split())
