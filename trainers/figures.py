"""How fast a training goes, and what it takes of its machine.

That is measured and never comes out twice, so it goes with the reports, and into no checkpoint, outcome or model.
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .methods.method import Wants
from .recipe import Recipe
from .reporter import IMAGES, MATMUL, MEMORY, WAITING
from .settings import DTYPES
from .waiting import Timed
from .work import flops_of_step, matmul_rate


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step is, over all workers."""

    images: int
    """Those that go through the segmenter."""
    least_s: float = 0.0
    """Seconds that its matrix products take at the devices' best; 0 if that is not known."""


def work_of_steps(
    recipe: Recipe, classes: int, ignore_index: int, wants: Callable[[int], Wants], workers: int, device: torch.device
) -> Callable[[int], Work]:
    """What each step is. On a GPU its best is measured by this, and steps are counted, for some seconds in all.

    A CPU, which others use too, has no best to speak of.
    """
    trainer = recipe.trainer
    least_s: dict[Wants, float] = {}

    def kind_of(step: int) -> Wants:
        # Masks that only measure go through no network.
        return replace(wants(step), unlabelled_labels=False)

    if device.type == "cuda":
        dtype = torch.bfloat16 if trainer.speed.autocast else DTYPES[trainer.precision]
        rate = workers * matmul_rate(device, dtype)
        firsts = {kind_of(step): step for step in reversed(range(trainer.steps))}
        least_s = {kind: flops_of_step(recipe, classes, ignore_index, step) / rate for kind, step in firsts.items()}
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    def work(step: int) -> Work:
        kind = kind_of(step)
        views = kind.unlabelled + len(kind.strong)
        images = trainer.accumulation * (trainer.micro_batch_size + views * trainer.unlabelled_micro_batch_size)
        return Work(images=images, least_s=least_s.get(kind, 0.0))

    return work


class Figures:
    """What the steps since the last report came to. Time counts from `begin` to `pause`."""

    def __init__(self, batches: Timed, work: Callable[[int], Work], device: torch.device) -> None:
        self._batches = batches
        self._work = work
        self._device = device
        self._began: float | None = None
        self._waited_before = 0.0
        self._forget()

    def begin(self) -> None:
        """Steps begin, unless they have since the last pause."""
        if self._began is None:
            self._began = self._batches.clock()
            self._waited_before = self._batches.waited

    def made(self, step: int) -> None:
        """A step was made."""
        work = self._work(step)
        self._images += work.images
        self._least_s += work.least_s

    def pause(self) -> None:
        """What follows is no step. Waits for the device."""
        if self._began is not None:
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._seconds += self._batches.clock() - self._began
            self._waited += self._batches.waited - self._waited_before
            self._began = None

    def take(self) -> dict[str, float]:
        """The figures since the last call, and a pause."""
        self.pause()
        figures = {MEMORY: peak_memory(self._device)}
        if self._seconds:
            figures |= {IMAGES: self._images / self._seconds, WAITING: self._waited / self._seconds}
            if self._least_s:
                figures[MATMUL] = self._least_s / self._seconds
        self._forget()
        return figures

    def _forget(self) -> None:
        self._images = 0
        self._seconds = self._waited = self._least_s = 0.0


def peak_memory(device: torch.device) -> float:
    """The most that this process held, in GiB, of a GPU's memory or of the host's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
