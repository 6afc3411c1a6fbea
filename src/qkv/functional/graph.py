"""Formulas on graphs, given by their edges: `edge_index` holds sources above targets."""

from typing import Literal

import torch
from jaxtyping import Float, Int, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from qkv.errors import InputError, unknown_name
from qkv.functional._inputs import check_edges, check_finite, check_inputs, exact_type
from qkv.functional._softmax import full_scale
from qkv.functional.dropout import dropout as drop


def edge_attention(
    query: Float[Tensor, "*heads nodes head_dim"],
    key: Float[Tensor, "*heads nodes head_dim"],
    value: Float[Tensor, "*heads nodes value_dim"],
    edge_index: Int[Tensor, "2 edges"],
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "*heads nodes value_dim"], Float[Tensor, "*heads edges"]]:
    """Scaled dot-product attention of each node to those from which an edge leads to it, and a weight for each edge.

    `softmax_attention` under `mask_from_edges`, at the cost of the edges instead of all pairs of nodes. An edge that is
    there twice counts twice. `weights_from_edges` makes the whole map of the weights.

    Args:
        query, key, value: of all nodes, any leading axes.
        edge_index: sources (whose key and value are taken) above targets (whose query is taken).
        scale: `1 / sqrt(head_dim)` where left out.
        dropout: the share of weights set to zero, the others scaled up to make up for it. Applied whenever it is not 0.

    Raises:
        InputTypeError: tensors that are not floating, or numbers of nodes that are not 64-bit integers.
        InputError: shapes that cannot go together, nodes that are not there, NaN or infinity, or scores that overflow.

    >>> query, key, value = torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([[1.0], [3.0], [9.0]])
    >>> edge_attention(query, key, value, torch.tensor([[0, 1, 2], [2, 2, 0]]))
    (tensor([[9.],
            [0.],
            [2.]]), tensor([0.5000, 0.5000, 1.0000]))
    """
    check_inputs(query=query, key=key, value=value)
    _check_nodes(query, key)
    nodes = query.shape[-2]
    check_edges(edge_index, nodes)
    source, target = edge_index
    products = query.index_select(-2, target) * full_scale(query, scale) * key.index_select(-2, source)
    weights = drop(edge_softmax(products.sum(dim=-1, dtype=exact_type(query)), target, nodes), dropout)
    messages = weights[..., None] * value.index_select(-2, source)
    output = torch.zeros_like(value, dtype=weights.dtype).index_add(-2, target, messages).to(value.dtype)
    check_finite(output, query=query, key=key, value=value)
    return output, weights.to(query.dtype)


def edge_softmax(
    scores: Float[Tensor, "*heads edges"], target: Int[Tensor, " edges"], nodes: int
) -> Float[Tensor, "*heads edges"]:
    """The softmax of `scores` over the edges that end in the same node (Velickovic et al. 2018, eq. 2).

    >>> edge_softmax(torch.zeros(3), torch.tensor([0, 1, 1]), 2)
    tensor([1.0000, 0.5000, 0.5000])
    """
    per_node = (*scores.shape[:-1], nodes)
    # The largest score of a node goes from those of all its edges: no share changes, so no gradient goes through it.
    known = scores.detach()
    largest = known.new_full(per_node, -torch.inf).scatter_reduce(-1, target.expand_as(known), known, "amax")
    shares = (scores - largest.index_select(-1, target)).to(exact_type(scores)).exp()
    total = shares.new_zeros(per_node).index_add(-1, target, shares)
    return (shares / total.index_select(-1, target)).to(scores.dtype)


def naive_edge_attention(
    query: Float[Tensor, "*heads nodes head_dim"],
    key: Float[Tensor, "*heads nodes head_dim"],
    value: Float[Tensor, "*heads nodes value_dim"],
    edge_index: Int[Tensor, "2 edges"],
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*heads nodes value_dim"], Float[Tensor, "*heads edges"]]:
    """The definition of `edge_attention`: node by node, the softmax over the edges that end in it."""
    factor = full_scale(query, scale)
    output = query.new_zeros(value.shape)
    weights = query.new_zeros(*query.shape[:-2], edge_index.shape[1])
    for node in range(query.shape[-2]):
        edges = (edge_index[1] == node).nonzero().flatten()
        sources = edge_index[0, edges]
        if len(edges):
            scores = (key[..., sources, :] @ query[..., node, :, None])[..., 0] * factor
            shares = scores.softmax(dim=-1)
            weights[..., edges] = shares
            output[..., node, :] = (shares[..., None] * value[..., sources, :]).sum(dim=-2)
    return output, weights


def weights_from_edges(
    weights: Float[Tensor, "*heads edges"], edge_index: Int[Tensor, "2 edges"], nodes: int
) -> Float[Tensor, "*heads nodes nodes"]:
    """The whole map, queries by keys, of weights that belong to edges; those of an edge that is there twice are added.

    Raises:
        InputTypeError: numbers of nodes that are not 64-bit integers.
        InputError: an `edge_index` of another shape, or with numbers out of range.

    >>> weights_from_edges(torch.tensor([0.25, 0.75]), torch.tensor([[0, 1], [1, 1]]), 2)
    tensor([[0.0000, 0.0000],
            [0.2500, 0.7500]])
    """
    check_edges(edge_index, nodes)
    source, target = edge_index
    flat = weights.new_zeros(*weights.shape[:-1], nodes * nodes)
    return flat.index_add(-1, target * nodes + source, weights).unflatten(-1, (nodes, nodes))


# -- who is whose neighbour ------------------------------------------------------------------------------------------

Direction = Literal["in", "out", "both"]


def neighbours(
    edge_index: Int[Tensor, "2 edges"], node: int, nodes: int, *, distance: int = 1, direction: Direction = "out"
) -> Int64[Tensor, " found"]:
    """The nodes whose shortest way from `node` takes `distance` edges, sorted.

    Args:
        direction: along edges (`out`), against them (`in`), or either way at every step (`both`).

    Raises:
        InputTypeError: numbers of nodes that are not 64-bit integers.
        InputError: nodes that are not there, a negative distance, or another direction.

    >>> chain = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> neighbours(chain, 2, 4), neighbours(chain, 2, 4, distance=2, direction="in")
    (tensor([3]), tensor([0]))
    """
    check_edges(edge_index, nodes)
    if not 0 <= node < nodes:
        raise InputError(f"there is no node {node}", expected=f"0 to {nodes - 1}", got=str(node))
    if distance < 0:
        raise InputError("distance is negative", expected="0 or more", got=str(distance))
    if direction not in ("in", "out", "both"):
        raise unknown_name("direction", direction, ("in", "out", "both"))
    source, target = edge_index
    ways = {"out": [(source, target)], "in": [(target, source)], "both": [(source, target), (target, source)]}
    seen = torch.zeros(nodes, dtype=torch.bool, device=edge_index.device)
    seen[node] = True
    reached = seen.clone()
    for _ in range(distance):
        stepped = torch.zeros_like(seen)
        for start, end in ways[direction]:
            stepped[end[reached[start]]] = True
        reached = stepped & ~seen
        seen |= reached
    return reached.nonzero().flatten()


def largest_component(
    edge_index: Int[Tensor, "2 edges"], nodes: int, *, strong: bool = False
) -> Int64[Tensor, " found"]:
    """The nodes of the largest connected component, sorted; of several equally large, the one with the first node.

    Args:
        strong: joined by a way along edges there and back; otherwise by edges in whatever direction.

    Raises:
        InputTypeError: numbers of nodes that are not 64-bit integers.
        InputError: nodes that are not there, or a graph without nodes.

    >>> largest_component(torch.tensor([[0, 1, 2], [1, 0, 1]]), 4).tolist()
    [0, 1, 2]
    >>> largest_component(torch.tensor([[0, 1, 2], [1, 0, 1]]), 4, strong=True).tolist()
    [0, 1]
    """
    check_edges(edge_index, nodes)
    if nodes < 1:
        raise InputError("a graph without nodes has no component", expected="at least one node")
    source, target = edge_index.cpu().numpy()
    matrix = coo_matrix((torch.ones(len(source)).numpy(), (source, target)), shape=(nodes, nodes))
    _, label = connected_components(matrix, directed=True, connection="strong" if strong else "weak")
    component = torch.from_numpy(label).long()
    counts = component.bincount()
    first = int((counts[component] == counts.max()).nonzero()[0])
    return (component == component[first]).nonzero().flatten().to(edge_index.device)


def degrees(edge_index: Int[Tensor, "2 edges"], nodes: int) -> tuple[Int64[Tensor, " nodes"], Int64[Tensor, " nodes"]]:
    """How many edges lead into each node, and how many out of it.

    Raises:
        InputTypeError: numbers of nodes that are not 64-bit integers.
        InputError: nodes that are not there.

    >>> degrees(torch.tensor([[0, 1, 2], [2, 2, 0]]), 3)
    (tensor([1, 0, 2]), tensor([1, 1, 1]))
    """
    check_edges(edge_index, nodes)
    source, target = edge_index
    return target.bincount(minlength=nodes), source.bincount(minlength=nodes)


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_nodes(query: Tensor, key: Tensor) -> None:
    if query.shape[-2] != key.shape[-2]:
        raise InputError(
            "query and key differ in length, and each node has one of both",
            expected="as many queries as keys",
            got=f"{query.shape[-2]} and {key.shape[-2]}",
        )
