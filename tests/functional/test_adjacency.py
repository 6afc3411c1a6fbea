import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import Adjacency, dense_adjacency, naive_neighbour_sum, neighbour_mean, neighbour_sum

HEADS, NODES, EDGES, WIDTH = 3, 7, 23, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random_edges() -> Tensor:
    """Edges, some of them twice or to where they begin, none of which ends in node 1."""
    edge_index = torch.randint(NODES, (2, EDGES))
    edge_index[:, 0], edge_index[:, 1:3] = 4, torch.tensor([[3], [5]])
    return torch.where(edge_index == 1, torch.tensor([[1], [2]]), edge_index)


def inputs(*heads: int) -> tuple[Tensor, Tensor]:
    x, weight = torch.randn(*heads, NODES, WIDTH).double(), torch.randn(*heads, EDGES).double()
    return x.requires_grad_(), weight.requires_grad_()


def test_by_hand():
    # Into node 0: 2 * 10 from node 1 and 3 * 100 from node 2. Into node 2, twice from node 0: (5 + 7) * 1.
    x = torch.tensor([[1.0], [10.0], [100.0]])
    edge_index = torch.tensor([[0, 1, 2, 0], [2, 0, 0, 2]])
    summed = neighbour_sum(x, edge_index, torch.tensor([5.0, 2.0, 3.0, 7.0]))
    assert summed.flatten().tolist() == [320, 0, 12]
    assert neighbour_mean(x, edge_index).flatten().tolist() == [55, 0, 1]


@pytest.mark.parametrize("heads", [(), (HEADS,), (2, HEADS)])
@pytest.mark.parametrize("laid_out", [True, False])
def test_it_is_its_definition(heads: tuple[int, ...], laid_out: bool, same_values_and_gradients):
    (x, weight), edge_index = inputs(*heads), random_edges()
    edges = Adjacency.of(edge_index, NODES) if laid_out else edge_index
    same_values_and_gradients(neighbour_sum(x, edges, weight), naive_neighbour_sum(x, edge_index, weight), (x, weight))
    same_values_and_gradients(neighbour_sum(x, edges), naive_neighbour_sum(x, edge_index), (x,))


def test_a_mean_is_a_sum_by_its_count(same_values_and_gradients):
    (x, _), edge_index = inputs(), random_edges()
    count = dense_adjacency(x, edge_index).sum(dim=1, keepdim=True).clamp(min=1)
    same_values_and_gradients(neighbour_mean(x, edge_index), naive_neighbour_sum(x, edge_index) / count, (x,))


def test_first_and_second_gradients():
    (x, weight), edges = inputs(), Adjacency.of(random_edges(), NODES)
    assert torch.autograd.gradcheck(lambda x, weight: neighbour_sum(x, edges, weight), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, weight: neighbour_sum(x, edges, weight), (x, weight))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 7), count=st.integers(0, 17))
def test_edges_come_back_as_they_were_given_and_order_does_not_count(seed: int, nodes: int, count: int):
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, count), generator=generator)
    x = torch.randn(nodes, 3, generator=generator).double()
    weight = torch.randn(count, generator=generator).double()
    edges = Adjacency.of(edge_index, nodes)
    assert torch.equal(edges.edge_index, edge_index)
    order, new = torch.randperm(count, generator=generator), torch.randperm(nodes, generator=generator)
    expected = neighbour_sum(x, edges, weight)
    torch.testing.assert_close(neighbour_sum(x, edge_index[:, order], weight[order]), expected)
    moved = neighbour_sum(torch.empty_like(x).index_copy(0, new, x), new[edge_index], weight)
    torch.testing.assert_close(moved[new], expected)


def test_half_precision_sums_in_single():
    # 1031 ones into one node: in bfloat16 a running sum of ones stops at 256.
    edge_index = torch.zeros(2, 1031, dtype=torch.int64)
    summed = neighbour_sum(torch.ones(1, 2, dtype=torch.bfloat16), edge_index)
    assert summed.dtype == torch.bfloat16
    assert summed.tolist() == [[1032, 1032]]  # 1031 is not among the numbers of bfloat16


def test_autocast_changes_nothing():
    (x, weight), edge_index = inputs(), random_edges()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = neighbour_sum(x.float(), edge_index, weight.float())
    torch.testing.assert_close(output.double(), neighbour_sum(x, edge_index, weight), rtol=0, atol=1e-5)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, NODES, 2**40])
def test_edges_to_nodes_that_are_not_there_are_refused(wrong: int):
    edge_index = random_edges()
    edge_index[1, 13] = wrong
    with pytest.raises(InputError, match=rf"names a node that is not there.*from 0 to 6; got edge 13, .* to {wrong}"):
        Adjacency.of(edge_index, NODES)


@pytest.mark.usefixtures("no_shape_hook")
def test_what_does_not_fit_is_refused():
    (x, weight), edge_index = inputs(), random_edges()
    with pytest.raises(InputTypeError, match=r"x is of a type.*got torch\.int64"):
        neighbour_sum(torch.ones(NODES, 2, dtype=torch.int64), edge_index)
    with pytest.raises(InputError, match=r"x has a shape.*\(\.\.\., nodes, width\); got \(7,\)"):
        neighbour_sum(x[:, 0], edge_index)
    with pytest.raises(InputError, match=r"weight does not fit the edges.*\(23,\); got \(22,\)"):
        neighbour_sum(x, edge_index, weight[1:])
    with pytest.raises(InputError, match=r"not of one graph.*features of 7 nodes; got 6 rows"):
        neighbour_sum(x[1:], Adjacency.of(edge_index, NODES))
