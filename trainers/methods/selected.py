"""How many unlabelled pixels a method learns from, and how right their pseudo-labels are."""

from torch import Tensor

Ratios = dict[str, tuple[Tensor, Tensor]]


def selected_ratios(pseudo_labels: Tensor, selected: Tensor, valid: Tensor, truth: Tensor, ignore_index: int) -> Ratios:
    """Numerators and denominators of the share that is selected, and of that of right ones where truth is known.

    pseudo_labels and truth int64 [N, H, W], selected and valid bool; valid is False on padding.
    """
    judged = selected & (truth != ignore_index)
    correct = judged & (pseudo_labels == truth)
    return {
        "selected/share": (selected.sum(), valid.sum()),
        "selected/accuracy": (correct.sum(), judged.sum()),
    }
