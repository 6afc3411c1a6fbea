"""Rows of `LANES` floats as values in compiled loops, and products of matrices made of such rows.

A compiler that sees a loop over a few floats may unroll it instead of using vectors. Here a row is one value, of which
LLVM makes as many vectors as this processor needs, so that `put(c, i, row(a, i) * row(b, i))` is fast and reads like
what it does. In `product` a tile of the result stays in registers while it walks along the inner axis: nothing is
packed, and the way to BLAS and back, which costs as much as a product of this size, is saved. No compiler is needed.
"""

import operator
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from qkv.compiled import compiled

LANES = 32
# Rows of a tile: sums that fit into the registers, beside what they are made of.
ROWS = 8 if binding.get_host_cpu_features().get("avx512f") else 2

_LINE = 16  # floats in a cache line

_VECTOR, _INT = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)


class _Row(types.Type):
    def __init__(self):
        super().__init__("Row")


@register_model(_Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


_ROW = _Row()


@no_type_check
def _let_rows(function: Callable[..., Any], instruction: str) -> None:
    """Lets `function`, such as `operator.add`, take two rows."""
    infer_global(function)(type("_OfRows", (ConcreteTemplate,), {"cases": [signature(_ROW, _ROW, _ROW)]}))

    @no_type_check
    @lower_builtin(function, _ROW, _ROW)
    def _(context, builder, signature, arguments):  # noqa: ARG001
        return getattr(builder, instruction)(*arguments, flags=("fast",))


_let_rows(operator.add, "fadd")
_let_rows(operator.iadd, "fadd")
_let_rows(operator.sub, "fsub")
_let_rows(operator.mul, "fmul")
_let_rows(operator.truediv, "fdiv")


@no_type_check
def _pointer(context, builder, kind, array, place):
    """To the row that begins at the number `place` of an array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())


@no_type_check
def _in_every_lane(builder, number):
    undefined, first = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)(0)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
    return builder.shuffle_vector(builder.insert_element(undefined, number, first), undefined, lanes)


@no_type_check
@intrinsic
def _load(context, array, place):  # noqa: ARG001 - typed by it
    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return _ROW(array, types.int64), generate


@no_type_check
@intrinsic
def _store(context, array, place, value):  # noqa: ARG001 - typed by it
    def generate(context, builder, signature, arguments):
        array, place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], array, place), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, _ROW), generate


@no_type_check
@intrinsic
def every(context, number):  # noqa: ARG001 - typed by it
    """A row of one number."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        return _in_every_lane(builder, *arguments)

    return _ROW(types.float32), generate


@no_type_check
@intrinsic
def row_sum(context, value):  # noqa: ARG001 - typed by it
    """The sum over a row."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(reduce, [ir.FloatType()(0.0), *arguments], fastmath=("fast",))

    return types.float32(_ROW), generate


@no_type_check
@intrinsic
def larger(context, a, b):  # noqa: ARG001 - typed by it
    """In each lane the larger one; NaN in `a` stays."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        a, b = arguments
        return builder.select(builder.fcmp_ordered("<", a, b), b, a)

    return _ROW(_ROW, _ROW), generate


@no_type_check
@intrinsic
def _nearest(context, value):  # noqa: ARG001 - typed by it
    """In each lane the nearest whole number."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        rint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR]), f"llvm.rint.v{LANES}f32"
        )
        return builder.call(rint, arguments)

    return _ROW(_ROW), generate


@no_type_check
@intrinsic
def _two_to_the(context, value):  # noqa: ARG001 - typed by it
    """`2^k` of whole numbers from -126 to 127, which is written into the exponent."""

    def generate(context, builder, signature, arguments):  # noqa: ARG001
        integers = ir.VectorType(ir.IntType(32), LANES)
        bias, place = (ir.Constant(integers, [number] * LANES) for number in (127, 23))
        exponent = builder.add(builder.fptosi(arguments[0], integers), bias)
        return builder.bitcast(builder.shl(exponent, place), _VECTOR)

    return _ROW(_ROW), generate


@no_type_check
@compiled
def exp(x):
    """`e^x` in each lane to a relative 4e-7, for x up to 87; below -87 it stays at what it is there.

    `x = k log 2 + r` with `|r| <= log 2 / 2`, where seven terms of Taylor's series leave less than what is rounded.
    """
    x = larger(x, every(np.float32(-87)))
    k = _nearest(x * every(np.float32(1.4426950408889634)))
    r = x - k * every(np.float32(0.6931471805599453))
    series = every(np.float32(1 / 5040))
    for term in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        series = series * r + every(np.float32(term))
    return series * _two_to_the(k)


@no_type_check
@compiled
def row(x, i):
    """Row `i` of an array whose last axis has `LANES` numbers, counted over all other axes."""
    return _load(x, i * LANES)


@no_type_check
@compiled
def put(x, i, value):
    """Writes row `i`."""
    _store(x, i * LANES, value)


@no_type_check
@compiled
def zeros(count):
    """Zeros that begin with a cache line: a vector that lies in two takes twice as long to load."""
    numbers = np.zeros(count + _LINE, np.float32)
    start = -(numbers.ctypes.data // numbers.itemsize) % _LINE
    return numbers[start : start + count]


@no_type_check
@compiled
def panels(rows, columns):
    """A matrix of zeros as products want it, shape (panels, rows, LANES): columns in panels, each of them in one piece.

    A panel stays in the nearest cache while all rows of a result are made from it. There are as many rows as fill
    whole tiles.
    """
    count, rows = -(-columns // LANES), -(-rows // ROWS) * ROWS
    return zeros(count * rows * LANES).reshape((count, rows, LANES))


# -- products --------------------------------------------------------------------------------------------------------


@no_type_check
@intrinsic
def _tile(context, a, a_at, a_row, a_step, b, b_at, b_row, inner, c, c_at, c_row, keep):  # noqa: ARG001 - typed by it
    """`c = a b + keep c` for `ROWS` rows and `LANES` columns; all places, and ways from number to number, in floats."""
    integer = types.int64

    def generate(context, builder, signature, arguments):
        a, a_at, a_row, a_step, b, b_at, b_row, inner, c, c_at, c_row, keep = arguments
        a_type, b_type, c_type = signature.args[0], signature.args[4], signature.args[8]
        numbers = context.make_array(a_type)(context, builder, a).data
        name = f"llvm.fmuladd.v{LANES}f32"
        multiply_add = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), name)

        lines = [builder.add(c_at, builder.mul(c_row, _INT(r))) for r in range(ROWS)]
        written = [_pointer(context, builder, c_type, c, line) for line in lines]
        zero = ir.Constant(_VECTOR, None)
        begun = [builder.select(keep, builder.load(pointer, align=4), zero) for pointer in written]
        before, along, after = builder.block, builder.append_basic_block("along"), builder.append_basic_block("after")
        builder.branch(along)

        builder.position_at_end(along)
        done, in_a, in_b = (builder.phi(_INT) for _ in range(3))
        sums = [builder.phi(_VECTOR) for _ in range(ROWS)]
        of_b = builder.load(_pointer(context, builder, b_type, b, in_b), align=4)
        places = [builder.add(in_a, builder.mul(a_row, _INT(r))) for r in range(ROWS)]
        of_a = [_in_every_lane(builder, builder.load(builder.gep(numbers, [place]), align=4)) for place in places]
        added = [builder.call(multiply_add, [of_a[r], of_b, sums[r]]) for r in range(ROWS)]
        for counter, first, way in (done, _INT(0), _INT(1)), (in_a, a_at, a_step), (in_b, b_at, b_row):
            counter.add_incoming(first, before)
            counter.add_incoming(builder.add(counter, way), along)
        for r in range(ROWS):
            sums[r].add_incoming(begun[r], before)
            sums[r].add_incoming(added[r], along)
        builder.cbranch(builder.icmp_signed("<", builder.add(done, _INT(1)), inner), along, after)

        builder.position_at_end(after)
        for r in range(ROWS):
            builder.store(added[r], written[r], align=4)
        return context.get_dummy_value()

    return types.void(a, *[integer] * 3, b, *[integer] * 3, c, *[integer] * 2, types.boolean), generate


@no_type_check
@compiled
def product(a, b, inner, c, keep):
    """`c = a b`, added to `c` where `keep`; `inner` columns of `a` and rows of `b` count."""
    (count, rows, _), rows_of_b = c.shape, b.shape[1]
    for panel in range(count - 1, -1, -1):  # backwards, as what is next begins with the last: it is still near
        for k in range(0, inner, LANES):
            along, kept = min(inner - k, LANES), keep or k > 0
            for r in range(0, rows, ROWS):
                in_a, in_b = k * a.shape[1] + r * LANES, (panel * rows_of_b + k) * LANES
                _tile(a, in_a, LANES, 1, b, in_b, LANES, along, c, (panel * rows + r) * LANES, LANES, kept)


@no_type_check
@compiled
def transposed_product(a, b, inner, c, keep, triangular):
    """`c = a^T b` for one panel `a`; where `triangular`, `a` is zero below its diagonal, and not read there."""
    count, rows, _ = c.shape
    for panel in range(count):
        for r in range(0, rows, ROWS):
            along = min(inner, r + ROWS) if triangular else inner
            in_b, in_c = panel * b.shape[1] * LANES, (panel * rows + r) * LANES
            _tile(a, r, 1, LANES, b, in_b, LANES, along, c, in_c, LANES, keep)


@no_type_check
@compiled
def multiply(a, b, c):
    """`c = a b` of matrices as they lie, of which `c` has at least `ROWS` rows and `LANES` columns.

    Along rows of `b` and `c`, numbers are neighbours; `a` may be transposed. What is no whole tile at the end of `c` is
    made part of one that begins earlier.
    """
    (rows, inner), columns = a.shape, c.shape[1]
    a_row, a_step, b_row, c_row = a.strides[0] // 4, a.strides[1] // 4, b.strides[0] // 4, c.strides[0] // 4
    for panel in range(0, columns, LANES):
        left = min(panel, columns - LANES)
        for tile in range(0, rows, ROWS):
            top = min(tile, rows - ROWS)
            _tile(a, top * a_row, a_row, a_step, b, left, b_row, inner, c, top * c_row + left, c_row, False)
