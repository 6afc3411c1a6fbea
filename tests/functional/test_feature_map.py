import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from qkv.errors import InputError
from qkv.functional import (
    EluFeatures,
    FeatureMap,
    RandomFeatures,
    TaylorFeatures,
    naive_elu_features,
    naive_random_features,
    naive_taylor_features,
)

BATCH, QUERIES, KEYS, HEAD_DIM, FEATURES = 2, 5, 7, 3, 11


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def random_features(head_dim: int = HEAD_DIM) -> RandomFeatures:
    generator = torch.Generator().manual_seed(0)
    return RandomFeatures.draw(head_dim, FEATURES, generator=generator, dtype=torch.float64)


MAPS = [
    *(TaylorFeatures(order, folded) for order in (1, 2, 3) for folded in (True, False)),
    EluFeatures(),
    random_features(),
]
every_map = pytest.mark.parametrize("phi", MAPS, ids=str)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_taylor_features_by_hand():
    # (2, 3): degree 2 unfolded is 4, 6, 6, 9 over sqrt 2; folded, the two sixes meet in one of sqrt(2) 6 / sqrt(2) = 6.
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    root = math.sqrt(2)
    assert TaylorFeatures(2, folded=False)(x).tolist()[0] == pytest.approx(
        [1, 2, 3, 4 / root, 6 / root, 6 / root, 9 / root]
    )
    assert TaylorFeatures(2)(x).tolist()[0] == pytest.approx([1, 2, 3, 4 / root, 6, 9 / root])
    # Degree 3: x^3 / sqrt 3!, x^2 y / sqrt 2!, x y^2 / sqrt 2!, y^3 / sqrt 3!.
    third = [8 / math.sqrt(6), 12 / root, 18 / root, 27 / math.sqrt(6)]
    assert TaylorFeatures(3)(x).tolist()[0][6:] == pytest.approx(third)


@pytest.mark.parametrize(("order", "weight"), [(1, -1.0), (2, 1.0), (3, -1 / 3)])
def test_taylor_kernels_by_hand(order: int, weight: float):
    # s = 2 * -1 = -2: 1 - 2 = -1; + 4/2 = 1; - 8/6 = -1/3.
    query, key = (torch.tensor([[x]], dtype=torch.float64) for x in (2.0, -1.0))
    assert TaylorFeatures(order).kernel(query, key).item() == pytest.approx(weight)


def test_elu_features_by_hand():
    # 0 and above: x + 1. Below: exp(x), here halves.
    x = torch.tensor([[3.0, 0.0, math.log(0.5)]], dtype=torch.float64)
    assert EluFeatures()(x).tolist() == [[4, 1, pytest.approx(0.5)]]
    # As queries all below 0, the largest becomes 1 and the rest keep their ratio: exp(-1000) and twice that.
    low = torch.tensor([[-1000.0, -1000.0 + math.log(2)]], dtype=torch.float64)
    assert EluFeatures().of_queries(low).tolist() == [[pytest.approx(0.5), 1]]


def test_random_features_by_hand():
    # |x|^2 / 2 = 2; w . x is 2 and 6; exp(0) and exp(4) over sqrt 2.
    phi = RandomFeatures(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    x = torch.tensor([[2.0]], dtype=torch.float64)
    assert phi(x).tolist()[0] == pytest.approx([1 / math.sqrt(2), math.exp(4) / math.sqrt(2)])
    # A query's largest feature is set to 1 / sqrt 2, the other is exp(-4) of it.
    assert phi.of_queries(x).tolist()[0] == pytest.approx([math.exp(-4) / math.sqrt(2), 1 / math.sqrt(2)])


@pytest.mark.parametrize(
    ("order", "folded", "size"), [(1, True, 17), (2, True, 153), (3, True, 969), (2, False, 273), (3, False, 4369)]
)
def test_sizes_at_head_dim_16(order: int, folded: bool, size: int):
    phi = TaylorFeatures(order, folded)
    assert phi.size(16) == size
    assert phi(torch.ones(1, 16)).shape == (1, size)


# -- parity with the definitions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unfolded_taylor_features_are_their_definition(order: int):
    x = normal(BATCH, KEYS, HEAD_DIM)
    torch.testing.assert_close(
        TaylorFeatures(order, folded=False)(x), naive_taylor_features(x, order), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("folded", [True, False])
def test_taylor_products_are_the_polynomial(order: int, folded: bool):
    query, key, phi = normal(BATCH, QUERIES, HEAD_DIM), normal(BATCH, KEYS, HEAD_DIM), TaylorFeatures(order, folded)
    scores = query @ key.mT
    expected = sum(scores**n / math.factorial(n) for n in range(order + 1))
    for products in (phi(query) @ phi(key).mT, phi.kernel(query, key)):
        torch.testing.assert_close(products, expected, rtol=0, atol=1e-10)
        cotangent = torch.randn_like(products)
        ours, theirs = (
            torch.autograd.grad(x, (query, key), cotangent, retain_graph=True) for x in (products, expected)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("phi", "naive"),
    [(EluFeatures(), naive_elu_features), (random_features(), lambda x: naive_random_features(x, MAPS[-1].projection))],
    ids=["elu", "random"],
)
def test_features_are_their_definition(phi: FeatureMap, naive):
    x = normal(BATCH, KEYS, HEAD_DIM)
    ours, theirs = phi(x), naive(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(ours)
    gradients = [torch.autograd.grad(features, x, cotangent)[0] for features in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


# -- gradients -------------------------------------------------------------------------------------------------------


@every_map
def test_gradients(phi: FeatureMap):
    query, key = normal(2, HEAD_DIM), normal(3, HEAD_DIM)
    for function, inputs in ((phi, (key,)), (phi.of_queries, (query,)), (phi.kernel, (query, key))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_the_slope_of_elu_at_zero_is_one():
    x = torch.zeros(1, 1, requires_grad=True)
    EluFeatures()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == 1


# -- laws ------------------------------------------------------------------------------------------------------------


@every_map
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 5), scale=st.sampled_from([0.0, 0.1, 1.0, 3.0]))
def test_kernels_are_products_of_features(phi: FeatureMap, seed: int, length: int, scale: float):
    generator = torch.Generator().manual_seed(seed)
    query, key = (scale * torch.randn(2, length, HEAD_DIM, generator=generator).double() for _ in range(2))
    assert phi(key).shape == (2, length, phi.size(HEAD_DIM))
    torch.testing.assert_close(phi.kernel(query, key), phi.of_queries(query) @ phi(key).mT)
    ratio = (phi.of_queries(query) / phi(query))[phi(query).abs().amin(dim=-1) > 0]
    assert bool((ratio > 0).all())
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    if not phi.signed:
        assert bool((phi.kernel(query, key) > 0).all())


def test_only_odd_orders_are_signed():
    # From s = -1 on, and from s = -1.596, the one real root of 1 + s + s^2 / 2 + s^3 / 6.
    query = torch.ones(1, 1, dtype=torch.float64)
    for order, root in ((1, -1.0), (3, -1.5960716)):
        below, above = TaylorFeatures(order).kernel(query, torch.tensor([[root - 1e-6], [root + 1e-6]]).double())[0]
        assert below < 0 < above
        assert TaylorFeatures(order).signed
    assert not any(phi.signed for phi in (TaylorFeatures(2), EluFeatures(), random_features()))


def test_features_first_made_in_inference_mode_can_be_trained_with():
    with torch.inference_mode():
        TaylorFeatures()(torch.ones(1, 13))
    x = torch.ones(1, 13, requires_grad=True)
    TaylorFeatures()(x).sum().backward()
    assert x.grad is not None


def test_random_features_estimate_the_exponential():
    # Over 20,000 rows the standard error of phi(q) . phi(k) is below 1 % for vectors of length 1/2.
    phi = RandomFeatures.draw(4, 20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64), dim=-1) / 2
    torch.testing.assert_close(phi(x) @ phi(x).mT, (x @ x.mT).exp(), rtol=0.03, atol=0)


def test_random_rows_are_orthogonal_in_blocks_and_as_long_as_normal_ones():
    phi = RandomFeatures.draw(5, 5 * 400 + 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blocks = phi.projection[:-3].unflatten(0, (400, 5))
    products = blocks @ blocks.mT
    squares = products.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(products, torch.diag_embed(squares), rtol=0, atol=1e-12)
    # |w|^2 has mean 5 and variance 10: the mean of 2,000 has a standard error of 0.07.
    assert squares.mean().item() == pytest.approx(5, abs=0.3)
    assert squares.var().item() == pytest.approx(10, abs=2)
    # Without the signs of the QR decomposition each coordinate of a direction would lean to one side.
    assert phi.projection.mean(dim=0).abs().max() < 0.1


def test_the_same_generator_draws_the_same_features():
    first, second = (RandomFeatures.draw(3, 7, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.projection, second.projection)
    assert not torch.equal(first.projection, RandomFeatures.draw(3, 7).projection)


@pytest.mark.parametrize("head_dim", [3, 64, 257])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_random_features_stay_in_range(head_dim: int, scale: float):
    phi = RandomFeatures.draw(head_dim, 97, generator=torch.Generator().manual_seed(0))
    # Along its own row, w . x - |x|^2 / 2 is as large as it gets; far away it is as small as it gets.
    x = torch.cat([phi.projection, scale * phi.projection, scale * torch.randn(5, head_dim)])
    for features in (phi(x), phi.of_queries(x)):
        assert bool(features.isfinite().all())
    assert bool((phi.of_queries(x).amax(dim=-1) > 0).all())
    if head_dim <= 64:  # an ordinary key keeps all its features: float32 reaches down to exp(-87)
        assert bool((phi(torch.randn(5, head_dim)) > 0).all())


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (0, r"Expected 1, 2 or 3; got 0, 1 features at head_dim 16\. Try: order=1"),
        (4, r"got 4, 4,845 features at head_dim 16"),
        (9, r"got 9, 2,042,975 features at head_dim 16"),
        (-1, r"got -1\."),
    ],
)
def test_other_orders_are_refused(order: int, message: str):
    with pytest.raises(InputError, match=message):
        TaylorFeatures(order)


def test_a_projection_of_another_width_is_refused():
    with pytest.raises(InputError, match=r"projection .* does not fit .*Expected head_dim 3, as drawn; got 5"):
        random_features()(torch.ones(1, 5, dtype=torch.float64))
    with pytest.raises(InputError, match="does not fit"):
        random_features().size(5)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_nothing_to_draw_is_refused(sizes: tuple[int, int]):
    with pytest.raises(InputError, match="sizes of 1 at least"):
        RandomFeatures.draw(*sizes)
