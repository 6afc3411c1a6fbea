"""Shapes of expressions in sizes that are names, and how many operations it takes to compute them.

The convention: one multiply-add for each term of a product; three operations for each entry of a softmax (exponential,
sum, division); one for each entry of everything else, of what is summed where something is. What only moves numbers
(transposes, indices, `concat`, `vec`, `diag`) takes none, nor does arithmetic on sizes and written numbers. What has a
name, and what a function is called with, is computed once.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from qkv.check.worksheets.algebra import ELEMENTWISE, REDUCTIONS, Algebra, Setting
from qkv.check.worksheets.orders import Size, polynomial, symbol, written
from qkv.errors import InputError

CONVENTION = (
    "a multiply-add for each term of a product, 3 operations for each entry of a softmax, 1 for each entry of all "
    "else; what has a name is computed once"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of an array along its axes; `value` of a number that is made of sizes and written numbers alone."""

    sizes: tuple[Size, ...]
    value: Size | None = None

    @property
    def entries(self) -> Size:
        return sympy.Mul(*self.sizes)

    def __str__(self) -> str:
        if not self.sizes:
            return "a number"
        return f"({', '.join(map(written, self.sizes))}{',' * (len(self.sizes) == 1)})"


_ONE = sympy.Integer(1)


class Shapes(Algebra[Shape]):
    """Shapes, and the operations counted on the way to them in `operations`.

    >>> sizes = [ast.Name("L"), ast.Name("D")]
    >>> from qkv.check.worksheets.algebra import Symbol
    >>> shapes = Shapes(Setting({name: Symbol(tuple(sizes)) for name in "QKV"}))
    >>> str(shapes.evaluate(ast.parse("softmax(Q @ K.T) @ V", mode="eval").body)), written(shapes.operations)
    ('(L, D)', '2 * D * L**2 + 3 * L**2')
    """

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.operations: Size = sympy.Integer(0)
        self.derived = False  # whether there was a derivative, whose operations are not counted

    def is_flat(self, a: Shape) -> bool:
        return len(a.sizes) == 1

    def number(self, value: int | float) -> Shape:
        return Shape((), sympy.nsimplify(value, rational=True))

    def symbol(self, name: str) -> Shape:
        return Shape(tuple(polynomial(size) for size in self.setting.symbols[name].shape))

    def size(self, name: str) -> Shape:
        return Shape((), symbol(name))

    def value(self, value: Any) -> Shape:
        return Shape(tuple(sympy.Integer(size) for size in np.shape(value)))

    def transpose(self, a: Shape) -> Shape:
        return Shape(a.sizes[::-1], a.value)

    def negate(self, a: Shape) -> Shape:
        return self._each(a.sizes, None if a.value is None else -a.value)

    def add(self, a: Shape, b: Shape) -> Shape:
        return self._both(a, b, lambda x, y: x + y)

    def multiply(self, a: Shape, b: Shape) -> Shape:
        return self._both(a, b, lambda x, y: x * y)

    def divide(self, a: Shape, b: Shape) -> Shape:
        return self._both(a, b, lambda x, y: x / y)

    def power(self, a: Shape, b: Shape) -> Shape:
        return self._both(a, b, lambda x, y: x**y)

    def matmul(self, a: Shape, b: Shape) -> Shape:
        if not (1 <= len(a.sizes) <= 2 and 1 <= len(b.sizes) <= 2):
            raise InputError("@ is between vectors and matrices", got=f"{a} and {b}")
        inner = b.sizes[0]
        if not _equal(a.sizes[-1], inner):
            raise InputError("shapes do not fit in a product", expected="the same size inside", got=f"{a} @ {b}")
        made = Shape((*a.sizes[:-1], *b.sizes[1:]))
        self.operations += made.entries * inner
        return made

    def index(self, a: Shape, places: ast.expr) -> Shape:
        wanted = places.elts if isinstance(places, ast.Tuple) else [places]
        if len(wanted) > len(a.sizes):
            raise InputError(f"too many indices for {a}", got=ast.unparse(places))
        kept = []
        for size, place in zip(a.sizes, wanted, strict=False):
            if isinstance(place, ast.Slice):
                kept.append(self._sliced(size, place))
        return Shape((*kept, *a.sizes[len(wanted) :]))

    def _sliced(self, size: Size, place: ast.Slice) -> Size:
        if place.step is not None:
            raise InputError("a slice with a step has no size in general", got=ast.unparse(place))
        lower, upper = (None if end is None else polynomial(end) for end in (place.lower, place.upper))
        from_start = sympy.Integer(0) if lower is None else lower
        to_end = size if upper is None else upper
        ends = (end + size if end.is_negative else end for end in (to_end, from_start))
        stop, start = ends
        return sympy.expand(stop - start)

    def stack(self, rows: list[Shape]) -> Shape:
        if not rows or any(len(row.sizes) != len(rows[0].sizes) for row in rows):
            raise InputError("rows of a list differ in shape", got=", ".join(map(str, rows)))
        return Shape((sympy.Integer(len(rows)), *rows[0].sizes))

    def call(self, name: str, arguments: list[Shape], keywords: dict[str, Shape]) -> Shape:
        given = arguments
        if name == "concat":
            return self._concat(arguments, _axis(keywords.get("axis"), 0))
        if name in ("ones", "zeros", "eye"):
            sizes = [self._known(name, one) for one in given]
            return Shape(tuple(sizes * 2 if name == "eye" else sizes))
        if name in ("outer", "dot", "taylor"):
            a, b = self._given(name, given, 2)
            if name == "taylor":
                return self._taylor(a, self._known(name, b))
            return self._outer(a, b) if name == "outer" else self._dot(a, b)
        if len(given) == 2:
            keywords = {**keywords, "axis": given.pop()}
        (a,) = self._given(name, given, 1)
        if name in REDUCTIONS:
            self.operations += a.entries
            return Shape(_without(a, keywords.get("axis"), "keepdims" in keywords))
        if name in ("softmax", "log_softmax"):
            self.operations += 3 * a.entries
            return Shape(a.sizes)
        if name in ("trace", "norm"):
            self.operations += a.sizes[0] if name == "trace" else a.entries
            return Shape(())
        if name == "vec":
            return Shape((a.entries,))
        if name == "diag":
            return Shape(a.sizes * 2 if len(a.sizes) == 1 else a.sizes[:1])
        if name in ELEMENTWISE:
            value = sympy.sqrt(a.value) if name == "sqrt" and a.value is not None else None
            return self._each(a.sizes, value, free=a.value is not None)
        raise InputError(f"{name} has no shape that is known")

    def derivative(self, name: str, of: ast.expr, by: str, along: Shape | None, local: Mapping[str, Shape]) -> Shape:
        """The shape alone: what a derivative costs depends on how it is computed."""
        x, value = self.named(by, local), self.evaluate(of, local)
        self.derived = True
        if name == "jacobian":
            return Shape(_squeezed(value.sizes) + _squeezed(x.sizes))
        if not _equal(value.entries, _ONE):
            raise InputError(f"{name} is of a single number", got=f"{ast.unparse(of)} of shape {value}")
        if along is not None and not _same(along.sizes, x.sizes):
            raise InputError(f"{name} is along a vector of the shape of {by}", expected=str(x), got=str(along))
        return Shape(_squeezed(x.sizes) * 2) if name == "hessian" else Shape(x.sizes)

    # -- parts

    def _each(self, sizes: tuple[Size, ...], value: Size | None, *, free: bool = False) -> Shape:
        if value is None and not free:
            self.operations += sympy.Mul(*sizes)
        return Shape(sizes, value)

    def _both(self, a: Shape, b: Shape, combined: Any) -> Shape:
        if a.value is not None and b.value is not None:
            return Shape((), combined(a.value, b.value))
        return self._each(broadcast(a, b), None)

    def _outer(self, a: Shape, b: Shape) -> Shape:
        made = Shape((a.entries, b.entries))
        self.operations += made.entries
        return made

    def _dot(self, a: Shape, b: Shape) -> Shape:
        if not _same(a.sizes, b.sizes):
            raise InputError("shapes do not fit in dot", expected="the same on both sides", got=f"{a} and {b}")
        self.operations += a.entries
        return Shape(())

    def _taylor(self, a: Shape, order: Size) -> Shape:
        """All products of at most `order` coordinates: `1 + D + ... + D**order` of them."""
        *rows, size = a.sizes
        degree = sympy.Symbol("degree", integer=True)
        features = sympy.summation(size**degree, (degree, 0, order)) if order.is_number else _geometric(size, order)
        self.operations += sympy.Mul(*rows) * features
        return Shape((*rows, features))

    def _concat(self, parts: Sequence[Shape], axis: int) -> Shape:
        parts = [part if part.sizes else Shape((_ONE,)) for part in parts]
        if not parts or any(len(part.sizes) != len(parts[0].sizes) for part in parts):
            raise InputError("concat is of arrays with as many axes", got=", ".join(map(str, parts)))
        axis %= len(parts[0].sizes)
        if any(not _same(_dropped(part.sizes, axis), _dropped(parts[0].sizes, axis)) for part in parts):
            raise InputError("shapes do not fit in concat", got=", ".join(map(str, parts)))
        sizes = list(parts[0].sizes)
        sizes[axis] = sympy.Add(*(part.sizes[axis] for part in parts))
        return Shape(tuple(sizes))

    def _given(self, name: str, arguments: list[Shape], count: int) -> list[Shape]:
        if len(arguments) != count:
            raise InputError(f"{name} takes another number of arguments", expected=str(count), got=str(len(arguments)))
        return arguments

    def _known(self, name: str, one: Shape) -> Size:
        if one.value is None:
            raise InputError(f"{name} takes sizes", expected="a whole number or the name of a size", got=str(one))
        return one.value


def broadcast(a: Shape, b: Shape) -> tuple[Size, ...]:
    """The sizes of what two arrays come to entry by entry, as NumPy has them.

    Raises:
        InputError: sizes that are neither the same nor 1.
    """
    sizes = []
    longest = max(len(a.sizes), len(b.sizes))
    padded = [(_ONE,) * (longest - len(one.sizes)) + one.sizes for one in (a, b)]
    for one, other in zip(*padded, strict=True):
        if not (_equal(one, other) or _equal(one, _ONE) or _equal(other, _ONE)):
            raise InputError("shapes do not fit entry by entry", expected="the same sizes, or 1", got=f"{a} and {b}")
        sizes.append(other if _equal(one, _ONE) else one)
    return tuple(sizes)


def fits(setting: Setting, *expressions: ast.expr) -> bool:
    """Whether the shapes of expressions fit, and are all the same."""
    try:
        shapes = [Shapes(setting).evaluate(node).sizes for node in expressions]
    except InputError:
        return False
    return all(_same(shape, shapes[0]) for shape in shapes)


def shape_of(setting: Setting, node: ast.expr) -> Shape:
    """The shape of an expression.

    Raises:
        InputError: a name that is not known, shapes that do not fit; with the part in which they do not.
    """
    return Shapes(setting).evaluate(node)


def same(a: Shape, b: Shape) -> bool:
    """Whether two shapes are the same for all sizes."""
    return _same(a.sizes, b.sizes)


def _same(a: Sequence[Size], b: Sequence[Size]) -> bool:
    return len(a) == len(b) and all(map(_equal, a, b))


def _equal(a: Size, b: Size) -> bool:
    return bool(a == b or sympy.expand(a - b) == 0)


def _geometric(size: Size, order: Size) -> Size:
    return (size ** (order + 1) - 1) / (size - 1)


def _axis(axis: Shape | None, default: int) -> int:
    return default if axis is None or axis.value is None else int(axis.value)


def _without(a: Shape, axis: Shape | None, keep: bool) -> tuple[Size, ...]:
    """The sizes of what is summed along an axis, of which 1 is left where `keep` says so."""
    if axis is None:
        return (_ONE,) * len(a.sizes) if keep else ()
    place = _axis(axis, 0)
    if not -len(a.sizes) <= place < len(a.sizes):
        raise InputError(f"no axis {place} in {a}", expected=f"-{len(a.sizes)} to {len(a.sizes) - 1}")
    place %= len(a.sizes)
    return (*a.sizes[:place], *[_ONE] * keep, *a.sizes[place + 1 :])


def _dropped(sizes: tuple[Size, ...], axis: int) -> tuple[Size, ...]:
    return sizes[:axis] + sizes[axis + 1 :]


def _squeezed(sizes: tuple[Size, ...]) -> tuple[Size, ...]:
    """Columns and rows as the vectors that they are."""
    return tuple(size for size in sizes if not _equal(size, _ONE))
