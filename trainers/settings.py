"""Settings of a run of training that are the same for every method."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from ..models.inference import EvaluationSettings
from ..models.resize import Resize, refuse_huge
from ..models.settings import Interval, Settings
from .data.augment import AugmentationSettings
from .optimizers import OptimizerSettings, Schedule, SGDSettings, decay
from .speed import SpeedSettings

POWER = 0.9
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class OhemSettings(Settings):
    """Online hard example mining: only hard pixels of labelled images count, told from others over all workers.

    Fields and values are those of UniMatch's cross-entropy on Cityscapes (its configs/cityscapes.yaml), which counts
    the pixels of each worker by itself.
    """

    threshold: Annotated[float, Interval(0, 1, open_low=True, open_high=True)] = 0.7
    """Softmax probability of its class up to which a pixel is hard."""
    least: Annotated[int, Interval(1)] = 200_000
    """Pixels of a batch that count at least: the hardest ones, where fewer are hard. Of each micro-batch a part."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(Settings):
    """A whole run of training: its length, its batches, the segmenter's optimizer and the rhythm of evaluation."""

    steps: Annotated[int, Interval(1)]
    """Changes of the weights, each after one batch."""
    batch_size: Annotated[int, Interval(1)] = 10
    """Labelled images a step, over all workers."""
    unlabelled_batch_size: Annotated[int, Interval(1)] | None = None
    """Unlabelled images a step, over all workers, where the method learns from such. None: as many as labelled ones."""
    accumulation: Annotated[int, Interval(1)] = 1
    """Micro-batches that a batch is divided into, to save memory. Each has means of its own, and the step their
    mean."""
    class_weights: tuple[Annotated[float, Interval(0)], ...] | Literal["balanced"] | None = None
    """Weights of the classes in the cross-entropy on labelled images, a list in their order; the mean is a weighted one
    over the micro-batch. balanced: each is inverse to how many pixels the class has in the labelled masks, which are
    counted once, as the training begins. None: all pixels alike."""
    ohem: OhemSettings | None = None
    """Which pixels of labelled images count in the cross-entropy. None: all that are known."""
    segmenter_optimizer: OptimizerSettings = SGDSettings()
    body_lr_factor: Annotated[float, Interval(0, open_low=True)] = 1.0
    """Learning rate of the segmenter's body, as a multiple of the optimizer's."""
    head_lr_factor: Annotated[float, Interval(0, open_low=True)] = 10.0
    """Learning rate of the segmenter's classifier, as a multiple of the optimizer's."""
    schedule: Schedule = "poly"
    """How the rate of every network goes down: poly is (1 - step / steps) ** power, cosine is half a wave to 0,
    constant stays."""
    power: Annotated[float, Interval(0)] = POWER
    """Exponent of the poly schedule."""
    warmup_steps: Annotated[int, Interval(0)] = 0
    """Steps in which the rate of every network rises linearly before; the schedule takes the steps that are left."""
    max_gradient_norm: Annotated[float, Interval(0, open_low=True)] | None = None
    """Greatest 2-norm of each network's gradient, which is scaled down to it; none by default, as published."""
    seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0
    """Draws fresh weights, batches and augmentation."""
    augmentation: AugmentationSettings
    evaluate_every: Annotated[int, Interval(1)] = 1000
    """Steps between two evaluations, each with a report, and with a checkpoint unless `save_every` says otherwise."""
    save_every: Annotated[int, Interval(1)] | None = None
    """Steps between two checkpoints, which are written while the training goes on; a kill loses the steps since. Beside
    them the last step is saved, every evaluation that is the best so far, and where a training is asked to stop. None:
    at each evaluation."""
    evaluation: EvaluationSettings = EvaluationSettings()
    resize: Resize | None = None
    """At what size the network reads whole images, in training before augmentation: a height and width for all, or
    `{longer: 640}`, by which each keeps its proportions; None is their own."""
    precision: Literal["float32", "float64"] = "float32"
    """Of weights, images and all arithmetic; float64 is for comparisons."""
    speed: SpeedSettings = SpeedSettings()
    collapse_patience: Annotated[int, Interval(1)] | None = 10
    """Reports in a row that tell of a collapse, such as a constant prediction, after which the run stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, size in self._batches.items():
            if size % self.accumulation:
                raise ValueError(f"accumulation must divide {key}, but is {self.accumulation} and {key} {size}")
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            raise ValueError("class_weights must have one above 0, but has none: raise one, or take balanced or null")
        height, width = self.augmentation.crop
        if self.ohem and self.ohem.least >= (pixels := self.batch_size * height * width):
            raise ValueError(
                f"ohem.least must be below the pixels of a batch, {pixels}, but is {self.ohem.least}: lower it"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps must be below steps, {self.steps}, but is {self.warmup_steps}: lower it")
        if self.schedule != "poly" and self.power != POWER:
            raise ValueError(
                f"power is the exponent of schedule poly, but schedule is {self.schedule} and power {self.power:g}: "
                f"remove power, or set schedule to poly"
            )
        refuse_huge(self.resize)
        if self.speed.autocast and self.precision != "float32":
            raise ValueError(f"speed.autocast needs precision float32, but precision is {self.precision}")

    def rate_factor(self, step: int) -> float:
        """Factor in (0, 1] of every network's base rate at a step counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return decay(self.schedule, done, self.power)

    def evaluates(self, step: int) -> bool:
        """Whether the network is evaluated after so many steps."""
        return step % self.evaluate_every == 0 or step == self.steps

    def saves(self, step: int, best_step: int) -> bool:
        """Whether there is to be a checkpoint after so many steps, the best evaluation so far being at `best_step`."""
        if self.save_every is None:
            return self.evaluates(step)
        return step % self.save_every == 0 or step in (best_step, self.steps)

    @property
    def _batches(self) -> dict[str, int]:
        sizes = {"batch_size": self.batch_size, "unlabelled_batch_size": self.unlabelled_batch_size}
        return {key: size for key, size in sizes.items() if size is not None}

    @property
    def micro_batches(self) -> dict[str, int]:
        """Images, over all workers, that go through the networks at once, by the key that sets how many a step has."""
        return {key: size // self.accumulation for key, size in self._batches.items()}

    @property
    def micro_batch_size(self) -> int:
        """Labelled images, over all workers, that go through the networks at once."""
        return self.micro_batches["batch_size"]

    @property
    def unlabelled_micro_batch_size(self) -> int:
        """Unlabelled images, over all workers, that go through the networks at once."""
        return self.micro_batches.get("unlabelled_batch_size", self.micro_batch_size)
