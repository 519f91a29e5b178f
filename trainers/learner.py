"""A network that learns, with all that each has of its own, whatever the method."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..models.segmenter import Segmenter
from .distributed import Pending
from .meter import Meter
from .optimizers import OptimizerSettings, build_optimizer, set_rate
from .profiling import phase
from .settings import TrainerSettings
from .speed import Network, compiled, recompute


class Learner(Generic[Network]):
    """A network, its parameter groups, its optimizer, the schedule of its rate, and the norm of its gradient.

    The network is brought into the memory format that the trainer's `speed` asks for.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        groups: Sequence[dict[str, Any]],
        optimizer: OptimizerSettings,
        trainer: TrainerSettings,
        meter: Meter,
        *,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """`groups` each have `params` and a factor `scale` of the rate; `forward` is another way to call the network.

        `meter` is given the norms as `gradient_norm/<name>`.
        """
        self.name = name
        self.network = trainer.speed.arrange(network.train())
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._forward = network if forward is None else forward
        self._buffer: Tensor | None = None
        """All gradients one after another, once it is known which parameters have one."""
        self._sum: Pending | None = None
        self._rate = optimizer.lr
        self._trainer = trainer
        self._meter = meter
        self.optimizer = build_optimizer(optimizer, groups, fused=trainer.speed.fused_optimizers)

    def __call__(self, maps: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the network makes of images or maps, in the precision of its weights; `forward` is another way to ask.

        That is not compiled.
        """
        speed = self._trainer.speed
        with phase(f"{self.name} forward"), speed.precision(maps.device):
            return (forward or self._forward)(maps.contiguous(memory_format=speed.memory_format))

    def begin(self) -> None:
        """Forget the gradient of the step before."""
        if self._buffer is None:
            self.optimizer.zero_grad()
        else:
            self._buffer.zero_()

    def learn_from(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Add the gradient of a loss to this network's, and to no other's."""
        with phase(f"{self.name} backward"):
            loss.backward(inputs=self._parameters, retain_graph=retain_graph)

    def rate(self, step: int) -> float:
        """Base learning rate at a step."""
        return self._rate * self._trainer.rate_factor(step)

    def share(self) -> None:
        """Begin to sum the gradient, of which no more comes in this step, over all workers."""
        world = self._meter.world
        if self._buffer is None and (world.size > 1 or self._trainer.speed.graphs):
            self._buffer = _in_one_buffer(self._parameters)
        if self._buffer is not None:
            self._sum = world.begin_total(self._buffer)

    def update(self, step: int) -> None:
        """Change the network by the gradient of all workers, cut to the greatest norm."""
        world = self._meter.world
        if self._sum is None:
            self.share()
        if self._sum is not None:
            self._sum.wait()
            self._sum = None
        norm = get_total_norm(p.grad for p in self._parameters if p.grad is not None)
        if self._trainer.max_gradient_norm is not None:
            clip_grads_with_norm_(self._parameters, self._trainer.max_gradient_norm, norm)
        self._meter.add_watched(f"gradient_norm/{self.name}", norm / world.size, step)
        set_rate(self.optimizer, self.rate(step))
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """All that resumes: the network and its optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        _restore(self.optimizer, state["optimizer"])


def _in_one_buffer(parameters: Iterable[Tensor]) -> Tensor:
    """Lay the gradients that there are one after another into a buffer, where they stay; each as its parameter lies."""
    learning = [(p, p.grad) for p in parameters if p.grad is not None]
    sizes = [p.numel() for p, _ in learning]
    buffer = learning[0][0].new_zeros(sum(sizes))
    for (parameter, gradient), part in zip(learning, buffer.split(sizes), strict=True):
        # Added to zero, as all later ones are: a sum never has a negative zero.
        parameter.grad = part.as_strided(parameter.shape, parameter.stride()).add_(gradient)
    return buffer


def segmenter_learner(segmenter: Segmenter, trainer: TrainerSettings, meter: Meter) -> Learner[Segmenter]:
    """A segmenter that learns as the trainer's settings say, its classifier at a rate of its own."""
    assert not (trainer.speed.joint_forward and segmenter.mixes_images)
    if trainer.speed.recompute:
        recompute(segmenter.blocks())
    device = next(segmenter.parameters()).device
    groups = segmenter.groups()
    return Learner(
        "segmenter",
        segmenter,
        [
            {"params": groups["body"], "scale": trainer.body_lr_factor},
            {"params": groups["head"], "scale": trainer.head_lr_factor},
        ],
        trainer.segmenter_optimizer,
        trainer,
        meter,
        forward=compiled(segmenter, device) if trainer.speed.compile else None,
    )


def _restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimizer's state that went through JSON, which turns the numbers of its parameters into text.

    Torch silently ignores the state of parameters that it does not find.
    """
    by_number = {int(number): values for number, values in state["state"].items()}
    # Whether an optimizer is fused is ours to say, not the checkpoint's.
    groups = [
        {**saved, **{key: group[key] for key in ("fused", "foreach")}}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"param_groups": groups, "state": by_number})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused optimizers walk through memory and take all tensors to lie as the parameter does.
                values[name] = torch.empty_like(parameter).copy_(value)
