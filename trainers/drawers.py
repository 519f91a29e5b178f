"""Processes that draw coming batches, for where threads under Python's lock do not keep up."""

import atexit
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import cv2
import torch

from .data.dataset import Dataset
from .distributed import World
from .drawing import Drawing, Drawn
from .errors import LostProcessError
from .methods.method import Wants
from .progress import tell_of_ticks, tick
from .settings import TrainerSettings

_drawing: Drawing
"""Of the run that this process draws for."""


class Drawers:
    """As many processes as `trainer.speed.workers` says. Close them after use; they end with this process, too."""

    def __init__(self, settings: TrainerSettings, dataset: Dataset, world: World) -> None:
        training = replace(dataset, validation=(), test=())
        # A fork would take along the locks of torch's threads, and what a GPU's driver holds.
        context = get_context("spawn")
        heard, self._told = context.Pipe(duplex=False)
        Thread(target=_tick_along, args=(heard,), daemon=True).start()
        self._pool = ProcessPoolExecutor(
            settings.speed.workers, context, initializer=_begin, initargs=(settings, training, world, self._told)
        )

    def draw(self, step: int, wants: Wants) -> list[Drawn]:
        """As `Drawing.draw`, in shared memory; any thread may ask.

        Raises LostProcessError, too, if a process was killed or there is no room for a batch.
        """
        # The first calls start the processes, which inherit this: Ctrl-C is for the training, which still saves.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            drawn = self._pool.submit(_draw, step, wants)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            return drawn.result()
        except BrokenProcessPool:
            raise LostProcessError(
                "a process of trainer.speed.workers was killed: out of memory or of room in /dev/shm (lower "
                "trainer.speed.workers or prefetch, or give the machine more), or of open files (raise `ulimit -n`): "
                "the same command goes on from the newest checkpoint"
            ) from None

    def close(self) -> None:
        """End the processes after what each draws now."""
        self._pool.shutdown(cancel_futures=True)
        self._told.close()


def _tick_along(heard: Connection) -> None:
    """What those processes bring to an end, such as the fetching of a shard, is progress of this one."""
    with heard, suppress(EOFError):
        while heard.recv_bytes():
            tick()


def _begin(settings: TrainerSettings, dataset: Dataset, world: World, told: Connection) -> None:
    # What ends a whole group is for the training, too.
    os.setpgrp()
    # To take torch apart would keep whoever closes waiting for seconds.
    atexit.register(os._exit, 0)
    Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    tell_of_ticks(lambda: told.send_bytes(b"."))
    global _drawing
    _drawing = Drawing(settings, dataset, world)


def _draw(step: int, wants: Wants) -> list[Drawn]:
    drawn = _drawing.draw(step, wants)
    try:
        for each in drawn:
            each.memory.share_memory_()
    except RuntimeError as error:
        # Torch leaves the file for which there was no room; it takes away the name of every other at once.
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):
            left.unlink()
        cause, *_ = str(error).splitlines()
        raise LostProcessError(
            f"a process of trainer.speed.workers found no room for a batch in /dev/shm ({cause}): lower "
            "trainer.speed.workers or prefetch, or give it more, in Docker by --shm-size: the same command goes on "
            "from the newest checkpoint"
        ) from None
    return drawn


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent
    parent.join()
    os._exit(1)
