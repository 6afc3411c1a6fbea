"""Random instances of names that are given by shape, and what expressions come to in them, derivatives by autograd.

Sizes are distinct small primes, so that shapes fit only where they do for all sizes; entries are normal numbers, or
small whole ones, among which ties and zeros are common.
"""

import ast
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from qkv.check.worksheets.algebra import REDUCTIONS, Algebra, Setting, Symbol
from qkv.check.worksheets.orders import compiled, met, polynomial
from qkv.check.worksheets.shapes import Shapes
from qkv.check.worksheets.tensors import FUNCTIONS
from qkv.errors import InputError

Number = Float[Tensor, "..."]
Style = Literal["normal", "whole", "positive"]

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_OPERATIONS = 2_000_000  # that one instance may take


@dataclass(frozen=True)
class Instance:
    """Sizes, and values of the names that are given by shape."""

    sizes: Mapping[str, int]
    values: Mapping[str, Number]

    def __str__(self) -> str:
        return ", ".join(f"{name} = {size}" for name, size in self.sizes.items())


class Tensors(Algebra[Number]):
    """What expressions come to in an instance.

    >>> setting = Setting({"x": Symbol((ast.Name("n"),))})
    >>> at = Instance({"n": 2}, {"x": torch.tensor([1.0, 2.0], dtype=torch.float64)})
    >>> Tensors(setting, at).evaluate(ast.parse("grad(sum(x**3), x)", mode="eval").body).tolist()
    [3.0, 12.0]
    """

    def __init__(self, setting: Setting, at: Instance):
        super().__init__(setting)
        self.at = at

    def is_flat(self, a: Number) -> bool:
        return a.dim() == 1

    def number(self, value: int | float) -> Number:
        return torch.tensor(float(value), dtype=torch.float64)

    def symbol(self, name: str) -> Number:
        return self.at.values[name]

    def size(self, name: str) -> Number:
        return self.number(self.at.sizes[name])

    def value(self, value: Any) -> Number:
        return torch.as_tensor(value, dtype=torch.float64)

    def transpose(self, a: Number) -> Number:
        return a.mT if a.dim() > 1 else a

    def negate(self, a: Number) -> Number:
        return -a

    def add(self, a: Number, b: Number) -> Number:
        return a + b

    def multiply(self, a: Number, b: Number) -> Number:
        return a * b

    def divide(self, a: Number, b: Number) -> Number:
        return a / b

    def power(self, a: Number, b: Number) -> Number:
        return a**b

    def matmul(self, a: Number, b: Number) -> Number:
        return a @ b

    def index(self, a: Number, places: ast.expr) -> Number:
        wanted = places.elts if isinstance(places, ast.Tuple) else [places]
        return a[tuple(self._place(place) for place in wanted)]

    def _place(self, place: ast.expr) -> int | slice:
        if isinstance(place, ast.Slice):
            return slice(*(end and self._place(end) for end in (place.lower, place.upper, place.step)))
        return _whole(place, self.at.sizes)

    def stack(self, rows: list[Number]) -> Number:
        return torch.stack(rows)

    def call(self, name: str, arguments: list[Number], keywords: dict[str, Number]) -> Number:
        if name == "taylor":
            return _taylor(*arguments)
        if name in REDUCTIONS:
            return _reduced(name, arguments, keywords)
        if name == "concat":
            arguments = [part if part.dim() else part.reshape(1) for part in arguments]
        elif name in ("outer", "dot"):
            arguments = [part.reshape(-1) for part in arguments]
        elif name not in ("ones", "zeros", "eye") and len(arguments) == 2:
            keywords = {"axis": arguments.pop()}
        return FUNCTIONS[name](*arguments, **{key: int(value) for key, value in keywords.items()})

    def derivative(self, name: str, of: ast.expr, by: str, along: Number | None, local: Mapping[str, Number]) -> Number:
        x = self.named(by, local)
        if not x.requires_grad:
            x = x.detach().clone().requires_grad_()
        moved = Tensors(self.setting, Instance(self.at.sizes, {**self.at.values, by: x}))
        value = moved.evaluate(of, {**local, by: x} if by in local else local)
        if name == "jacobian":
            return _rows(value, x).reshape(_squeezed(value) + _squeezed(x))
        if value.numel() != 1:
            raise InputError(f"{name} is of a single number", got=f"{ast.unparse(of)} of {value.numel()}")
        slope = _gradient(value.sum(), x)
        if name == "hessian":
            return _rows(slope, x).reshape(_squeezed(x) * 2)
        return slope if along is None else _gradient((slope * along).sum(), x)


def instances(setting: Setting, expressions: Sequence[ast.expr], rounds: int, seed: int) -> Iterator[Instance]:
    """Instances of what expressions stand on: for each of `rounds` choices of sizes, three of normal numbers and one of
    small whole ones.

    Raises:
        InputError: no sizes meet the conditions, or all are too large to compute.
    """
    reached = setting.reach(*expressions)
    symbols = {name: one for name, one in setting.symbols.items() if name in reached}
    for round_, sizes in enumerate(sizes_for(setting, expressions, rounds, seed)):
        for draw in range(4):
            generator = torch.Generator().manual_seed(seed * 1009 + round_ * 4 + draw)
            style: Style = "whole" if draw == 3 else "normal"
            yield Instance(sizes, {name: drawn(one, sizes, generator, style) for name, one in symbols.items()})


def sizes_for(setting: Setting, expressions: Sequence[ast.expr], count: int, seed: int) -> list[dict[str, int]]:
    """Choices of sizes that meet the conditions: distinct primes where they can be, others where not.

    Raises:
        InputError: there are none.
    """
    names, choose = setting.sizes, random.Random(seed)
    if not names:
        return [{}]
    operations, allowed = operations_of(setting, expressions), met(setting.conditions, names)
    pools = [list(_PRIMES[: len(names) + more]) for more in (4, 1, 0)]
    tries: list[dict[str, int]] = [
        dict(zip(names, choose.sample(pool, len(names)), strict=True)) for pool in pools for _ in range(20 * count)
    ]
    small = itertools.product(range(1, 6 if len(names) < 5 else 3), repeat=len(names))
    found: list[dict[str, int]] = []
    for sizes in itertools.chain(tries, (dict(zip(names, each, strict=True)) for each in small)):
        if allowed([*sizes.values()]) and sizes not in found and operations(sizes) <= _OPERATIONS:
            found.append(sizes)
        if len(found) == count:
            break
    if not found:
        conditions = " and ".join(map(ast.unparse, setting.conditions))
        raise InputError("there are no sizes to try this in", expected="some that are small enough", got=conditions)
    return found


def operations_of(setting: Setting, expressions: Sequence[ast.expr]) -> Any:
    """How many operations expressions take, as a function of sizes."""
    shapes = Shapes(setting)
    for node in expressions:
        shapes.evaluate(node)
    counted = compiled(shapes.operations, setting.sizes)
    return lambda sizes: counted(*(sizes[name] for name in setting.sizes)) * (100 if shapes.derived else 1)


def drawn(one: Symbol, sizes: Mapping[str, int], generator: torch.Generator, style: Style) -> Number:
    """Random numbers of a shape and a kind.

    Raises:
        InputError: a size that is no whole number from 1 to 10,000.
    """
    shape = [_whole(size, sizes) for size in one.shape]
    if any(not 1 <= size <= 10_000 for size in shape):
        raise InputError("a size is a whole number above zero", got=", ".join(map(ast.unparse, one.shape)))
    if one.kind == "permutation":
        return torch.eye(shape[0], dtype=torch.float64)[torch.randperm(shape[0], generator=generator)]
    if one.kind == "onehot":
        places = torch.randint(shape[-1], shape[:-1], generator=generator)
        return torch.nn.functional.one_hot(places, shape[-1]).double()
    if one.kind == "mask":
        made = torch.randint(2, shape, generator=generator).double()
        made.view(-1)[0] = 1
        return made
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64)
    if one.kind == "distribution":
        return numbers.softmax(dim=-1)
    if one.kind == "orthogonal":
        return torch.linalg.qr(numbers)[0]
    if style == "whole":
        numbers = torch.randint(-2, 3, shape, generator=generator).double()
    if one.kind == "positive" or style == "positive":
        numbers = numbers.abs() + (1 if style == "whole" else 0.1)
    return (numbers + numbers.mT) / 2 if one.kind == "symmetric" else numbers


def _whole(size: ast.expr, sizes: Mapping[str, int]) -> int:
    value = polynomial(size).subs({name: sizes[name.name] for name in polynomial(size).free_symbols})
    if not value.is_Integer:
        raise InputError(f"{ast.unparse(size)} is no whole number", got=str(value))
    return int(value)


def _reduced(name: str, arguments: list[Number], keywords: Mapping[str, Number]) -> Number:
    """A sum or the like, along all axes or the one that is named or comes second."""
    x, *places = arguments
    axis = keywords.get("axis", places[0] if places else None)
    reduce = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin, "argmax": torch.argmax}[name]
    if axis is None:
        return reduce(x).double()
    return reduce(x, dim=int(axis), keepdim="keepdims" in keywords).double()


def _taylor(x: Number, order: Number) -> Number:
    """Features whose products are the Taylor polynomial of `exp(q . k)`, unfolded: Arora et al. 2024, section 3.1."""
    degrees = [torch.ones_like(x[..., :1])]
    for degree in range(1, int(order) + 1):
        degrees.append((degrees[-1][..., :, None] * x[..., None, :]).flatten(-2) / degree**0.5)
    return torch.cat(degrees, dim=-1)


def _gradient(value: Number, x: Number) -> Number:
    if not value.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(value, x, create_graph=True, allow_unused=True, materialize_grads=True)
    return slope


def _rows(values: Number, x: Number) -> Number:
    return torch.stack([_gradient(one, x) for one in values.reshape(-1)])


def _squeezed(x: Number) -> list[int]:
    """The shape of columns and rows as the vectors that they are."""
    return [size for size in x.shape if size != 1]
