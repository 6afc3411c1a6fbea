"""Convolutions on graphs with parameters: names and state of `torch_geometric.nn`, so that its weights load.

Each takes `edges`: sources above targets (`edge_index`), or an `Adjacency`, which is laid out once for all layers and
steps.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional import Adjacency, gat_conv, gcn_conv, graph_conv, weights_from_edges
from qkv.functional.dropout import require_probability
from qkv.trace import recording, step


class GraphConv(nn.Module):
    """Plain convolution over neighbours, `W1 x_i + W2 sum_j w_ji x_j + b` (Morris et al. 2019, eq. 4).

    State is that of `torch_geometric.nn.GraphConv`: `lin_root.weight` is W1, `lin_rel` W2 and b.

    Args:
        in_channels, out_channels: widths.
        aggr: the sum over neighbours, or their mean.
        bias: whether there is one.

    Raises:
        InputError: a width below 1, or another `aggr`.

    >>> layer = GraphConv(3, 2)
    >>> layer(torch.randn(5, 3), torch.tensor([[0, 1], [2, 2]])).shape
    torch.Size([5, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, aggr: Literal["add", "mean"] = "add", bias: bool = True):
        super().__init__()
        _require_widths(in_channels, out_channels)
        if aggr not in ("add", "mean"):
            raise InputError("aggr cannot be used", expected="'add' or 'mean'", got=repr(aggr))
        self.aggr = aggr
        self.lin_rel = nn.Linear(in_channels, out_channels, bias=bias)
        self.lin_root = nn.Linear(in_channels, out_channels, bias=False)

    def forward(
        self,
        x: Float[Tensor, "nodes inputs"],
        edges: Adjacency | Int[Tensor, "2 edges"],
        edge_weight: Float[Tensor, " edges"] | None = None,
    ) -> Float[Tensor, "nodes outputs"]:
        """What each node makes of itself and of its neighbours."""
        w1, w2, bias = self.lin_root.weight, self.lin_rel.weight, self.lin_rel.bias
        return graph_conv(x, edges, w1, w2, bias, edge_weight, mean=self.aggr == "mean")

    def extra_repr(self) -> str:
        return f"aggr={self.aggr}"


class GCNConv(nn.Module):
    """Graph convolution with symmetric normalisation, `D^-1/2 (A + I) D^-1/2 X W + b` (Kipf and Welling 2017, eq. 2).

    State is that of `torch_geometric.nn.GCNConv`.

    Args:
        in_channels, out_channels: widths.
        bias: whether there is one.

    Raises:
        InputError: a width below 1.

    >>> layer = GCNConv(3, 2)
    >>> layer(torch.randn(5, 3), torch.tensor([[0, 1], [2, 2]])).shape
    torch.Size([5, 2])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__()
        _require_widths(in_channels, out_channels)
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(
        self,
        x: Float[Tensor, "nodes inputs"],
        edges: Adjacency | Int[Tensor, "2 edges"],
        edge_weight: Float[Tensor, " edges"] | None = None,
    ) -> Float[Tensor, "nodes outputs"]:
        """What each node makes of its neighbours and of itself among them."""
        return gcn_conv(x, edges, self.lin.weight, self.bias, edge_weight)


class GATConv(nn.Module):
    """Graph attention: what each node takes is weighted by scores of both ends (Velickovic et al. 2018, eq. 1 to 6).

    State is that of `torch_geometric.nn.GATConv`. While something records, it keeps `weights`, the map of who attends
    to whom, `(1, heads, nodes, nodes)`.

    Args:
        in_channels, out_channels: widths; `out_channels` is that of a head.
        heads: how many attend side by side.
        concat: the heads beside one another, `heads * out_channels` wide, or their mean.
        dropout: the share of weights dropped while training.
        bias: whether there is one.

    Raises:
        InputError: a width or a number of heads below 1, or a share that is none.

    >>> layer = GATConv(3, 2, heads=5)
    >>> layer(torch.randn(7, 3), torch.tensor([[0, 1], [2, 2]])).shape
    torch.Size([7, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        dropout: float = 0.0,
        bias: bool = True,
    ):
        super().__init__()
        _require_widths(in_channels, out_channels, heads)
        require_probability(dropout)
        self.heads, self.concat, self.dropout = heads, concat, dropout
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, heads, out_channels))
        self.att_dst = nn.Parameter(torch.empty(1, heads, out_channels))
        self.bias = nn.Parameter(torch.zeros(heads * out_channels if concat else out_channels)) if bias else None
        nn.init.xavier_uniform_(self.lin.weight)
        for scorer in (self.att_src, self.att_dst):
            bound = math.sqrt(6 / (heads + out_channels))
            nn.init.uniform_(scorer, -bound, bound)

    def forward(
        self, x: Float[Tensor, "nodes inputs"], edges: Adjacency | Int[Tensor, "2 edges"]
    ) -> Float[Tensor, "nodes outputs"]:
        """What each node takes from those that it attends to, itself among them."""
        dropout = self.dropout if self.training else 0.0
        output, weights = gat_conv(
            x,
            edges,
            self.lin.weight,
            self.att_src[0],
            self.att_dst[0],
            dropout=dropout,
            need_weights=recording(),
        )
        if weights is not None:
            edge_index = edges.edge_index if isinstance(edges, Adjacency) else edges
            loops = torch.arange(len(x), device=x.device).expand(2, -1)
            whole = weights_from_edges(weights, torch.cat([edge_index, loops], dim=1), len(x))
            step("weights", whole[None], kind="self", obtained="captured", backend="edges", signed=False)
        output = output.transpose(0, 1).flatten(1) if self.concat else output.mean(dim=0)
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        return f"heads={self.heads}, concat={self.concat}, dropout={self.dropout}"


def _require_widths(*widths: int) -> None:
    if min(widths) < 1:
        raise InputError(
            "a convolution cannot be so narrow", expected="widths and heads of at least 1", got=str(min(widths))
        )
