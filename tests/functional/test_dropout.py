import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from qkv.errors import InputError
from qkv.functional.dropout import dropout

STEPS = 2**16


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def every_draw_once(monkeypatch) -> None:
    """Random bits that hold each 16-bit number exactly once."""
    draws = torch.arange(-STEPS // 2, STEPS // 2).to(torch.int16).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda self, *_, **__: self.copy_(draws))


@pytest.mark.parametrize(("p", "dropped"), [(2**-16, 1), (0.1, 6554), (0.3, 19661), (0.5, 32768), (1 - 2**-16, 65535)])
@pytest.mark.usefixtures("every_draw_once")
def test_p_is_exact_to_one_in_65536_by_hand(p: float, dropped: int):
    # 0.1 * 65536 = 6553.6 and 0.3 * 65536 = 19660.8, rounded. The others make up for those: x / (1 - p).
    output = dropout(torch.ones(STEPS, dtype=torch.float64), p)
    assert int((output == 0).sum()) == dropped
    torch.testing.assert_close(output[output != 0], torch.full((STEPS - dropped,), STEPS / (STEPS - dropped)).double())
    assert output.mean().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_entries_are_dropped_independently(p: float):
    kept = dropout(torch.ones(1009, 1013), p, generator=seeded()) != 0
    count = kept.numel()
    # Five standard deviations of a mean of independent draws; and of the share in which neighbours agree.
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * (p * (1 - p) / count) ** 0.5
    agree = p**2 + (1 - p) ** 2
    flat = kept.flatten()
    for distance in (1, 2, 3, 4, 1013):  # four entries share one random integer
        together = (flat[distance:] == flat[:-distance]).double().mean().item()
        assert abs(together - agree) < 5 * (2 * agree * (1 - agree) / count) ** 0.5
    for row in (kept.double().mean(0), kept.double().mean(1)):
        assert row.std().item() == pytest.approx((p * (1 - p) / 1010) ** 0.5, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5, 7), (0, 3)])
def test_shape_and_type_stay(dtype: torch.dtype, shape: tuple[int, ...]):
    output = dropout(torch.ones(shape, dtype=dtype), 0.5, generator=seeded())
    assert (output.shape, output.dtype) == (shape, dtype)
    assert set(output.unique().tolist()) <= {0.0, 2.0}


def test_the_layout_of_the_input_does_not_matter():
    x = torch.randn(5, 7)
    ours, turned = dropout(x, 0.5, generator=seeded()), dropout(x.T.clone().T, 0.5, generator=seeded())
    assert torch.equal(ours, turned)


@given(seed=st.integers(0, 2**31))
def test_the_generator_decides(seed: int):
    x = torch.ones(97)
    before = torch.get_rng_state()
    first, same, other = (dropout(x, generator=seeded(number)) for number in (seed, seed, seed + 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone


def test_without_a_generator_the_global_one_decides():
    def drawn() -> Tensor:
        torch.manual_seed(7)
        return dropout(torch.ones(97))

    assert torch.equal(drawn(), drawn())


def test_gradients():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout(x, 0.3, generator=seeded()), x)
    output = dropout(x, 0.3, generator=seeded())
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient * x, output)  # the same entries, scaled by the same factor


@pytest.mark.parametrize("arguments", [(0.0,), (0.5, False), (1.0, False), (2**-18,)])
def test_nothing_to_drop_is_no_work(arguments: tuple):
    x = torch.randn(3, 5)
    assert dropout(x, *arguments) is x


def test_dropping_all_leaves_zeros_and_zero_gradients():
    x = torch.randn(3, 5, requires_grad=True)
    output = dropout(x, 1.0)
    assert bool((output == 0).all())
    assert bool((torch.autograd.grad(output.sum(), x)[0] == 0).all())


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_it_is_torch():
    # With the same seed torch's own drops the same entries, also in one graph with what stands around it.
    compiled = torch.compile(lambda x: 3 * dropout(x, 0.25) + 1, backend="aot_eager", fullgraph=True)
    x = torch.ones(97, 101, requires_grad=True)
    torch.manual_seed(0)
    output = compiled(x)
    torch.manual_seed(0)
    assert torch.equal(output, 3 * torch.nn.functional.dropout(x, 0.25) + 1)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient, output.detach() - 1)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("training", [False, True])
def test_what_is_no_probability(p: float, training: bool):
    with pytest.raises(InputError, match=rf"p cannot be a probability. Expected a number from 0 to 1; got {p}"):
        dropout(torch.ones(3), p, training)
