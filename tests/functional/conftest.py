"""What holds a formula to its definition, for all tests of formulas."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor


@pytest.fixture
def same_values_and_gradients() -> Callable[[Tensor, Tensor, Sequence[Tensor]], None]:
    """Compares two tensors, and their gradients by all inputs, to 1e-10: in float64."""

    def compare(ours: Tensor, theirs: Tensor, inputs: Sequence[Tensor]) -> None:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
        cotangent = torch.randn_like(ours)
        gradients = [torch.autograd.grad(output, inputs, cotangent, retain_graph=True) for output in (ours, theirs)]
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)

    return compare
