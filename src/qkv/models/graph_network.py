"""Networks on graphs: convolutions on top of each other, for classes of nodes or a number each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import Adjacency
from qkv.nn import Dropout, GATConv, GCNConv, GraphConv
from qkv.trace import scope
from qkv.types import Config

FARTHEST = 5.0
"""Inputs are cut where they lie so many standard deviations from their mean."""

Convolution = Literal["conv", "gcn", "gat"]


class GraphNetworkConfig(Config):
    """Sizes of a network on graphs."""

    hidden_size: PositiveInt = 64
    """Width of what a node carries from layer to layer."""
    num_layers: PositiveInt = 2
    """Convolutions on top of each other: so many steps along edges does a node see."""
    num_heads: PositiveInt = 4
    """Of graph attention; divides the width."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Before each layer and before the output; half as much on the inputs."""
    directions: Literal["apart", "together"] = "apart"
    """Whether what comes along edges and what comes against them is weighed apart (Rossi et al. 2023)."""


@dataclass(frozen=True)
class GraphBatch:
    """A whole graph, and the nodes that are asked.

    `edges` are the ways in which a layer looks: along the edges and against them, or both ways at once. What is known
    of the asked nodes, such as their targets, must have no part in `x`.
    """

    x: Float[Tensor, "nodes features"]
    edges: Sequence[Adjacency]
    asked: Int64[Tensor, " asked"]
    target: Float[Tensor, " asked"] | Int64[Tensor, " asked"]
    importance: Float[Tensor, " asked"]

    def to(self, device: torch.device | str) -> "GraphBatch":
        edges = [one.to(device) for one in self.edges]
        rest = (one.to(device) for one in (self.asked, self.target, self.importance))
        return type(self)(self.x.to(device), edges, *rest)

    @property
    def weight(self) -> int:
        """How many predictions the loss of this batch is a mean over."""
        return len(self.asked)

    @property
    def tokens(self) -> int:
        """Nodes that take part: the unit of training speed."""
        return len(self.x)


class Scale(nn.Module):
    """Inputs reckoned from their middle, in so many of their spread, and cut where they lie far out.

    Args:
        features: how many inputs; until `fit_to`, their middles are 0 and their spreads 1.

    >>> scale = Scale(1)
    >>> scale.fit_to(torch.tensor([[1.0], [3.0]]))
    >>> scale(torch.tensor([[2.0], [1e6]])).T
    tensor([[0., 5.]])
    """

    def __init__(self, features: int):
        super().__init__()
        self.middle, self.spread = nn.Buffer(torch.zeros(features)), nn.Buffer(torch.ones(features))

    def fit_to(self, x: Float[Tensor, "nodes features"]) -> None:
        """Takes the means of these as middles, and their standard deviations as spreads."""
        self.middle.copy_(x.mean(dim=0))
        self.spread.copy_(x.std(dim=0).clamp(min=1e-6))

    def forward(self, x: Float[Tensor, "nodes features"]) -> Float[Tensor, "nodes features"]:
        return ((x - self.middle) / self.spread).clamp(-FARTHEST, FARTHEST)


class GraphNetwork(nn.Module):
    """`h' = h + relu(conv(norm(h)))`, layer on layer, and the output is read from what stood before and after each.

    A node keeps itself (the residual) apart from its neighbours, and those at each distance apart from one another,
    which is what graphs ask for whose neighbours differ (Zhu et al. 2020, designs D1 to D3).

    Args:
        config: sizes.
        features: the width of the inputs.
        outputs: how many numbers each node is asked for.
        layer: which convolution.
        ways: how many graphs a layer looks along (see `GraphBatch.edges`).

    >>> network = GraphNetwork(GraphNetworkConfig(hidden_size=8), 3, 2, "gcn", ways=1)
    >>> edges = Adjacency.of(torch.tensor([[0, 1], [1, 2]]), 5)
    >>> network(torch.randn(5, 3), [edges]).shape
    torch.Size([5, 2])
    """

    def __init__(self, config: GraphNetworkConfig, features: int, outputs: int, layer: Convolution, *, ways: int):
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        if layer == "gat" and width % heads:
            raise InputError(
                "the heads cannot share the width",
                expected="a hidden_size that num_heads divides",
                got=f"hidden_size={width}, num_heads={heads}",
            )
        self.scale = Scale(features)

        def convolution() -> nn.Module:
            if layer == "gat":
                return GATConv(width, width // heads, heads, dropout=config.dropout)
            return GCNConv(width, width) if layer == "gcn" else GraphConv(width, width, aggr="mean")

        self.input = nn.Linear(features, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.num_layers))
        self.layers = nn.ModuleList(nn.ModuleList(convolution() for _ in range(ways)) for _ in range(config.num_layers))
        self.output = nn.Linear(width * (config.num_layers + 1), outputs)
        self.dropout, self.input_dropout = Dropout(config.dropout), Dropout(config.dropout / 2)

    def forward(self, x: Float[Tensor, "nodes features"], edges: Sequence[Adjacency]) -> Float[Tensor, "nodes outputs"]:
        """What the network says of each node."""
        x = self.scale(x)
        h = torch.relu(self.input(self.input_dropout(x)))
        states = [h]
        for number, (norm, convolutions) in enumerate(zip(self.norms, self.layers, strict=True)):
            ready = self.dropout(norm(h))
            taken = torch.zeros_like(h)
            for way, convolution in enumerate(convolutions):  # pyright: ignore - a list of modules
                with scope(f"layers.{number}.{way}"):
                    taken = taken + convolution(ready, edges[way])
            h = h + torch.relu(taken)
            states.append(h)
        return self.output(self.dropout(torch.cat(states, dim=1)))


class NodeClassifier(nn.Module):
    """A class for each node.

    Args:
        network: says as many numbers of a node as there are classes.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "nodes features"], edges: Sequence[Adjacency]) -> Float[Tensor, "nodes classes"]:
        """Logits of each class."""
        return self.network(x, edges)

    def loss(self, batch: GraphBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy of the asked nodes."""
        each = F.cross_entropy(self(batch.x, batch.edges)[batch.asked], batch.target, reduction="none")
        return (each * batch.importance).sum() / batch.importance.sum()


class NodeRegressor(nn.Module):
    """A number for each node.

    Args:
        network: says one number of a node.
        middle, spread: of the targets; what the network says is reckoned from the middle, in so many of the spread.
    """

    def __init__(self, network: nn.Module, middle: float = 0.0, spread: float = 1.0):
        super().__init__()
        self.network = network
        self.middle, self.spread = nn.Buffer(torch.tensor(middle)), nn.Buffer(torch.tensor(spread))

    def forward(self, x: Float[Tensor, "nodes features"], edges: Sequence[Adjacency]) -> Float[Tensor, " nodes"]:
        """The number for each node."""
        return self.middle + self.spread * self.network(x, edges)[:, 0]

    def loss(self, batch: GraphBatch) -> Float[Tensor, ""]:
        """Mean absolute error of the asked nodes, each by its importance."""
        each = (self(batch.x, batch.edges)[batch.asked] - batch.target).abs()
        return (each * batch.importance).sum() / batch.importance.sum()
