"""What every form of attention asks of its inputs, said in one way; compiled code asks nothing."""

import math

import torch
from torch import Tensor

from qkv.errors import InputError, InputTypeError, NotFiniteError


def check_inputs(*, query: Tensor, key: Tensor, value: Tensor | None = None, same_width: bool = True) -> None:
    """Refuses types and shapes that cannot go together; looks at no values.

    Args:
        query, key, value: `(*batch, length, width)`.
        same_width: whether queries and keys are compared entry by entry.

    Raises:
        InputTypeError: tensors that are not floating, or of different types outside autocast.
        InputError: shapes that cannot go together.
    """
    if torch.compiler.is_compiling():
        return
    named = {"query": query, "key": key} | ({} if value is None else {"value": value})
    for name, x in named.items():
        if not x.is_floating_point():
            raise InputTypeError(
                f"{name} is of a type that cannot be attended with",
                expected="a floating tensor",
                got=str(x.dtype),
                hint=f"{name}.float()",
            )
        if x.dtype != query.dtype and not torch.is_autocast_enabled(query.device.type):
            raise InputTypeError(
                f"query and {name} are of different types",
                expected="one type",
                got=f"{query.dtype} and {x.dtype}",
                hint=f"{name}.to(query.dtype)",
            )
        if x.dim() < 2:
            raise InputError(
                f"{name} has a shape that cannot be attended with", expected="(..., length, width)", got=_shape(x)
            )
        if x.shape[:-2] != query.shape[:-2]:
            raise InputError(
                f"query and {name} differ in their leading axes",
                expected="the same batch and heads",
                got=f"{_shape(query)} and {_shape(x)}",
                hint=f"{name}.expand, where one is for all",
            )
    if same_width and query.shape[-1] != key.shape[-1]:
        raise InputError(
            "query and key differ in width, and this form compares them entry by entry",
            expected="vectors of one size",
            got=f"{query.shape[-1]} and {key.shape[-1]}",
            hint="bilinear_attention, or a projection of one of them",
        )
    if value is not None and key.shape[-2] != value.shape[-2]:
        raise InputError(
            "key and value differ in length",
            expected="a value for each key",
            got=f"{key.shape[-2]} keys and {value.shape[-2]} values",
        )


def check_finite(output: Tensor, *hiding: Tensor, key: Tensor, **others: Tensor) -> None:
    """Refuses inputs that hold NaN or infinity, told by the output that they made; on a processor alone.

    What is not finite in queries and values always reaches the output, but an infinite key may come out as a weight of
    zero: so two sums are taken, of output and keys, and the entry to blame is looked for only where they tell of one.

    Args:
        output: what came of the inputs.
        hiding: further inputs whose infinities this form may hide.
        key, others: all inputs, by the names that messages call them.

    Raises:
        NotFiniteError: naming the input and its first such entry, or the type that the scores overflow.
    """
    if output.device.type != "cpu" or not values_are_there(output):
        return
    if math.isfinite(sum(x.detach().sum(dtype=exact_type(x)).item() for x in (output, key, *hiding))):
        return
    for name, x in {**others, "key": key}.items():
        wrong = x.isfinite().logical_not()
        if bool(wrong.any()):
            place = tuple(wrong.nonzero()[0].tolist())
            raise NotFiniteError(f"{name} is not finite", expected="numbers", got=f"{x[place].item()} at {place}")
    if not bool(output.isfinite().all()):
        raise NotFiniteError(
            f"the scores overflow {output.dtype}, though all inputs are finite",
            expected=f"scores up to {torch.finfo(output.dtype).max:.3g}",
            hint="a smaller scale, shorter queries and keys, or a type of wider range (float32, bfloat16)",
        )


def check_edges(edge_index: Tensor, nodes: int) -> None:
    """Refuses what is not `(2, edges)` of numbers of nodes, from 0 to `nodes - 1`.

    Raises:
        InputTypeError: numbers that are not 64-bit integers.
        InputError: another shape, or a number out of range.
    """
    if torch.compiler.is_compiling():
        return
    if edge_index.dtype != torch.int64:
        raise InputTypeError(
            "edge_index is of a type that cannot be used",
            expected="torch.int64, the numbers of nodes",
            got=str(edge_index.dtype),
            hint="edge_index.long()",
        )
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise InputError(
            "edge_index has a shape that cannot be used",
            expected="(2, edges), sources above targets",
            got=_shape(edge_index),
            hint="edge_index.T" if edge_index.dim() == 2 and edge_index.shape[1] == 2 else "",
        )
    wrong = (edge_index < 0) | (edge_index >= nodes)
    if values_are_there(wrong) and bool(wrong.any()):
        edge = int(wrong.any(dim=0).nonzero()[0])
        source, target = edge_index[:, edge].tolist()
        raise InputError(
            "edge_index names a node that is not there",
            expected=f"numbers from 0 to {nodes - 1}",
            got=f"edge {edge}, from {source} to {target}",
        )


def values_are_there(x: Tensor) -> bool:
    """Whether numbers can be looked at: not in compiled code, inside `torch.func`, or in a tensor without storage."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and type(x) is Tensor
        and not x.is_meta
    )


def exact_type(x: Tensor) -> torch.dtype:
    """The type in which sums over `x` are taken: float32 for half precision, its own for wider ones."""
    return torch.promote_types(x.dtype, torch.float32)


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))
