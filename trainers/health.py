"""A way in which any training goes wrong without a number that is not finite."""

from torch import Tensor


def symptoms(matrix: Tensor, classes: tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong by the validation's confusion matrix, a line each: a constant prediction.

    The matrix int64 [K, K] has truth by row and prediction by column.
    """
    predicted = matrix.sum(0).nonzero().flatten().tolist()
    true = matrix.sum(1).nonzero().flatten().tolist()
    if len(predicted) != 1 or len(true) < 2:
        return ()
    return (
        f"the prediction is constant: every validation pixel is {classes[predicted[0]]}, of {len(true)} classes "
        f"in truth: lower the learning rate and the weights of the method's losses, or train for longer",
    )
