"""What an exception means for the training that it ended."""

import numpy as np
import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, WorkerCrashedError
from ray.exceptions import OutOfMemoryError as KilledForMemoryError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from advseg.platform.workers.failures import failure_of
from advseg.platform.workers.retry import Failure, Kind
from advseg.trainers.errors import (
    CheckpointError,
    CollapseError,
    FencedError,
    NonFiniteLossError,
    PreemptedError,
    UserError,
)

CUT_OFF = RuntimeError(
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:15250. "
    "This is typically caused by a remote worker crashing."
)
CUT_OFF_ON_GPUS = torch.distributed.DistBackendError(
    "NCCL error in: ProcessGroupNCCL.cpp:3356, remote process exited or there was a network error, NCCL version 2.28\n"
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."
)
DIED = WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (PreemptedError("asked to stop, and saved at step 4"), Kind.PREEMPTED, "asked to stop, and saved at step 4"),
        (NonFiniteLossError("loss/ce at step 5"), Kind.DIVERGED, "loss/ce at step 5"),
        (CollapseError("step 9"), Kind.DIVERGED, "step 9"),
        (UserError("raise it"), Kind.ERROR, "raise it"),
        (CheckpointError("no checkpoint is whole"), Kind.ERROR, "no checkpoint is whole"),
        (FencedError("not yours"), Kind.ERROR, "FencedError: not yours"),
        (ValueError("odd"), Kind.ERROR, "ValueError: odd"),
        (AssertionError(), Kind.ERROR, "AssertionError"),
        (RuntimeError("in\nseveral\n  lines"), Kind.ERROR, "RuntimeError: in several lines"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried"), Kind.OUT_OF_MEMORY, "CUDA out of memory. Tried"),
        (KilledForMemoryError("killed by Ray"), Kind.OUT_OF_MEMORY, "killed by Ray"),
        (NodeDiedError("the node"), Kind.LOST, "the node"),
        (WorkerCrashedError(), Kind.LOST, "The worker died unexpectedly while executing this task"),
        (ActorUnavailableError("away", None), Kind.LOST, "The actor"),
        (DIED, Kind.LOST, "A worker health check failed. The actor died unexpectedly"),
        (WorkerHealthCheckTimeoutError("no answer"), Kind.LOST, "no answer Set the "),
        (WorkerGroupStartupFailedError("a node died"), Kind.LOST, "a node died"),
        (CUT_OFF, Kind.LOST, "[/pytorch/third_party/gloo/"),
        (CUT_OFF_ON_GPUS, Kind.LOST, "NCCL error in: "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_is_of_a_kind_and_said_in_a_line(error: BaseException, kind: Kind, text: str) -> None:
    failure = failure_of(error)
    assert failure.kind is kind
    assert failure.text.startswith(text)
    assert "\n" not in failure.text


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, np.uint8), lambda: bytearray(2**60)],
    ids=["PyTorch", "NumPy", "Python"],
)
def test_memory_that_is_not_there_is_told_from_other_errors(allocate) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert failure_of(caught.value).kind is Kind.OUT_OF_MEMORY


def of_workers(*errors: Exception) -> Failure:
    return failure_of(WorkerGroupError("in several words", dict(enumerate(errors))))


class TestWorkers:
    @pytest.mark.parametrize(
        ("telling", "others"),
        [
            (PreemptedError("saved"), [CUT_OFF, DIED, ValueError("odd")]),
            (torch.cuda.OutOfMemoryError("out"), [CUT_OFF, DIED, ValueError("odd")]),
            (NonFiniteLossError("loss/ce"), [CUT_OFF, DIED, ValueError("odd")]),
            # Ray notices it after the others have broken of it.
            (DIED, [CUT_OFF, ValueError("odd")]),
            (ValueError("odd"), [CUT_OFF, CUT_OFF_ON_GPUS]),
            (UserError("raise it"), [CUT_OFF]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_fail_as_the_one_that_tells_most_of_the_cause(self, telling: Exception, others: list[Exception]) -> None:
        assert of_workers(telling, *others) == of_workers(*others, telling) == failure_of(telling)

    def test_that_all_were_cut_off_lost_one_that_nothing_is_known_of_yet(self) -> None:
        assert of_workers(CUT_OFF, CUT_OFF).kind is Kind.LOST

    def test_fail_by_what_they_raised_and_not_by_its_traceback(self) -> None:
        wrapped = UserExceptionWithTraceback(NonFiniteLossError("loss/ce"), "Traceback ...")
        assert failure_of(wrapped) == of_workers(CUT_OFF, wrapped) == Failure(kind=Kind.DIVERGED, text="loss/ce")

    def test_that_ray_could_not_even_start_fail_as_what_hindered_it(self) -> None:
        """As when one dies while they form their process group."""
        assert failure_of(ControllerError(ActorDiedError())).kind is Kind.LOST
        assert failure_of(ControllerError(ValueError("odd"))) == Failure(kind=Kind.ERROR, text="ValueError: odd")
