"""Upsampling by matrices, which GPUs use, against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from advseg.models.upsampling import by_matrices


@pytest.mark.parametrize(
    ("old", "new"), [((5, 7), (33, 50)), ((1, 4), (6, 4)), ((4, 4), (1, 9)), ((41, 41), (321, 321)), ((9, 6), (4, 3))]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradient_are_those_of_torch(old, new, memory_format):
    maps = torch.randn(2, 3, *old, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    shown = torch.randn(2, 3, *new, dtype=torch.float64)
    theirs = F.interpolate(maps, new, mode="bilinear", align_corners=True)

    ours = by_matrices(maps, torch.Size(new))

    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((found * shown).sum(), maps)[0] for found in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_precision_is_that_of_the_maps_also_within_autocast():
    maps = torch.randn(1, 2, 5, 5)
    plain = by_matrices(maps, torch.Size((9, 9)))

    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(by_matrices(maps, torch.Size((9, 9))), plain)
