"""What tests of several rooms share."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

SameAsTorch = Callable[[nn.Module, nn.Module, Sequence[Tensor], Callable[..., Tensor], Callable[..., Tensor]], None]

# No timed assertions: a busy machine is not a failed law.
settings.register_profile("qkv", deadline=None)
settings.load_profile("qkv")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets; tests that read them are skipped where it is absent."""
    folder = Path(os.environ.get("QKV_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "eng-fra").is_dir():
        pytest.skip("the real data sets are not on this machine (QKV_DATA names their folder)")
    return folder


@pytest.fixture
def no_shape_hook() -> Iterator[None]:
    """Runs a test as users run the library, shapes unchecked: for `torch.compile`, and refusals that shapes precede."""
    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


@pytest.fixture
def same_as_torch() -> SameAsTorch:
    """What holds a layer to torch's own: from the same state, outputs, and gradients by all inputs and all parameters.

    Equal to 1e-10, so in float64.
    """

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
