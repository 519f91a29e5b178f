"""What an exception means for the training that it ended."""

import torch
from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError
from ray.exceptions import OutOfMemoryError as KilledForMemoryError
from ray.train import ControllerError, TrainingFailedError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from ...trainers.errors import DivergedError, PreemptedError, UserError
from .retry import Failure, Kind

_LOST = (
    NodeDiedError,
    RayActorError,
    WorkerCrashedError,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
_TELLING = (Kind.PREEMPTED, Kind.OUT_OF_MEMORY, Kind.DIVERGED, Kind.LOST, Kind.ERROR)
"""Of several workers' failures, what tells most of the cause first."""
_CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory"
_CUT_OFF = ("gloo/transport", "ncclRemoteError")
"""What a worker says that has lost its connection to another, which failed."""


def failure_of(error: BaseException) -> Failure:
    """How a training failed, in one line."""
    match error:
        case UserExceptionWithTraceback():
            return failure_of(error._base_exc)
        case TrainingFailedError() if failures := getattr(error, "worker_failures", None):
            return failure_of(min(failures.values(), key=_place))
        case ControllerError():
            return failure_of(error.controller_failure)
        case PreemptedError():
            return Failure(kind=Kind.PREEMPTED, text=str(error))
        case DivergedError():
            return Failure(kind=Kind.DIVERGED, text=str(error))
        case UserError():
            return Failure(kind=Kind.ERROR, text=str(error))
        case torch.cuda.OutOfMemoryError() | MemoryError() | KilledForMemoryError():
            return Failure(kind=Kind.OUT_OF_MEMORY, text=_one_line(error))
        case RuntimeError() if _CPU_MEMORY in str(error):
            return Failure(kind=Kind.OUT_OF_MEMORY, text=_one_line(error))
        case _ if isinstance(error, _LOST) or _is_cut_off(error):
            return Failure(kind=Kind.LOST, text=_one_line(error))
        case _:
            return Failure(kind=Kind.ERROR, text=f"{type(error).__name__}: {_one_line(error)}".rstrip(": "))


def _place(error: BaseException) -> tuple[bool, int]:
    """Where an error comes among those of several workers: whoever was cut off knows nothing of the cause."""
    return _is_cut_off(error), _TELLING.index(failure_of(error).kind)


def _is_cut_off(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CUT_OFF)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
