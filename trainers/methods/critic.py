"""A discriminator in a step: what it says of predictions, and what it learns there of them and of ground truth."""

from collections.abc import Mapping

from torch import Tensor

from ...models.discriminator import Discriminator, DiscriminatorSettings
from ..data.resize import Size
from ..learner import Learner
from ..losses import adversarial_loss_sum, one_hot
from ..meter import Meter
from ..optimizers import OptimizerSettings
from ..settings import TrainerSettings

WON_BELOW = 0.02
"""Loss of the discriminator in nats, below which it has won: 0.69 is guessing, 0.2 to 0.5 is usual."""


class Critic:
    """A discriminator that learns. It sees each prediction once: what it says serves its own loss and others."""

    def __init__(
        self,
        discriminator: Discriminator,
        optimizer: OptimizerSettings,
        trainer: TrainerSettings,
        meter: Meter,
        *,
        ignore_index: int,
        sees_void: bool = True,
    ) -> None:
        """`sees_void` is whether it sees predictions where there is no truth."""
        self.learner = Learner(
            "discriminator",
            discriminator,
            [{"params": list(discriminator.parameters()), "scale": 1.0}],
            optimizer,
            trainer,
            meter,
        )
        self._ignore_index = ignore_index
        self._sees_void = sees_void

    def __call__(self, probabilities: Tensor, known: Tensor) -> Tensor:
        """Its logits [N, 1, H, W] of predictions [N, K, H, W]; `known` [N, H, W] is False on void and padding.

        To leave those pixels out of the loss, as is done in either case, does not hide them: they lie in the receptive
        fields of their neighbours. Of unlabelled images nobody knows the void, but only the padding.
        """
        return self.learner(probabilities if self._sees_void else probabilities * known.unsqueeze(1))

    def calls_fake(self, d_logits: Tensor, mask: Tensor, count: Tensor, weight: float) -> Tensor:
        """Learn to call predictions, made before the update, fake. Its loss, of `count` pixels, before the weight."""
        loss = 0.5 * adversarial_loss_sum(d_logits, False, mask) / count
        # The segmenter goes on from the same logits: what leads to them is kept for it.
        self.learner.learn_from(weight * loss, retain_graph=True)
        return loss.detach()

    def calls_real(self, labels: Tensor, like: Tensor, count: Tensor, weight: float) -> Tensor:
        """Learn to call one-hot ground truth, of the type of `like`, real. Its loss as in `calls_fake`."""
        mask = labels != self._ignore_index
        truth = one_hot(labels, self.learner.network.classes, self._ignore_index, like.dtype)
        loss = 0.5 * adversarial_loss_sum(self.learner(truth), True, mask) / count
        self.learner.learn_from(weight * loss)
        return loss.detach()


def check_crop(discriminator: DiscriminatorSettings, crop: Size) -> None:
    """Raise ValueError, in words of the spec, unless something is left of a crop after all stages."""
    side = discriminator.smallest_side
    if min(crop) < side:
        raise ValueError(
            f"trainer.augmentation.crop is {crop[0]} x {crop[1]}, but a discriminator of "
            f"{len(discriminator.widths)} {discriminator.classifier} stages needs {side} pixels "
            f"each way: take larger crops, fewer method.discriminator.widths or a dense classifier"
        )


def won(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Whether a discriminator has won by the figures since the last report, in a line."""
    loss = metrics.get("loss/d")
    if loss is None or loss >= WON_BELOW:
        return ()
    return (
        f"the discriminator has won: its loss is {loss:.4f}, below {WON_BELOW}, so it teaches nothing: "
        f"lower method.discriminator_optimizer.lr or raise method.lambda_adv",
    )
