import math

import pytest
import torch
from torch import Tensor

from qkv.errors import InputError
from qkv.functional import (
    Adjacency,
    gat_conv,
    gcn_conv,
    graph_conv,
    naive_gat_conv,
    naive_gcn_conv,
    naive_graph_conv,
    weights_from_edges,
)

NODES, EDGES, INPUTS, OUTPUTS, HEADS, HEAD_DIM = 7, 23, 5, 11, 3, 2


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def random_edges() -> Tensor:
    """Edges, some of them twice or to where they begin, none of which touches node 1."""
    edge_index = torch.randint(NODES, (2, EDGES))
    edge_index[:, 0], edge_index[:, 1:3] = 4, torch.tensor([[3], [5]])
    return torch.where(edge_index == 1, 2, edge_index)


def test_a_plain_convolution_by_hand():
    # 1 -> 0 and 2 -> 0: node 0 has 10 * 1 + 100 * (2 + 3) = 510; the others only themselves.
    x, edge_index = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1, 2], [0, 0]])
    w1, w2 = torch.tensor([[10.0]]), torch.tensor([[100.0]])
    assert graph_conv(x, edge_index, w1, w2).flatten().tolist() == [510, 20, 30]
    assert graph_conv(x, edge_index, w1, w2, mean=True).flatten().tolist() == [260, 20, 30]


def test_a_normalised_convolution_by_hand():
    # 1 -> 0: d = (2, 1). Node 0: 6 / 2 + 8 / sqrt(2 * 1); node 1: itself.
    x, edge_index = torch.tensor([[6.0], [8.0]]), torch.tensor([[1], [0]])
    assert gcn_conv(x, edge_index, torch.ones(1, 1)).flatten().tolist() == pytest.approx([3 + 8 / math.sqrt(2), 8])


def test_graph_attention_by_hand():
    # 1 -> 0, one feature, s = 1, t = 0: scores into node 0 are ln 3 of node 1 and 0 of itself, so shares 3/4 and 1/4.
    x, edge_index = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[1], [0]])
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    output, weights = gat_conv(x, edge_index, one, one, none, need_weights=True)
    assert weights is not None
    assert weights.flatten().tolist() == pytest.approx([0.75, 0.25, 1])  # the edge, then each node's loop
    assert output.flatten().tolist() == pytest.approx([0.75 * math.log(3), math.log(3)])


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("outputs", [OUTPUTS, 2], ids=["wider", "narrower"])
def test_a_plain_convolution_is_its_definition(mean: bool, outputs: int, same_values_and_gradients):
    x, w1, w2, bias = numbers(NODES, INPUTS), *(numbers(outputs, INPUTS) for _ in range(2)), numbers(outputs)
    edge_index, edge_weight = random_edges(), None if mean else numbers(EDGES)
    given = (x, w1, w2, bias, *([] if mean else [edge_weight]))
    ours = graph_conv(x, edge_index, w1, w2, bias, edge_weight, mean=mean)
    theirs = naive_graph_conv(x, edge_index, w1, w2, bias, edge_weight, mean=mean)
    same_values_and_gradients(ours, theirs, given)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_normalised_convolution_is_its_definition(weighted: bool, same_values_and_gradients):
    x, weight, bias = numbers(NODES, INPUTS), numbers(OUTPUTS, INPUTS), numbers(OUTPUTS)
    edge_index = random_edges()
    edge_weight = torch.rand(EDGES, dtype=torch.float64).requires_grad_() if weighted else None
    ours = gcn_conv(x, Adjacency.of(edge_index, NODES), weight, bias, edge_weight)
    theirs = naive_gcn_conv(x, edge_index, weight, bias, edge_weight)
    same_values_and_gradients(ours, theirs, (x, weight, bias, *([edge_weight] if weighted else [])))


def test_graph_attention_is_its_definition(same_values_and_gradients):
    x, weight = numbers(NODES, INPUTS), numbers(HEADS * HEAD_DIM, INPUTS)
    source, target = numbers(HEADS, HEAD_DIM), numbers(HEADS, HEAD_DIM)
    edge_index = random_edges()
    output, weights = gat_conv(x, edge_index, weight, source, target, need_weights=True)
    expected, whole = naive_gat_conv(x, edge_index, weight, source, target)
    assert weights is not None
    loops = torch.arange(NODES).expand(2, -1)
    ours = weights_from_edges(weights, torch.cat([edge_index, loops], dim=1), NODES)
    same_values_and_gradients(output, expected, (x, weight, source, target))
    same_values_and_gradients(ours, whole, (x, weight, source, target))
    plain, none = gat_conv(x, Adjacency.of(edge_index, NODES), weight, source, target)
    assert none is None
    torch.testing.assert_close(plain, output)


def test_large_scores_do_not_overflow():
    x, weight = 1e4 * numbers(NODES, INPUTS), numbers(HEAD_DIM, INPUTS)
    output, _ = gat_conv(x, random_edges(), weight, numbers(1, HEAD_DIM), numbers(1, HEAD_DIM))
    gradient = torch.autograd.grad(output.sum(), x)[0]
    assert bool(output.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_dropout_hands_out_what_made_the_output():
    x, weight, ends = numbers(NODES, INPUTS), numbers(HEAD_DIM, INPUTS), (numbers(1, HEAD_DIM), numbers(1, HEAD_DIM))
    edge_index = random_edges()
    output, weights = gat_conv(x, edge_index, weight, *ends, dropout=0.5, need_weights=True)
    assert weights is not None
    whole = weights_from_edges(weights, torch.cat([edge_index, torch.arange(NODES).expand(2, -1)], dim=1), NODES)
    assert 0.2 < (weights != 0).double().mean() < 0.8
    torch.testing.assert_close(output, whole @ (x @ weight.T))


def test_a_graph_without_edges_leaves_each_node_to_itself():
    x, weight, none = numbers(NODES, INPUTS), numbers(OUTPUTS, INPUTS), torch.zeros(2, 0, dtype=torch.int64)
    torch.testing.assert_close(gcn_conv(x, none, weight), x @ weight.T)
    torch.testing.assert_close(graph_conv(x, none, weight, weight), x @ weight.T)
    output, _ = gat_conv(x, none, weight, numbers(1, OUTPUTS), numbers(1, OUTPUTS))
    torch.testing.assert_close(output[0], x @ weight.T)


def test_a_node_with_negative_weights_around_has_no_infinity():
    x, weight = numbers(2, 1), torch.ones(1, 1, dtype=torch.float64)
    # Degrees 1 - 1 = 0: the node takes nothing, not infinitely much.
    output = gcn_conv(x, torch.tensor([[1], [0]]), weight, None, torch.tensor([-1.0]).double())
    assert output[0].item() == 0


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_shape_hook")
def test_what_does_not_fit_is_refused():
    x, weight, edge_index = numbers(NODES, INPUTS), numbers(OUTPUTS, INPUTS), random_edges()
    with pytest.raises(InputError, match=r"weight does not fit the features.*\(nodes, 5\); got \(7, 3\)"):
        gcn_conv(x[:, :3], edge_index, weight)
    with pytest.raises(InputError, match="a mean over neighbours takes no edge weights"):
        graph_conv(x, edge_index, weight, weight, edge_weight=torch.ones(EDGES).double(), mean=True)
    with pytest.raises(
        InputError, match=r"att_src and att_dst do not fit weight.*11 numbers; got \(2, 3\) and \(2, 3\)"
    ):
        gat_conv(x, edge_index, weight, numbers(2, 3), numbers(2, 3))
    with pytest.raises(InputError, match="names a node that is not there"):
        gcn_conv(x[1:], edge_index, weight)
