import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional import (
    degrees,
    edge_attention,
    edge_softmax,
    largest_component,
    mask_from_edges,
    naive_edge_attention,
    neighbours,
    softmax_attention,
    weights_from_edges,
)

BATCH, HEADS, NODES, EDGES, HEAD_DIM, VALUE_DIM = 2, 3, 7, 23, 5, 11


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def inputs(*batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        torch.randn(*batch, NODES, width, dtype=dtype, requires_grad=True) for width in (HEAD_DIM, HEAD_DIM, VALUE_DIM)
    )
    return query, key, value


def random_edges() -> Tensor:
    """Edges, some of them twice, none of which ends in node 1."""
    edge_index = torch.randint(NODES, (2, EDGES))
    return torch.where(edge_index == 1, torch.tensor([[1], [2]]), edge_index)


def test_by_hand():
    # Into node 0 lead edges from 1 and 2, with scores ln 3 and 0 (head_dim 1): 3/4 * 4 + 1/4 * 8 = 5. Into node 2 leads
    # one edge, from itself. None leads into node 1.
    query = torch.tensor([[1.0], [7.0], [7.0]]).double()
    key, value = torch.tensor([[9.0], [math.log(3)], [0.0]]).double(), torch.tensor([[1.0], [4.0], [8.0]]).double()
    edge_index = torch.tensor([[1, 2, 2], [0, 2, 0]])
    output, weights = edge_attention(query, key, value, edge_index)
    assert output.flatten().tolist() == pytest.approx([5, 0, 8])
    assert weights.tolist() == pytest.approx([0.75, 1, 0.25])
    assert weights_from_edges(weights, edge_index, 3).tolist() == [
        [0, pytest.approx(0.75), pytest.approx(0.25)],
        [0, 0, 0],
        [0, 0, 1],
    ]


@pytest.mark.parametrize("batch", [(), (HEADS,), (BATCH, HEADS)])
def test_it_is_its_definition(batch: tuple[int, ...], same_values_and_gradients):
    qkv, edge_index = inputs(*batch), random_edges()
    output, weights = edge_attention(*qkv, edge_index, scale=0.7)
    expected, expected_weights = naive_edge_attention(*qkv, edge_index, scale=0.7)
    same_values_and_gradients(output, expected, qkv)
    same_values_and_gradients(weights, expected_weights, qkv[:2])


def test_on_single_edges_it_is_attention_under_their_mask(same_values_and_gradients):
    qkv, edge_index = inputs(HEADS), random_edges().unique(dim=1)
    output, weights = edge_attention(*qkv, edge_index)
    expected, whole = softmax_attention(*qkv, mask_from_edges(edge_index, NODES), need_weights=True)
    assert whole is not None
    same_values_and_gradients(output, expected, qkv)
    same_values_and_gradients(weights_from_edges(weights, edge_index, NODES), whole, qkv[:2])


def test_first_and_second_gradients():
    qkv = tuple(torch.randn(5, 2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    edge_index = torch.tensor([[0, 1, 2, 2, 4], [3, 3, 0, 3, 0]])
    assert torch.autograd.gradcheck(lambda *qkv: edge_attention(*qkv, edge_index), qkv)
    assert torch.autograd.gradgradcheck(lambda *qkv: edge_attention(*qkv, edge_index), qkv)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 7), edges=st.integers(0, 17), size=st.sampled_from([0, 1, 100]))
def test_weights_are_shares_of_the_edges_that_end_in_a_node(seed: int, nodes: int, edges: int, size: int):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, nodes, 3, generator=generator).double() for _ in range(3))
    query, key = (size * query).requires_grad_(), (size * key).requires_grad_()
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    output, weights = edge_attention(query, key, value, edge_index)
    whole = weights_from_edges(weights, edge_index, nodes)
    sees = mask_from_edges(edge_index, nodes)
    assert bool((weights >= 0).all())
    assert bool((whole[:, ~sees] == 0).all())
    torch.testing.assert_close(whole.sum(-1), sees.any(-1).double().expand(2, nodes))
    torch.testing.assert_close(output, whole @ value)
    gradients = torch.autograd.grad(output.square().sum(), (query, key))
    for gradient, met in zip(gradients, (sees.any(-1), sees.any(-2)), strict=True):
        assert bool(gradient.isfinite().all())
        assert bool((gradient[:, ~met] == 0).all())


def test_relabelled_nodes_and_reordered_edges_change_nothing_else():
    qkv, edge_index = inputs(HEADS), random_edges()
    output, weights = edge_attention(*qkv, edge_index)
    new, order = torch.randperm(NODES), torch.randperm(EDGES)
    moved = [torch.empty_like(x).index_copy(-2, new, x) for x in qkv]
    other, other_weights = edge_attention(*moved, new[edge_index][:, order])
    torch.testing.assert_close(other[:, new], output)
    torch.testing.assert_close(other_weights, weights[:, order])


def test_dropout_hands_out_what_made_the_output():
    (query, key, value), edge_index = inputs(HEADS), random_edges()
    _, plain = edge_attention(query, key, value, edge_index)
    output, weights = edge_attention(query, key, value, edge_index, dropout=0.5)
    kept = weights != 0
    assert 0.2 < kept.double().mean() < 0.8
    torch.testing.assert_close(weights[kept], 2 * plain[kept])
    torch.testing.assert_close(output, weights_from_edges(weights, edge_index, NODES) @ value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(dtype: torch.dtype):
    # 1031 equal edges into one node: in bfloat16 a running sum of ones stops at 256.
    edge_index = torch.zeros(2, 1031, dtype=torch.int64)
    query, value = torch.zeros(1, 2, dtype=dtype), torch.ones(1, 2, dtype=dtype)
    output, weights = edge_attention(query, query, value, edge_index)
    assert output.dtype == weights.dtype == dtype
    assert output.tolist() == [[1, 1]]
    assert weights.double().sum().item() == pytest.approx(1, rel=2**-8)
    alone = edge_softmax(torch.zeros(1031, dtype=dtype), edge_index[1], 1)
    assert alone.dtype == dtype
    assert alone.double().sum().item() == pytest.approx(1, rel=2**-8)


def test_autocast_stays_near():
    qkv, edge_index = inputs(HEADS, dtype=torch.float32), random_edges()
    expected, _ = edge_attention(*qkv, edge_index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = edge_attention(*qkv, edge_index)
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=2**-5)


@pytest.mark.usefixtures("no_shape_hook")
def test_compiled_whole_it_is_the_same(same_values_and_gradients):
    qkv, edge_index = inputs(HEADS), random_edges()
    compiled = torch.compile(edge_attention, fullgraph=True, backend="aot_eager")
    ours, theirs = compiled(*qkv, edge_index), edge_attention(*qkv, edge_index)
    same_values_and_gradients(ours[0], theirs[0], qkv)
    same_values_and_gradients(ours[1], theirs[1], qkv[:2])


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, NODES])
def test_edges_out_of_range_are_refused(wrong: int):
    edge_index = random_edges()
    edge_index[0, 13] = wrong
    message = rf"names a node that is not there.*numbers from 0 to 6; got edge 13, from {wrong} to {edge_index[1, 13]}"
    with pytest.raises(InputError, match=message):
        edge_attention(*inputs(), edge_index)
    with pytest.raises(InputError, match=message):
        mask_from_edges(edge_index, NODES)
    with pytest.raises(InputError, match=message):
        weights_from_edges(torch.ones(EDGES), edge_index, NODES)


@pytest.mark.usefixtures("no_shape_hook")
def test_edges_of_other_shapes_and_types_are_refused():
    with pytest.raises(InputError, match=r"\(2, edges\), sources above targets; got \(23, 2\)\. Try: edge_index\.T"):
        edge_attention(*inputs(), random_edges().T)
    with pytest.raises(InputTypeError, match=r"edge_index .*torch\.int64.*got torch\.float32.*edge_index\.long\(\)"):
        edge_attention(*inputs(), random_edges().float())


@pytest.mark.usefixtures("no_shape_hook")
def test_unequal_numbers_of_nodes_are_refused():
    query, key, value = inputs()
    with pytest.raises(InputError, match=r"query and key differ in length.*got 6 and 7"):
        edge_attention(query[1:], key, value, random_edges())


def test_what_is_not_finite_is_named():
    query, key, value = (x.detach() for x in inputs(HEADS))
    value[2, 0, 3] = torch.inf
    with pytest.raises(InputError, match=r"value is not finite.*got inf at \(2, 0, 3\)"):
        edge_attention(query, key, value, torch.tensor([[0, 1], [3, 3]]))


# -- who is whose neighbour ------------------------------------------------------------------------------------------

CHAIN = torch.tensor([[0, 1, 2, 4, 4], [1, 2, 3, 0, 4]])  # 4 -> 0 -> 1 -> 2 -> 3, and 4 to itself


@pytest.mark.parametrize(
    ("node", "distance", "direction", "expected"),
    [
        (1, 1, "out", [2]),
        (1, 1, "in", [0]),
        (1, 1, "both", [0, 2]),
        (1, 2, "out", [3]),
        (1, 2, "in", [4]),
        (1, 2, "both", [3, 4]),
        (1, 0, "both", [1]),
        (1, 3, "both", []),
        (4, 1, "in", []),  # a node is no neighbour of its own
    ],
)
def test_neighbours_at_a_distance(node: int, distance: int, direction, expected: list[int]):
    assert neighbours(CHAIN, node, 5, distance=distance, direction=direction).tolist() == expected


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 11), edges=st.integers(0, 17))
def test_neighbours_and_components_are_those_of_networkx(seed: int, nodes: int, edges: int):
    networkx = pytest.importorskip("networkx")
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    graph = networkx.DiGraph(edge_index.T.tolist())
    graph.add_nodes_from(range(nodes))
    away = networkx.single_source_shortest_path_length(graph, 0)
    for distance in range(3):
        expected = sorted(node for node, steps in away.items() if steps == distance)
        assert neighbours(edge_index, 0, nodes, distance=distance).tolist() == expected
    for strong, find in ((False, networkx.weakly_connected_components), (True, networkx.strongly_connected_components)):
        components = [sorted(one) for one in find(graph)]
        found = largest_component(edge_index, nodes, strong=strong).tolist()
        assert found in components
        assert len(found) == max(map(len, components))
    into, out = degrees(edge_index, nodes)
    assert into.sum() == out.sum() == edges


def test_questions_about_what_is_not_there_are_refused():
    with pytest.raises(InputError, match=r"there is no node 5.*0 to 4"):
        neighbours(CHAIN, 5, 5)
    with pytest.raises(InputError, match="distance is negative"):
        neighbours(CHAIN, 0, 5, distance=-1)
    with pytest.raises(InputError, match="names a node that is not there"):
        largest_component(CHAIN, 4)
    with pytest.raises(InputError, match="a graph without nodes has no component"):
        largest_component(torch.zeros(2, 0, dtype=torch.int64), 0)
