"""Convolutions on graphs: what each node takes from those from which an edge leads to it.

Weights are laid out as `torch.nn.Linear` has them, output by input, and formulas write a node's features as a row, so
that `x W^T` is what a layer computes. Each convolution has its naive twin below it, on dense matrices.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from qkv.errors import InputError
from qkv.functional.adjacency import (
    Adjacency,
    dense_adjacency,
    laid_out,
    naive_neighbour_sum,
    neighbour_mean,
    neighbour_sum,
    sum_in_layout,
)
from qkv.functional.dropout import dropout as drop

SLOPE = 0.2
"""Of the leaky ReLU in graph attention, below zero."""


def graph_conv(
    x: Float[Tensor, "nodes inputs"],
    edges: Adjacency | Int[Tensor, "2 edges"],
    weight_self: Float[Tensor, "outputs inputs"],
    weight_neighbours: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    edge_weight: Float[Tensor, " edges"] | None = None,
    *,
    mean: bool = False,
) -> Float[Tensor, "nodes outputs"]:
    """`x'_i = W1 x_i + W2 sum_j w_ji x_j + b`, over the edges that lead from j to i (Morris et al. 2019, eq. 4).

    With both matrices the identity it is what a person computes by hand.

    Args:
        x: features of all nodes.
        edges: laid out already, or sources above targets.
        weight_self, weight_neighbours: `W1` and `W2`.
        edge_weight: of each edge; ones where left out.
        mean: the mean over edges in the place of the sum; takes no edge weights.

    Raises:
        InputTypeError, InputError: as `neighbour_sum`; matrices that do not fit; edge weights of a mean.

    >>> x, one = torch.eye(3), torch.eye(3)
    >>> graph_conv(x, torch.tensor([[0, 1], [2, 2]]), one, one)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [1., 1., 1.]])
    """
    _require_fit(x, weight_self=weight_self, weight_neighbours=weight_neighbours)
    if mean and edge_weight is not None:
        raise InputError("a mean over neighbours takes no edge weights", hint="mean=False, or no edge_weight")
    edges = laid_out(edges, x.shape[0])
    # Sums of neighbours are taken in the narrower of the two widths: W2 may come before them or after.
    narrower = weight_neighbours.shape[0] < weight_neighbours.shape[1]
    taken = F.linear(x, weight_neighbours) if narrower else x
    taken = neighbour_mean(taken, edges) if mean else neighbour_sum(taken, edges, edge_weight)
    taken = taken if narrower else F.linear(taken, weight_neighbours)
    return F.linear(x, weight_self, bias) + taken


def naive_graph_conv(
    x: Float[Tensor, "nodes inputs"],
    edge_index: Int[Tensor, "2 edges"],
    weight_self: Float[Tensor, "outputs inputs"],
    weight_neighbours: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    edge_weight: Float[Tensor, " edges"] | None = None,
    *,
    mean: bool = False,
) -> Float[Tensor, "nodes outputs"]:
    """The definition of `graph_conv`: `X W1^T + A X W2^T + b`."""
    taken = naive_neighbour_sum(x, edge_index, edge_weight)
    if mean:
        taken = taken / dense_adjacency(x, edge_index).sum(dim=1, keepdim=True).clamp(min=1)
    return x @ weight_self.T + taken @ weight_neighbours.T + (0 if bias is None else bias)


def gcn_conv(
    x: Float[Tensor, "nodes inputs"],
    edges: Adjacency | Int[Tensor, "2 edges"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    edge_weight: Float[Tensor, " edges"] | None = None,
) -> Float[Tensor, "nodes outputs"]:
    """`D^-1/2 (A + I) D^-1/2 X W^T + b`, with D the degrees of A + I (Kipf and Welling 2017, eq. 2).

    A node with edges of its own to itself has those in the place of its 1 in I: without edge weights one, whose weight
    is 1, with them their sum. D counts what leads into a node, so that directed graphs are taken as they are.

    Args:
        x: features of all nodes.
        edges: laid out already, or sources above targets.
        weight: `W`.
        edge_weight: of each edge, at least 0; ones where left out.

    Raises:
        InputTypeError, InputError: as `neighbour_sum`; a matrix that does not fit.

    >>> gcn_conv(torch.eye(2), torch.tensor([[0, 1], [1, 0]]), torch.eye(2))
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    _require_fit(x, weight=weight)
    edges = laid_out(edges, x.shape[0])
    # I and both factors of D belong to nodes: they are multiplied there, and no edge needs a weight for them.
    between, loop = _without_loops(x, edges, edge_weight)
    degree = sum_in_layout(torch.ones_like(loop)[:, None], edges, between)[:, 0] + loop
    scale = degree.masked_fill(degree == 0, torch.inf).rsqrt()
    scaled = F.linear(x, weight) * scale[:, None]
    output = (sum_in_layout(scaled, edges, between) + loop[:, None] * scaled) * scale[:, None]
    return output if bias is None else output + bias


def naive_gcn_conv(
    x: Float[Tensor, "nodes inputs"],
    edge_index: Int[Tensor, "2 edges"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    edge_weight: Float[Tensor, " edges"] | None = None,
) -> Float[Tensor, "nodes outputs"]:
    """The definition of `gcn_conv`, with A and D as dense matrices."""
    adjacency = dense_adjacency(x, edge_index, edge_weight)
    own = dense_adjacency(x, edge_index).diagonal() > 0
    loop = torch.where(own & (edge_weight is not None), adjacency.diagonal(), torch.ones_like(adjacency.diagonal()))
    adjacency = adjacency - torch.diag(adjacency.diagonal()) + torch.diag(loop)
    degree = adjacency.sum(dim=1)
    root = torch.where(degree > 0, degree, torch.inf) ** -0.5
    return torch.diag(root) @ adjacency @ torch.diag(root) @ x @ weight.T + (0 if bias is None else bias)


def gat_conv(
    x: Float[Tensor, "nodes inputs"],
    edges: Adjacency | Int[Tensor, "2 edges"],
    weight: Float[Tensor, "all_heads inputs"],
    att_src: Float[Tensor, "heads head_dim"],
    att_dst: Float[Tensor, "heads head_dim"],
    *,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "heads nodes head_dim"], Float[Tensor, "heads edges_and_nodes"] | None]:
    """`sum_j a_ij W x_j`, `a_ij = softmax_j(LeakyReLU(s . W x_j + t . W x_i))` (Velickovic et al. 2018, eq. 1 to 4).

    The softmax goes over the edges that lead to i and one from i to itself, which takes the place of any in the graph.

    Args:
        x: features of all nodes.
        edges: laid out already, or sources above targets.
        weight: `W` of all heads below one another.
        att_src, att_dst: `s` and `t` of each head.
        dropout: the share of weights set to zero, the others scaled up to make up for it. Applied whenever it is not 0.
        need_weights: without them, no edge's share of its node is ever worked out.

    Returns:
        What each node takes, and the weights if asked for: of each edge as `edge_index` has them, zero for those of a
        node to itself, and behind them those of each node's own loop.

    Raises:
        InputTypeError, InputError: as `neighbour_sum`; matrices that do not fit.

    >>> output, weights = gat_conv(
    ...     torch.eye(2), torch.tensor([[0], [1]]), torch.eye(2), *torch.zeros(2, 1, 2), need_weights=True
    ... )
    >>> output, weights
    (tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]]]), tensor([[0.5000, 1.0000, 0.5000]]))
    """
    _require_fit(x, weight=weight)
    heads, head_dim = att_src.shape
    if att_dst.shape != att_src.shape or heads * head_dim != len(weight):
        raise InputError(
            "att_src and att_dst do not fit weight",
            expected=f"(heads, head_dim) for each, {len(weight)} numbers",
            got=f"{tuple(att_src.shape)} and {tuple(att_dst.shape)}",
        )
    edges = laid_out(edges, x.shape[0])
    value = F.linear(x, weight).unflatten(-1, (heads, head_dim)).transpose(0, 1)
    at_source, at_target = ((value * one[:, None]).sum(dim=-1) for one in (att_src, att_dst))
    scores = F.leaky_relu(at_source.index_select(-1, edges.source) + at_target.index_select(-1, edges.target), SLOPE)
    scores = scores.masked_fill(edges.source == edges.target, -torch.inf)
    loops = F.leaky_relu(at_source + at_target, SLOPE)
    # The largest score of a node goes from those of all its edges: no share changes, so no gradient goes through it.
    target = edges.target.long().expand_as(scores)
    largest = loops.detach().scatter_reduce(-1, target, scores.detach(), "amax")
    shares, loops = (scores - largest.index_select(-1, edges.target)).exp(), (loops - largest).exp()
    total = sum_in_layout(torch.ones_like(loops)[..., None], edges, shares)[..., 0] + loops
    shares, loops = drop(shares, dropout), drop(loops, dropout)
    output = (sum_in_layout(value, edges, shares) + loops[..., None] * value) / total[..., None]
    if not need_weights:
        return output, None
    weights = torch.empty_like(shares).index_copy(-1, edges.order, shares / total.index_select(-1, edges.target))
    return output, torch.cat([weights, loops / total], dim=-1)


def naive_gat_conv(
    x: Float[Tensor, "nodes inputs"],
    edge_index: Int[Tensor, "2 edges"],
    weight: Float[Tensor, "all_heads inputs"],
    att_src: Float[Tensor, "heads head_dim"],
    att_dst: Float[Tensor, "heads head_dim"],
) -> tuple[Float[Tensor, "heads nodes head_dim"], Float[Tensor, "heads nodes nodes"]]:
    """The definition of `gat_conv`: scores of all pairs, a softmax over those with edges, as often as they are there.

    The weights come as a whole map, targets by sources.
    """
    times = dense_adjacency(x, edge_index)
    times = times - torch.diag(times.diagonal()) + torch.eye(len(x)).to(x)
    value = (x @ weight.T).unflatten(-1, att_src.shape).transpose(0, 1)
    scores = torch.einsum("hjd,hd->hj", value, att_src)[:, None] + torch.einsum("hid,hd->hi", value, att_dst)[..., None]
    shares = times * F.leaky_relu(scores, SLOPE).exp()
    weights = shares / shares.sum(dim=-1, keepdim=True)
    return weights @ value, weights


def _without_loops(x: Tensor, edges: Adjacency, edge_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights of edges in the layout, zero for those of a node to itself; and of each node the weight of its own."""
    own = edges.source == edges.target
    one = x.new_ones(edges.nodes)
    if edge_weight is None:
        return (~own).to(x.dtype), one
    weight = edge_weight.index_select(0, edges.order)
    if not bool(own.any()):
        return weight, one
    looped = edges.target[own].long()
    summed = torch.zeros_like(one).index_add(0, looped, weight[own])
    return weight * ~own, torch.where(torch.zeros_like(one, dtype=torch.bool).index_fill(0, looped, True), summed, one)


def _require_fit(x: Tensor, **weights: Tensor) -> None:
    for name, weight in weights.items():
        if x.dim() != 2 or weight.shape[-1] != x.shape[-1]:
            raise InputError(
                f"{name} does not fit the features",
                expected=f"x of (nodes, {weight.shape[-1]})",
                got=f"{tuple(x.shape)}",
            )
