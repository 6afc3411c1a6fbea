"""What holds a layer to torch's own: the same state, then values and gradients side by side."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

SameAsTorch = Callable[[nn.Module, nn.Module, Sequence[Tensor], Callable[..., Tensor], Callable[..., Tensor]], None]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def same_as_torch() -> SameAsTorch:
    """Compares outputs, and gradients by all inputs and all parameters, to 1e-10 in float64."""

    def compare(
        ours: nn.Module,
        theirs: nn.Module,
        inputs: Sequence[Tensor],
        run_ours: Callable[..., Tensor],
        run_theirs: Callable[..., Tensor],
    ):
        for parameter in theirs.parameters():  # zero biases and unit norms would hide one taken for another
            nn.init.normal_(parameter, std=0.3)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        inputs = [x.requires_grad_() for x in inputs]
        output, expected = run_ours(*inputs), run_theirs(*inputs)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
        cotangent = torch.randn_like(output)
        names = [f"input {i}" for i in range(len(inputs))] + [name for name, _ in theirs.named_parameters()]
        gradients = torch.autograd.grad(output, [*inputs, *ours.parameters()], cotangent)
        references = torch.autograd.grad(expected, [*inputs, *theirs.parameters()], cotangent)
        for name, gradient, reference in zip(names, gradients, references, strict=True):
            assert bool(reference.any()), f"{name} has no gradient to compare"
            torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")

    return compare
