"""Trainings on this machine, several at a time, each in a process of its own."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path

import torch

from ..platform.base.pool import pool_of
from ..platform.spec.spec import Spec
from ..platform.workers import preemption
from ..trainers.devices import usual_device
from ..trainers.errors import BrokenEnvironmentError, PreemptedError
from .train import tell_of_stopping, train_beside_others


def train_side_by_side(asked: Mapping[Path, Spec], processes: int, tell: Callable[[Path], None]) -> None:
    """Train each spec in its folder, so many at a time, and tell of each that is done.

    Each process takes a GPU of its own where there are as many; where there are fewer, they share them.

    Raises PreemptedError if SIGTERM or Ctrl-C ended it, once those under way are saved, and what ended a training, once
    the others are.
    """
    if processes == 1:
        for folder, spec in asked.items():
            train_beside_others(spec, folder, usual_device())
            tell(folder)
        return
    with pool_of(processes) as pool, preemption.listening(_stop), preemption.training():
        try:
            _train(pool, asked, processes, tell)
        except KeyboardInterrupt:
            for child in active_children():
                child.kill()
            raise
        except BaseException:
            _ask_all()
            raise


def _train(pool: ProcessPoolExecutor, asked: Mapping[Path, Spec], processes: int, tell: Callable[[Path], None]) -> None:
    """Have the pool train, handing out no more than it has processes: none begins another after it was asked to end."""
    waiting, running = iter(asked.items()), dict[Future[None], tuple[Path, int]]()
    free, gpus = list(range(processes)), torch.cuda.device_count()
    while True:
        while free and not preemption.asked_to_stop() and (task := next(waiting, None)):
            (folder, spec), place = task, free.pop(0)
            running[pool.submit(train_beside_others, spec, folder, device_at(place, gpus))] = folder, place
        if not running:
            break
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            folder, place = running.pop(done)
            free.append(place)
            try:
                done.result()
            except (PreemptedError, BrokenProcessPool) as error:
                if not preemption.asked_to_stop():
                    raise BrokenEnvironmentError(
                        f"the training in {folder} was killed, perhaps for want of memory: the same command goes on"
                    ) from error
            else:
                tell(folder)
    if preemption.asked_to_stop():
        raise PreemptedError("asked to stop, and saved what was under way")


def device_at(place: int, gpus: int) -> torch.device:
    """The device of a training at one of several places, on a machine with so many GPUs."""
    return torch.device("cuda", place % gpus) if gpus else torch.device("cpu")


def _stop() -> None:
    tell_of_stopping()
    _ask_all()


def _ask_all() -> None:
    """Have those that train save and end; others just end."""
    for child in active_children():
        child.terminate()
