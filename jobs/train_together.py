"""One training on this machine by as many workers as it had elsewhere, each a process, without Ray."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from ..platform.base.environment import Environment
from ..platform.base.pool import pool_of
from ..platform.spec.spec import Spec
from ..trainers.distributed import World
from ..trainers.errors import BrokenEnvironmentError, DivergedError, UserError
from ..trainers.reporter import Reporter
from .train import train


def train_as(spec: Spec, folder: Path, reporter: Reporter, environment: Environment) -> None:
    """`train` by the workers, threads and kind of device of an environment: one, as here and a CPU by default.

    Raises UserError for GPUs that there are not, and BrokenEnvironmentError if a worker was killed.
    """
    workers = environment.workers or 1
    on_gpus = environment.device == "cuda"
    if on_gpus and workers > torch.cuda.device_count():
        raise UserError(
            f"it was trained by {workers} workers, each with a GPU, but this machine has {torch.cuda.device_count()}: "
            f"reproduce it where there are as many"
        )
    if workers == 1:
        _set_threads(environment)
        train(spec, folder, reporter, device=_device(on_gpus, 0))
        return
    with (
        TemporaryDirectory(prefix="advseg-") as meeting,
        pool_of(workers) as pool,
    ):
        worlds = (World(rank=rank, size=workers) for rank in range(workers))
        asked = [pool.submit(_work, spec, folder, reporter, environment, world, on_gpus, meeting) for world in worlds]
        _raise_first(asked)


def _work(
    spec: Spec, folder: Path, reporter: Reporter, environment: Environment, world: World, on_gpus: bool, meeting: str
) -> None:
    """The share of one worker."""
    _set_threads(environment)
    device = _device(on_gpus, world.rank)
    store, _, _ = next(rendezvous(f"file://{meeting}/store", world.rank, world.size))
    with joined(world, device, store, on_one_machine=True):
        train(spec, folder, reporter, world=world, device=device)


@contextmanager
def joined(world: World, device: torch.device, store: Store, *, on_one_machine: bool) -> Iterator[None]:
    """Meanwhile this process can send to the others what lies on its device; `store` is where they meet."""
    if on_one_machine and sys.platform == "linux":
        # Not all machines can be reached by their own names.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size)
    try:
        yield
    finally:
        # The others, which wait for this one, learn that it has gone.
        dist.destroy_process_group()


def _device(on_gpus: bool, rank: int) -> torch.device:
    return torch.device("cuda", rank) if on_gpus else torch.device("cpu")


def _set_threads(environment: Environment) -> None:
    if environment.threads:
        torch.set_num_threads(environment.threads)


def _raise_first(asked: list[Future[None]]) -> None:
    """Wait for all, and raise what went wrong: where one fails the others do, too, and know less of the cause."""
    errors = [error for future in asked if (error := future.exception())]
    for error in sorted(errors, key=lambda error: not isinstance(error, UserError | DivergedError | OSError)):
        if isinstance(error, BrokenProcessPool):
            raise BrokenEnvironmentError(
                "a worker was killed, perhaps for want of memory: make room, and the same command goes on"
            ) from None
        raise error
