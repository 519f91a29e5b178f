"""What an exception means for the training that it ended."""

import errno
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, RayActorError, WorkerCrashedError
from ray.exceptions import OutOfMemoryError as KilledForMemoryError
from ray.train import ControllerError, PreemptionError, PreemptionInfo, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2._internal.execution.context import DistributedContext
from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata, Worker
from safetensors import SafetensorError

from advseg.platform.workers.failures import failure_of, naming_the_machine
from advseg.platform.workers.retry import Failure, Kind
from advseg.trainers.data.dataset import DatasetError
from advseg.trainers.data.images import ImageError
from advseg.trainers.errors import (
    BrokenEnvironmentError,
    CheckpointError,
    CollapseError,
    FencedError,
    ForeignCheckpointError,
    LostProcessError,
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
WORKER = Worker(
    actor=cast("Any", "Actor(RayTrainWorker, 01)"),
    metadata=ActorMetadata(hostname="gpu-7", node_id="e98d", node_ip="127.0.0.3", pid=2627, accelerator_ids={}),
    resources={"CPU": 1},
    distributed_context=DistributedContext(world_rank=0, world_size=1, local_rank=0, local_world_size=1, node_rank=0),
)
ON_A_NODE = WorkerHealthCheckFailedError(f"A worker health check failed.\nWorker info: {WORKER}", ActorDiedError())
TAKEN = RayActorError(error_msg="Its node was\npre-empted.", preempted=True)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (PreemptedError("asked to stop, and saved at step 4"), Kind.PREEMPTED, "asked to stop, and saved at step 4"),
        (NonFiniteLossError("loss/ce at step 5"), Kind.DIVERGED, "loss/ce at step 5"),
        (CollapseError("step 9"), Kind.DIVERGED, "step 9"),
        (UserError("raise it"), Kind.ERROR, "raise it"),
        (FencedError("not yours"), Kind.FENCED, "not yours"),
        (ForeignCheckpointError("it is another's"), Kind.ERROR, "it is another's"),
        (ValueError("odd"), Kind.ERROR, "ValueError: odd"),
        (AssertionError(), Kind.ERROR, "AssertionError"),
        (RuntimeError("in\nseveral\n  lines"), Kind.ERROR, "RuntimeError: in several lines"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried"), Kind.OUT_OF_MEMORY, "CUDA out of memory. Tried"),
        (KilledForMemoryError("killed by Ray"), Kind.OUT_OF_MEMORY, "killed by Ray"),
        (NodeDiedError("the node"), Kind.LOST, "the node"),
        (LostProcessError("a process was killed"), Kind.LOST, "a process was killed"),
        (WorkerCrashedError(), Kind.LOST, "The worker died unexpectedly while executing this task"),
        (ActorUnavailableError("away", None), Kind.LOST, "The actor"),
        (DIED, Kind.LOST, "A worker health check failed. The actor died unexpectedly"),
        (ON_A_NODE, Kind.LOST, "A worker health check failed. It was on gpu-7. The actor died unexpectedly"),
        (WorkerHealthCheckTimeoutError("no answer"), Kind.LOST, "no answer Set the "),
        (WorkerGroupStartupFailedError("a node died"), Kind.LOST, "a node died"),
        (TAKEN, Kind.PREEMPTED, "Its node was pre-empted."),
        (WorkerHealthCheckFailedError("It failed.", TAKEN), Kind.PREEMPTED, "Its node was pre-empted."),
        (
            PreemptionError(PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"node": [1]})),
            Kind.PREEMPTED,
            "Training was interrupted by node preemption (preempted_ranks=[1]",
        ),
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
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/x"), "OSError: [Errno 28] No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/mnt"), "FileNotFoundError: [Errno 2] No such file: '/mnt'"),
        (PermissionError(errno.EACCES, "Permission denied"), "PermissionError: [Errno 13] Permission denied"),
        (ConnectionRefusedError("S3"), "ConnectionRefusedError: S3"),
        (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), "SafetensorError: "),
        (CheckpointError("no checkpoint is whole"), "no checkpoint is whole"),
        (DatasetError("2 problems in dataset /d:\n  a\n  b"), "2 problems in dataset /d: a b"),
        (ImageError("a.png cannot be read"), "a.png cannot be read"),
        (RuntimeError("No CUDA GPUs are available"), "RuntimeError: No CUDA GPUs"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "AcceleratorError: CUDA"),
        (AssertionError("Torch not compiled with CUDA enabled"), "AssertionError: Torch"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
class TestEnvironment:
    def test_is_to_blame_for_what_names_a_disk_a_file_a_driver_or_a_server(self, error: Exception, text: str) -> None:
        failure = failure_of(error)
        assert failure.kind is Kind.ENVIRONMENT
        assert failure.text.startswith(f"on {socket.gethostname()}: {text}")
        assert "\n" not in failure.text

    def test_is_named_by_its_machine_wherever_that_is_heard_of(
        self, error: Exception, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch, pytest.raises(BrokenEnvironmentError) as caught, naming_the_machine():
            patch.setattr(socket, "gethostname", lambda: "node-7")
            raise error
        arrived = pickle.loads(pickle.dumps(caught.value))
        assert of_workers(arrived) == Failure(kind=Kind.ENVIRONMENT, text=str(caught.value))
        assert str(caught.value).startswith(f"on node-7: {text}")


@pytest.mark.parametrize("error", [ValueError("odd"), UserError("raise it"), PreemptedError(), MemoryError()])
def test_what_is_not_the_environments_keeps_its_own_name(error: Exception) -> None:
    with pytest.raises(type(error)), naming_the_machine():
        raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), Kind.ERROR),
        (torch.AcceleratorError("CUDA error: out of memory"), Kind.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Kind.OUT_OF_MEMORY),
        (torch.distributed.DistNetworkError("The client socket has timed out"), Kind.LOST),
    ],
)
def test_what_a_working_machine_says_is_told_from_what_a_broken_one_says(error: Exception, kind: Kind) -> None:
    assert failure_of(error).kind is kind


def test_what_a_full_disk_makes_of_a_checkpoint_is_the_disks(tmp_path: Path) -> None:
    code = """
import resource, signal, sys, torch
from pathlib import Path
from advseg.platform.workers.failures import failure_of
from advseg.trainers.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(Path(sys.argv[1]), 1, {"tensor": torch.zeros(100_000)})
except Exception as error:
    print(failure_of(error).kind.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["ENVIRONMENT"]


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
            (FencedError("not yours"), [CUT_OFF, DIED, ValueError("odd")]),
            (PreemptedError("saved"), [CUT_OFF, DIED, ValueError("odd")]),
            (TAKEN, [CUT_OFF, DIED, ValueError("odd")]),
            (BrokenEnvironmentError("on node-7: no disk"), [CUT_OFF, DIED, ValueError("odd")]),
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
