import pytest
import torch

import qkv
from qkv.errors import InputError
from qkv.functional import Adjacency
from qkv.models import GraphBatch, GraphNetwork, GraphNetworkConfig, NodeClassifier, NodeRegressor

NODES, FEATURES = 7, 5
SMALL = GraphNetworkConfig(hidden_size=6, num_layers=2, num_heads=2, dropout=0.0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def line() -> list[Adjacency]:
    """0 -> 1 -> ... -> 6, along and against."""
    edge_index = torch.stack([torch.arange(NODES - 1), torch.arange(1, NODES)])
    return [Adjacency.of(edge_index, NODES), Adjacency.of(edge_index.flip(0), NODES)]


@pytest.mark.parametrize("layer", ["conv", "gcn", "gat"])
def test_a_node_sees_as_many_steps_as_there_are_layers_both_ways(layer):
    network = GraphNetwork(SMALL, FEATURES, 1, layer, ways=2).double().eval()
    x = torch.randn(NODES, FEATURES, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x, line())[3].sum(), x)
    assert gradient.any(dim=1).nonzero().flatten().tolist() == [1, 2, 3, 4, 5]


def test_inputs_are_reckoned_from_their_middle_and_cut():
    network = GraphNetwork(SMALL, 1, 1, "conv", ways=2).eval()
    network.scale.fit_to(torch.tensor([[0.0], [2.0], [4.0]]))
    nothing = [Adjacency.of(torch.zeros(2, 0, dtype=torch.int64), 3)] * 2
    far, farther, middle = network(torch.tensor([[1e3], [1e6], [2.0]]), nothing)
    assert far == farther != middle


def test_the_loss_is_of_the_asked_alone_by_their_importance():
    model = NodeRegressor(GraphNetwork(SMALL, FEATURES, 1, "conv", ways=2), middle=3.0, spread=2.0).eval()
    x, target = torch.randn(NODES, FEATURES), torch.tensor([1.0, 5.0])
    batch = GraphBatch(x, line(), torch.tensor([6, 2]), target, torch.tensor([3.0, 1.0]))
    said = model(x, line())
    expected = (3 * (said[6] - 1).abs() + (said[2] - 5).abs()) / 4
    torch.testing.assert_close(model.loss(batch), expected)
    assert (batch.weight, batch.tokens) == (2, NODES)
    classifier = NodeClassifier(GraphNetwork(SMALL, FEATURES, 3, "gcn", ways=2)).eval()
    classes = GraphBatch(x, line(), torch.tensor([6, 2]), torch.tensor([0, 2]), torch.tensor([3.0, 1.0]))
    log = classifier(x, line()).log_softmax(dim=1)
    torch.testing.assert_close(classifier.loss(classes), -(3 * log[6, 0] + log[2, 2]) / 4)


def test_attention_is_recorded_layer_by_layer():
    network = GraphNetwork(SMALL, FEATURES, 1, "gat", ways=2).eval()
    with qkv.record() as trace:
        network(torch.randn(NODES, FEATURES), line())
    assert trace.names == [f"layers.{layer}.{way}.weights" for layer in (0, 1) for way in (0, 1)]


def test_heads_that_cannot_share_the_width_are_refused():
    with pytest.raises(InputError, match=r"the heads cannot share the width.*hidden_size=7, num_heads=2"):
        GraphNetwork(GraphNetworkConfig(hidden_size=7, num_heads=2), FEATURES, 1, "gat", ways=1)
