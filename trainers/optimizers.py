"""Optimizers by name, and how their rates change over a training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from ..models.settings import ChosenBy, Interval, Settings

Schedule = Literal["poly", "cosine", "constant"]
_BETA = Interval(0, 1, open_high=True)


@dataclass(frozen=True, kw_only=True)
class SGDSettings(Settings):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[float, Interval(0, open_low=True)] = 2.5e-4
    """Learning rate at the first step."""
    momentum: Annotated[float, Interval(0, 1)] = 0.9
    nesterov: bool = False
    """Nesterov's momentum, which looks ahead; it needs a momentum above 0."""
    weight_decay: Annotated[float, Interval(0)] = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, but momentum is 0: raise it or turn nesterov off")


@dataclass(frozen=True, kw_only=True)
class AdamSettings(Settings):
    """Adam, or AdamW with its decoupled weight decay."""

    name: Literal["adam", "adamw"] = "adam"
    lr: Annotated[float, Interval(0, open_low=True)] = 1e-4
    """Learning rate at the first step."""
    betas: tuple[Annotated[float, _BETA], Annotated[float, _BETA]] = (0.9, 0.99)
    weight_decay: Annotated[float, Interval(0)] = 0.0


OptimizerSettings = Annotated[SGDSettings | AdamSettings, ChosenBy("name")]


def build_optimizer(
    settings: OptimizerSettings, groups: Sequence[dict[str, Any]], *, fused: bool
) -> torch.optim.Optimizer:
    """The optimizer over parameter groups, each with `params` and a factor `scale` of the learning rate.

    `fused` is whether it goes through memory once for all arithmetic.
    """
    match settings:
        case SGDSettings():
            return torch.optim.SGD(
                groups,
                lr=settings.lr,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
                fused=fused,
            )
        case AdamSettings():
            kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
            return kind(groups, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the rate `lr` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def decay(schedule: Schedule, done: float, power: float) -> float:
    """Factor in [0, 1] of the base rate, of which so much of the training is `done`, from 0 to 1.

    `poly` is (1 - done) ** power (Chen et al., 2017), `cosine` half a wave (Loshchilov & Hutter, 2017).
    """
    match schedule:
        case "poly":
            return (1 - done) ** power
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "constant":
            return 1.0
