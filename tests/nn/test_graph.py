"""Convolutions on graphs beside torch-geometric's, with the same weights."""

import pytest
import torch
from torch import Tensor, nn

import qkv
from qkv.errors import InputError
from qkv.functional import Adjacency
from qkv.nn import GATConv, GCNConv, GraphConv

NODES, EDGES, INPUTS, OUTPUTS, HEADS = 7, 23, 5, 11, 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def random_edges() -> Tensor:
    """Edges, some of them twice or to where they begin, none of which touches node 1."""
    edge_index = torch.randint(NODES, (2, EDGES))
    edge_index[:, 0], edge_index[:, 1:3] = 4, torch.tensor([[3], [5]])
    return torch.where(edge_index == 1, 2, edge_index)


def pairs() -> list[tuple[nn.Module, nn.Module]]:
    theirs = pytest.importorskip("torch_geometric.nn")
    made = [
        (GraphConv(INPUTS, OUTPUTS), theirs.GraphConv(INPUTS, OUTPUTS)),
        (GraphConv(INPUTS, OUTPUTS, aggr="mean", bias=False), theirs.GraphConv(INPUTS, OUTPUTS, "mean", bias=False)),
        (GCNConv(INPUTS, OUTPUTS), theirs.GCNConv(INPUTS, OUTPUTS)),
        (GCNConv(INPUTS, OUTPUTS, bias=False), theirs.GCNConv(INPUTS, OUTPUTS, bias=False)),
        (GATConv(INPUTS, OUTPUTS, HEADS), theirs.GATConv(INPUTS, OUTPUTS, HEADS)),
        (GATConv(INPUTS, OUTPUTS, HEADS, concat=False), theirs.GATConv(INPUTS, OUTPUTS, HEADS, concat=False)),
    ]
    for ours, other in made:
        other.double()
        for parameter in other.parameters():  # biases start as zeros, and would hide
            nn.init.normal_(parameter)
        ours.double().load_state_dict(other.state_dict())
    return made


def test_values_and_gradients_are_those_of_torch_geometric():
    edge_index = random_edges()
    for ours, theirs in pairs():
        x = torch.randn(NODES, INPUTS, dtype=torch.float64, requires_grad=True)
        names = [name for name, _ in theirs.named_parameters()]
        assert set(names) == {name for name, _ in ours.named_parameters()}
        expected = theirs(x, edge_index)
        for edges in (edge_index, Adjacency.of(edge_index, NODES)):
            output = ours(x, edges)
            torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
            upstream = torch.randn_like(expected)
            mine = torch.autograd.grad(output, [x, *(ours.get_parameter(name) for name in names)], upstream)
            other = torch.autograd.grad(
                expected, [x, *(theirs.get_parameter(name) for name in names)], upstream, retain_graph=True
            )
            for name, one, reference in zip(["x", *names], mine, other, strict=True):
                assert bool(reference.any()), name
                torch.testing.assert_close(one, reference, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_edge_weights_are_those_of_torch_geometric():
    theirs = pytest.importorskip("torch_geometric.nn")
    edge_index = random_edges().unique(dim=1)  # of an edge to itself that is there twice, theirs keeps either
    x = torch.randn(NODES, INPUTS).double()
    weight = torch.rand(edge_index.shape[1]).double().requires_grad_()
    for ours, other in (
        (GCNConv(INPUTS, OUTPUTS).double(), theirs.GCNConv(INPUTS, OUTPUTS).double()),
        (GraphConv(INPUTS, OUTPUTS).double(), theirs.GraphConv(INPUTS, OUTPUTS).double()),
    ):
        ours.load_state_dict(other.state_dict())
        output, expected = ours(x, edge_index, weight), other(x, edge_index, weight)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
        upstream = torch.randn_like(expected)
        mine, reference = (torch.autograd.grad(one, weight, upstream)[0] for one in (output, expected))
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-10)


LAYERS = [GraphConv(INPUTS, OUTPUTS), GCNConv(INPUTS, OUTPUTS), GATConv(INPUTS, OUTPUTS, HEADS)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_relabelled_nodes_relabel_the_outputs(layer: nn.Module):
    layer.double()
    x, edge_index, new = torch.randn(NODES, INPUTS).double(), random_edges(), torch.randperm(NODES)
    moved = layer(torch.empty_like(x).index_copy(0, new, x), new[edge_index])
    torch.testing.assert_close(moved[new], layer(x, edge_index))


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_node_hangs_on_its_neighbours_and_itself_alone(layer: nn.Module):
    layer.double()
    x = torch.randn(NODES, INPUTS, dtype=torch.float64, requires_grad=True)
    edge_index = torch.tensor([[2, 3, 0, 5], [0, 0, 4, 5]])
    (gradient,) = torch.autograd.grad(layer(x, edge_index)[0].square().sum(), x)
    assert gradient.any(dim=1).nonzero().flatten().tolist() == [0, 2, 3]


def test_attention_is_recorded_and_makes_the_output():
    layer, x, edge_index = (
        GATConv(INPUTS, OUTPUTS, HEADS, bias=False).double(),
        torch.randn(NODES, INPUTS),
        random_edges(),
    )
    with qkv.record() as trace:
        output = layer(x.double(), edge_index)
    (step,) = trace.attention()
    assert step.value.shape == (1, HEADS, NODES, NODES)
    value = layer.lin(x.double()).unflatten(-1, (HEADS, OUTPUTS)).transpose(0, 1)
    torch.testing.assert_close((step.value[0] @ value).transpose(0, 1).flatten(1), output)
    (attention,) = trace.maps()
    assert (attention.kind, attention.backend, attention.heads) == ("self", "edges", HEADS)


def test_a_mean_starts_alike_and_learns():
    layer = GATConv(INPUTS, 1, heads=2, concat=False)
    x, edge_index = torch.randn(NODES, INPUTS), random_edges()
    target = torch.randn(NODES, 1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = (layer(x, edge_index) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GCNConv(0, 2), "a convolution cannot be so narrow.*got 0"),
        (lambda: GATConv(3, 2, heads=0), "a convolution cannot be so narrow"),
        (lambda: GATConv(3, 2, dropout=1.5), "cannot be a probability"),
        (lambda: GraphConv(3, 2, aggr="max"), "aggr cannot be used.*'add' or 'mean'; got 'max'"),
    ],
)
@pytest.mark.usefixtures("no_shape_hook")
def test_what_cannot_be_built_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()
