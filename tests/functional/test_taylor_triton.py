"""The kernels run here on a CUDA device where there is one, and always in Triton's interpreter, in their own process.

The interpreter must be asked for before Triton is imported for the first time: so `test_in_the_interpreter` runs this
file once more, and there all else in it runs on the CPU.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from qkv.functional import _taylor_triton
from qkv.functional._taylor_triton import taylor_attention_triton, usable

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
kernels = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(), reason="no CUDA device: test_in_the_interpreter runs it"
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def short_segments(monkeypatch):
    """Segments of one tile and blocks of many features: states at lengths that the interpreter can bear."""
    options = _taylor_triton._options

    def shorter(*inputs):
        features = options(*inputs)["features"]
        return {**options(*inputs), "segment": 64, "block": features & -features}

    monkeypatch.setattr(_taylor_triton, "_options", shorter)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, device=DEVICE, requires_grad=True)


def dense(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """The definition: the second Taylor polynomial of exp as weights, doubled."""
    scores = query @ key.mT
    weights = 2 + 2 * scores + scores.square()
    weights = weights.tril() if is_causal else weights
    return weights @ value / weights.sum(dim=-1, keepdim=True)


def assert_same_values_and_gradients(inputs: tuple[Tensor, ...], *, is_causal: bool):
    ours, theirs = (form(*inputs, is_causal=is_causal) for form in (taylor_attention_triton, dense))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(ours)
    gradients = [torch.autograd.grad(output, inputs, cotangent) for output in (ours, theirs)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


@pytest.mark.skipif(INTERPRETED, reason="this is its process")
def test_in_the_interpreter():
    pytest.importorskip("triton", reason="Triton is not installed, as on macOS: there are no kernels to run")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 skipped" in run.stdout  # this one, and no other


# -- by hand ---------------------------------------------------------------------------------------------------------


@kernels
def test_by_hand():
    # Scores 1 and -1, so weights (1 + 1)^2 + 1 = 5 and (-1 + 1)^2 + 1 = 1: the output is (5 * 4 + 1 * 10) / 6 = 5.
    # Causal, the first query sees the first value alone.
    query, key = torch.zeros(2, 1, 1, 2, 8, dtype=torch.float64, device=DEVICE)
    query[..., 0], key[..., 0] = 1, torch.tensor([1.0, -1.0])
    value = torch.tensor([4.0, 10.0], dtype=torch.float64, device=DEVICE)[None, None, :, None].expand(1, 1, 2, 16)
    for is_causal, expected in ((False, 5.0), (True, 4.0)):
        output = taylor_attention_triton(query, key, value, is_causal=is_causal)
        assert output[0, 0, 0].tolist() == pytest.approx([expected] * 16, abs=1e-14)
        assert output[0, 0, 1].tolist() == pytest.approx([5.0] * 16, abs=1e-14)


# -- parity with the definition --------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("is_causal", [False, True])
def test_heads_in_any_layout(is_causal: bool):
    query, key, value = (normal(2, 11, 3, dim).transpose(1, 2) for dim in (8, 8, 48))
    assert_same_values_and_gradients((query, key, value), is_causal=is_causal)


@kernels
def test_causal_over_three_segments():
    assert_same_values_and_gradients(
        (normal(1, 1, 389, 8), normal(1, 1, 389, 8), normal(1, 1, 389, 16)), is_causal=True
    )


@kernels
@pytest.mark.parametrize(("queries", "keys"), [(67, 31), (31, 199)])  # by tiles, and by the state of two segments
def test_more_or_fewer_queries_than_keys(queries: int, keys: int):
    inputs = normal(1, 1, queries, 8), normal(1, 1, keys, 8), normal(1, 1, keys, 16)
    assert_same_values_and_gradients(inputs, is_causal=False)


@kernels
@pytest.mark.parametrize(("head_dim", "value_dim"), [(8, 128), (16, 64), (32, 48), (64, 16)])
@pytest.mark.usefixtures("short_segments")
def test_features_of_every_size(head_dim: int, value_dim: int):
    inputs = normal(1, 1, 67, head_dim), normal(1, 1, 67, head_dim), normal(1, 1, 67, value_dim)
    assert_same_values_and_gradients(inputs, is_causal=True)


@kernels
@pytest.mark.parametrize(
    ("dtype", "offset", "tolerance"),
    [(torch.float32, 0, 1e-6), (torch.float16, 32, 2**-10), (torch.bfloat16, 32, 2**-7)],
)
@pytest.mark.usefixtures("short_segments")
def test_sums_are_in_single_precision(dtype: torch.dtype, offset: float, tolerance: float):
    # Against what the rounded inputs give exactly, by the largest entry: the one error is the last rounding, which the
    # interpreter does towards zero. Values around 32 leave small gradients of weights, differences of large sums, which
    # an output rounded too early would drown.
    query, key, value = (normal(1, 1, 131, dim, dtype=dtype) for dim in (8, 8, 16))
    inputs = query, key, (value + offset).detach().requires_grad_()
    exact = tuple(x.detach().double().requires_grad_() for x in inputs)
    output, expected = taylor_attention_triton(*inputs, is_causal=True), dense(*exact, is_causal=True)
    cotangent = torch.randn_like(output)
    ours = output, *torch.autograd.grad(output, inputs, cotangent)
    theirs = expected, *torch.autograd.grad(expected, exact, cotangent.double())
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == dtype
        assert bool((mine - other).abs().max() <= tolerance * other.abs().max())


# -- gradients -------------------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("is_causal", [False, True])
def test_first_and_second_derivatives(is_causal: bool):
    inputs = normal(1, 1, 3, 8), normal(1, 1, 3, 8), normal(1, 1, 3, 16)
    form = lambda *inputs: taylor_attention_triton(*inputs, is_causal=is_causal)  # noqa: E731
    assert torch.autograd.gradcheck(form, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(form, inputs, fast_mode=True)


# -- laws ------------------------------------------------------------------------------------------------------------


@kernels
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    length=st.integers(1, 71),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e2]),  # scores of up to some 1e4
    identical=st.booleans(),
    is_causal=st.booleans(),
)
def test_values_are_averaged(seed: int, length: int, scale: float, identical: bool, is_causal: bool):
    torch.manual_seed(seed)
    query, key, value = normal(1, 1, length, 8) * scale, normal(1, 1, length, 8) * scale, normal(1, 1, length, 16)
    key = key[:, :, :1].expand_as(key) if identical else key
    output = taylor_attention_triton(query, key, value, is_causal=is_causal)
    torch.testing.assert_close(output, dense(query, key, value, is_causal=is_causal), rtol=0, atol=1e-10)
    ones = taylor_attention_triton(query, key, torch.ones_like(value), is_causal=is_causal)
    torch.testing.assert_close(ones, torch.ones_like(value), rtol=0, atol=1e-10)


@kernels
@pytest.mark.usefixtures("short_segments")
def test_nothing_leaks_from_what_comes_after():
    query, key, value = normal(1, 1, 131, 8), normal(1, 1, 131, 8), normal(1, 1, 131, 16)
    for last in (63, 64):
        output = taylor_attention_triton(query, key, value, is_causal=True)
        for gradient in torch.autograd.grad(output[:, :, last].sum(), (key, value)):
            assert bool(gradient[:, :, : last + 1].any())
            assert not bool(gradient[:, :, last + 1 :].any())


# -- refusals --------------------------------------------------------------------------------------------------------


def sample(head_dim: int = 16, value_dim: int = 64, dtype: torch.dtype = torch.float32, device: str = "cuda"):
    with FakeTensorMode():  # tensors of a device that need not be there
        return [torch.empty(2, 3, 5, dim, dtype=dtype, device=device) for dim in (head_dim, value_dim)]


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed, as on macOS")
def test_what_is_usable():
    assert usable(*sample())
    assert usable(*sample(head_dim=8, value_dim=128, dtype=torch.bfloat16))
    assert not usable(*sample(device="cpu"))
    assert not usable(*sample(dtype=torch.float64))
    assert not usable(*sample(head_dim=12))
    assert not usable(*sample(value_dim=24))
    assert not usable(*sample(value_dim=144))


def test_without_triton_nothing_is_usable(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("without_triton", _taylor_triton.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.usable(*sample())
