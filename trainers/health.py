"""Two ways in which an adversarial training goes wrong without a number that is not finite."""

from collections.abc import Mapping

from torch import Tensor

WON_BELOW = 0.02
"""Loss of the discriminator in nats, below which it has won: 0.69 is guessing, 0.2 to 0.5 is usual."""


def symptoms(metrics: Mapping[str, float], matrix: Tensor, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong by the figures since the last report and the validation's confusion matrix, a line each.

    The matrix int64 [K, K] has truth by row and prediction by column.
    """
    found = []
    loss = metrics.get("loss/d")
    if loss is not None and loss < WON_BELOW:
        found.append(
            f"the discriminator has won: its loss is {loss:.4f}, below {WON_BELOW}, so it teaches nothing: "
            f"lower discriminator_optimizer.lr or raise lambda_adv"
        )
    predicted = matrix.sum(0).nonzero().flatten().tolist()
    true = matrix.sum(1).nonzero().flatten().tolist()
    if len(predicted) == 1 and len(true) > 1:
        found.append(
            f"the prediction is constant: every validation pixel is {classes[predicted[0]]}, of {len(true)} classes "
            f"in truth: lower the lambdas, raise threshold or semi_start, or train for longer"
        )
    return tuple(found)
