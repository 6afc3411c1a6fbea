import math

import pytest
import torch
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import causal_mask, kernel_attention, naive_kernel_attention, polynomial_kernel, rbf_kernel

BATCH, HEADS, QUERIES, KEYS, HEAD_DIM, VALUE_DIM = 2, 3, 5, 7, 11, 13


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    shapes = (BATCH, HEADS, QUERIES, HEAD_DIM), (BATCH, HEADS, KEYS, HEAD_DIM), (BATCH, HEADS, KEYS, VALUE_DIM)
    query, key, value = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    return query, key, value


def test_rbf_by_hand():
    # Squared distances 0 and 4 over 2^2: kernel values 1 and 1/e, shares e / (e + 1) and 1 / (e + 1).
    query, key = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[1.0, 1.0], [1.0, 3.0]]).double()
    assert rbf_kernel(2.0)(query, key).tolist() == [[1, pytest.approx(1 / math.e)]]
    output, weights = kernel_attention(
        query, key, torch.tensor([[0.0], [1.0]]).double(), rbf_kernel(2.0), need_weights=True
    )
    assert weights is not None
    assert weights.tolist() == [[pytest.approx(math.e / (math.e + 1)), pytest.approx(1 / (math.e + 1))]]
    assert output.item() == pytest.approx(1 / (math.e + 1))


def test_polynomial_by_hand():
    # Products 1 and -3: (1 + 2)^2 = 9 and (-3 + 2)^2 = 1; shares 9/10 and 1/10 of values 10 and 20.
    query, key, value = (torch.tensor(x).double() for x in ([[1.0]], [[1.0], [-3.0]], [[10.0], [20.0]]))
    output, weights = kernel_attention(query, key, value, polynomial_kernel(2, offset=2.0), need_weights=True)
    assert weights is not None
    assert weights.tolist() == [[pytest.approx(0.9), pytest.approx(0.1)]]
    assert output.item() == pytest.approx(11)


@pytest.mark.parametrize("masked", [False, True])
def test_any_callable_is_a_kernel(masked: bool, same_values_and_gradients):
    mask = torch.rand(BATCH, 1, QUERIES, KEYS) < 0.5 if masked else None
    if mask is not None:
        mask[:, :, 1] = False

    def laplace(query: Tensor, key: Tensor) -> Tensor:
        return (-(query[..., :, None, :] - key[..., None, :, :]).abs().sum(-1)).exp()

    given = inputs()
    output, weights = kernel_attention(*given, laplace, mask, is_causal=masked, need_weights=True)
    expected, expected_weights = naive_kernel_attention(*given, laplace, mask, is_causal=masked)
    same_values_and_gradients(output, expected, given)
    same_values_and_gradients(weights, expected_weights, given[:2])


@pytest.mark.parametrize("sigma", [1.0, 1e-3, 1e-30])
def test_points_far_from_all_keys_attend_to_the_nearest(sigma: float):
    # exp(-1e6) is 0 in any type here, and so would be the sum to divide by.
    query, key = torch.tensor([[0.0]]), torch.tensor([[1.0], [1.5], [-3.0]]) * 1e6 * sigma
    output, weights = kernel_attention(query, key, torch.eye(3), rbf_kernel(sigma), need_weights=True)
    assert weights is not None
    assert output.tolist() == weights.tolist() == [[1, 0, 0]]


def test_moving_all_points_moves_no_weight():
    query, key, value = inputs()
    output, _ = kernel_attention(query, key, value, rbf_kernel(2.0))
    moved, _ = kernel_attention(query + 10, key + 10, value, rbf_kernel(2.0))
    torch.testing.assert_close(moved, output)


def test_half_precision_measures_distances_in_single():
    # |x|^2 = 4 * 50^2 = 10,000 has steps of 8 in float16; distances of 0 and 1 would be lost in them.
    query = torch.full((1, 4), 50.0)
    key = query + torch.tensor([[0.0, 0, 0, 0], [1.0, 0, 0, 0]])
    exact, _ = kernel_attention(query, key, torch.eye(2), rbf_kernel(1.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast, _ = kernel_attention(query, key, torch.eye(2), rbf_kernel(1.0))
    half, _ = kernel_attention(query.half(), key.half(), torch.eye(2).half(), rbf_kernel(1.0))
    for output in (under_autocast, half):
        torch.testing.assert_close(output.float(), exact, rtol=0, atol=2**-8)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_sigma_that_is_no_bandwidth_is_refused(sigma: float):
    with pytest.raises(InputError, match=rf"sigma cannot be a bandwidth.*a number above 0; got {sigma}"):
        rbf_kernel(sigma)


@pytest.mark.parametrize("degree", [0, -2])
def test_a_degree_below_1_is_refused(degree: int):
    with pytest.raises(InputError, match=rf"degree .*a whole number from 1 on; got {degree}"):
        polynomial_kernel(degree)


def test_an_offset_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match=r"offset .*a finite number; got nan"):
        polynomial_kernel(2, math.nan)


def test_negative_values_are_refused_where_they_count():
    query, key, value = torch.ones(2, 1), torch.tensor([[1.0], [-2.0]]), torch.eye(2)
    with pytest.raises(InputError, match=r"kernel gives negative values.*smallest value of -1\..*an even degree"):
        kernel_attention(query, key, value, polynomial_kernel(1))
    output, _ = kernel_attention(query, key, value, polynomial_kernel(1), torch.tensor([[True, False]]))
    assert output.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(InputError, match="negative values"):
        kernel_attention(query, key, value, polynomial_kernel(1), is_causal=True)


def test_a_query_to_which_the_kernel_gives_nothing_is_named():
    def near(query: Tensor, key: Tensor) -> Tensor:
        return ((query - key.mT).abs() < 1).float()

    query, key, value = torch.tensor([[0.0], [9.0], [5.0]]), torch.tensor([[0.5], [9.5]]), torch.eye(2)
    with pytest.raises(InputError, match=r"nothing above 0 .*got 0 at \(2,\).*a wider kernel"):
        kernel_attention(query, key, value, near)
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    assert kernel_attention(query, key, value, near, mask)[0].tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.usefixtures("no_shape_hook")
def test_kernels_of_another_shape_or_type_are_refused():
    given = inputs()
    with pytest.raises(InputError, match=r"the kernel gives a shape .*\(2, 3, 5, 7\), a number .*got \(2, 3, 7, 5\)"):
        kernel_attention(*given, lambda query, key: key @ query.mT)
    with pytest.raises(InputTypeError, match=r"the kernel gives a type .*got torch\.bool"):
        kernel_attention(*given, lambda query, key: query @ key.mT > 0)


def test_the_causal_mask_is_a_mask():
    given = inputs()
    ours, _ = kernel_attention(*given, rbf_kernel(2.0), is_causal=True)
    theirs, _ = kernel_attention(*given, rbf_kernel(2.0), causal_mask(QUERIES, KEYS))
    torch.testing.assert_close(ours, theirs)
