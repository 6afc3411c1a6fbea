"""Edges laid out for sums over neighbours, and those sums: the step that every convolution on a graph is made of.

Laid out by the nodes in which they end, edges are the rows of a sparse matrix, and a sum over neighbours is a product
with it. In torch's operations on a processor, the same by `index_add` takes some fifty times as long.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int, Int32, Int64
from torch import Tensor

from qkv.errors import InputError, InputTypeError
from qkv.functional._inputs import check_edges, exact_type


@dataclass(frozen=True)
class Rows:
    """A sparse matrix without its values, row by row (CSR); `place` is where each entry's value stands in the layout
    by targets, None where it stands in its place."""

    start: Int32[Tensor, " rows_and_one"]
    column: Int32[Tensor, " edges"]
    place: Int64[Tensor, " edges"] | None

    def matrix(self, values: Float[Tensor, " edges"]) -> Tensor:
        _be_quiet()
        size = len(self.start) - 1
        values = values if self.place is None else values.index_select(0, self.place)
        return torch.sparse_csr_tensor(self.start, self.column, values, (size, size), check_invariants=False)

    def to(self, device: torch.device | str) -> "Rows":
        """The same on another device."""
        place = None if self.place is None else self.place.to(device)
        return Rows(self.start.to(device), self.column.to(device), place)


@dataclass(frozen=True)
class Adjacency:
    """The edges of a graph, laid out once for any number of sums over neighbours; `of` makes it.

    Functions and layers here take it in the place of an `edge_index`, which they would lay out in each call.

    Attributes:
        nodes: how many there are.
        order: where each edge, in the layout by targets, stands in `edge_index`.
        source, target: where each begins and ends, in that layout.
        incoming: the matrix whose rows are targets.
        outgoing: its transpose.

    >>> edges = Adjacency.of(torch.tensor([[0, 1, 2], [2, 2, 0]]), nodes=3)
    >>> neighbour_sum(torch.tensor([[1.0], [3.0], [9.0]]), edges).T
    tensor([[9., 0., 4.]])
    """

    nodes: int
    order: Int64[Tensor, " edges"]
    source: Int32[Tensor, " edges"]
    target: Int32[Tensor, " edges"]
    incoming: Rows
    outgoing: Rows

    @classmethod
    def of(cls, edge_index: Int[Tensor, "2 edges"], nodes: int) -> "Adjacency":
        """Lays out edges, sources above targets.

        Raises:
            InputTypeError: numbers of nodes that are not 64-bit integers.
            InputError: another shape, or nodes that are not there.
        """
        check_edges(edge_index, nodes)
        order = (edge_index[1] * nodes + edge_index[0]).argsort()
        source, target = (end.to(torch.int32).index_select(0, order) for end in edge_index)
        back = source.argsort(stable=True)
        incoming = Rows(_starts(target, nodes), source, None)
        outgoing = Rows(_starts(source, nodes), target.index_select(0, back), back)
        return cls(nodes, order, source, target, incoming, outgoing)

    @property
    def edge_index(self) -> Int64[Tensor, "2 edges"]:
        """The edges as they were given."""
        both = torch.stack([self.source, self.target]).long()
        return torch.empty_like(both).index_copy_(1, self.order, both)

    def to(self, device: torch.device | str) -> "Adjacency":
        """The same on another device."""
        order, source, target = (one.to(device) for one in (self.order, self.source, self.target))
        return Adjacency(self.nodes, order, source, target, self.incoming.to(device), self.outgoing.to(device))


Edges = Adjacency | Int[Tensor, "2 edges"]
"""A graph as functions and layers take it: laid out already, or its `edge_index`, sources above targets."""


def laid_out(edges: Adjacency | Int[Tensor, "2 edges"], nodes: int) -> Adjacency:
    """`edges` as an `Adjacency` of so many nodes.

    Raises:
        InputTypeError, InputError: as `Adjacency.of`; or a layout of another number of nodes.
    """
    if not isinstance(edges, Adjacency):
        return Adjacency.of(edges, nodes)
    if edges.nodes != nodes:
        raise InputError(
            "features and edges are not of one graph",
            expected=f"features of {edges.nodes:,} nodes",
            got=f"{nodes:,} rows",
        )
    return edges


def neighbour_sum(
    x: Float[Tensor, "*heads nodes width"],
    edges: Adjacency | Int[Tensor, "2 edges"],
    weight: Float[Tensor, "*heads edges"] | None = None,
) -> Float[Tensor, "*heads nodes width"]:
    """`sum_j w_ji x_j` for each node i, over the edges that lead from j to it.

    An edge that is there twice counts twice; a node into which no edge leads has zeros.

    Args:
        x: of all nodes, any leading axes.
        edges: laid out already, or sources above targets.
        weight: of each edge as `edge_index` has them, with the leading axes of `x`; ones where left out.

    Raises:
        InputTypeError: `x` or `weight` not floating, or numbers of nodes that are not 64-bit integers.
        InputError: shapes that cannot go together, or nodes that are not there.

    >>> neighbour_sum(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([[0, 1, 2], [2, 2, 0]])).T
    tensor([[9., 0., 4.]])
    """
    edges = _checked(x, edges, weight)
    return sum_in_layout(x, edges, None if weight is None else weight.index_select(-1, edges.order))


def neighbour_mean(
    x: Float[Tensor, "*heads nodes width"], edges: Adjacency | Int[Tensor, "2 edges"]
) -> Float[Tensor, "*heads nodes width"]:
    """The mean over the edges that lead to each node of what they come from; zeros where there are none.

    Raises:
        InputTypeError, InputError: as `neighbour_sum`.

    >>> neighbour_mean(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([[0, 1, 2], [2, 2, 0]])).T
    tensor([[9., 0., 2.]])
    """
    edges = _checked(x, edges, None)
    count = edges.incoming.start.diff().clamp(min=1).to(x.dtype)
    return sum_in_layout(x, edges, None) / count[:, None]


def naive_neighbour_sum(
    x: Float[Tensor, "*heads nodes width"],
    edge_index: Int[Tensor, "2 edges"],
    weight: Float[Tensor, "*heads edges"] | None = None,
) -> Float[Tensor, "*heads nodes width"]:
    """The definition of `neighbour_sum`: a product with the dense matrix of weights, targets by sources."""
    return dense_adjacency(x, edge_index, weight) @ x


def dense_adjacency(
    x: Float[Tensor, "*heads nodes width"],
    edge_index: Int[Tensor, "2 edges"],
    weight: Float[Tensor, "*heads edges"] | None = None,
) -> Float[Tensor, "*#heads nodes nodes"]:
    """The matrix of the weights of edges, targets by sources; those of an edge that is there twice are added.

    >>> dense_adjacency(torch.zeros(2, 1), torch.tensor([[0, 1], [1, 1]]))
    tensor([[0., 0.],
            [1., 1.]])
    """
    nodes, (source, target) = x.shape[-2], edge_index
    weight = x.new_ones(edge_index.shape[1]) if weight is None else weight
    flat = x.new_zeros(*weight.shape[:-1], nodes * nodes)
    return flat.index_add(-1, target * nodes + source, weight).unflatten(-1, (nodes, nodes))


# -- in the layout ---------------------------------------------------------------------------------------------------


def sum_in_layout(
    x: Float[Tensor, "*heads nodes width"], edges: Adjacency, weight: Float[Tensor, "*heads edges"] | None
) -> Float[Tensor, "*heads nodes width"]:
    """`neighbour_sum` with weights that stand in the order of the layout; asks nothing."""
    kind = exact_type(x)
    with torch.autocast(x.device.type, enabled=False):
        if weight is None:
            weight = x.new_ones(len(edges.order), dtype=kind).expand(*x.shape[:-2], -1)
        if x.dim() == 2:
            return _Sum.apply(weight.to(kind), x.to(kind), edges, False).to(x.dtype)  # pyright: ignore
        heads = zip(weight.flatten(0, -2), x.flatten(0, -3), strict=True)
        each = [_Sum.apply(one.to(kind), part.to(kind), edges, False) for one, part in heads]
        return torch.stack(each).to(x.dtype).view(x.shape)  # pyright: ignore


class _Sum(torch.autograd.Function):
    """Weighted sums of neighbours: at the targets of edges or, backwards, at their sources.

    By `x` it is differentiated by the sum along the edges turned round, by the weights by `_Products`, which is
    differentiated by sums: each is the other's gradient, to any order.
    """

    @staticmethod
    @no_type_check
    def forward(ctx: Any, weight, x, edges, backwards):
        ctx.edges, ctx.backwards = edges, backwards
        ctx.save_for_backward(weight, x)
        rows = edges.outgoing if backwards else edges.incoming
        return rows.matrix(weight) @ x

    @staticmethod
    @no_type_check
    def backward(ctx: Any, gradient):
        weight, x = ctx.saved_tensors
        by_weight = by_x = None
        if ctx.needs_input_grad[0]:
            ends = (x, gradient) if ctx.backwards else (gradient, x)
            by_weight = _Products.apply(*ends, ctx.edges)
        if ctx.needs_input_grad[1]:
            by_x = _Sum.apply(weight, gradient, ctx.edges, not ctx.backwards)
        return by_weight, by_x, None, None


class _Products(torch.autograd.Function):
    """For each edge, the dot product of a row at its target and a row at its source."""

    @staticmethod
    @no_type_check
    def forward(ctx: Any, at_target, at_source, edges):
        ctx.edges = edges
        ctx.save_for_backward(at_target, at_source)
        nothing = edges.incoming.matrix(at_target.new_zeros(len(edges.order)))
        # The products are taken where a sparse matrix has entries, and nowhere else.
        return torch.sparse.sampled_addmm(nothing, at_target, at_source.T, beta=0).values()

    @staticmethod
    @no_type_check
    def backward(ctx: Any, gradient):
        at_target, at_source = ctx.saved_tensors
        by_target = by_source = None
        if ctx.needs_input_grad[0]:
            by_target = _Sum.apply(gradient, at_source, ctx.edges, False)
        if ctx.needs_input_grad[1]:
            by_source = _Sum.apply(gradient, at_target, ctx.edges, True)
        return by_target, by_source, None


def _starts(sorted_ends: Int32[Tensor, " edges"], nodes: int) -> Int32[Tensor, " rows_and_one"]:
    """Where the edges of each node begin."""
    counts = torch.bincount(sorted_ends, minlength=nodes)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)


@cache
def _be_quiet() -> None:
    """torch says once that its sparse matrices are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(2), torch.zeros(0), torch.zeros(0), (1, 1))


def _checked(x: Tensor, edges: Adjacency | Tensor, weight: Tensor | None) -> Adjacency:
    """`edges` laid out, if they and the weights go with `x`."""
    for name, one in (("x", x), ("weight", weight)):
        if one is not None and not one.is_floating_point():
            raise InputTypeError(
                f"{name} is of a type that cannot be summed",
                expected="a floating tensor",
                got=str(one.dtype),
                hint=f"{name}.float()",
            )
    if x.dim() < 2:
        raise InputError("x has a shape that cannot be summed", expected="(..., nodes, width)", got=str(tuple(x.shape)))
    edges = laid_out(edges, x.shape[-2])
    if weight is not None and weight.shape != (*x.shape[:-2], len(edges.order)):
        raise InputError(
            "weight does not fit the edges",
            expected=str((*x.shape[:-2], len(edges.order))),
            got=str(tuple(weight.shape)),
        )
    return edges
