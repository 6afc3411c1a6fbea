"""A backward pass derived: the adjoint of every node and leaf as an expression, in matrix form, from the loss back.

One rule for each operation says what its operands get from the adjoint of its result (Giles 2008, "Collected matrix
derivative results for forward and reverse mode algorithmic differentiation", sections 2.2 and 2.3). Every line is
computed in random instances and held to autograd before it is handed out.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from qkv.check.worksheets.backward import Filled, Problem, close, filled, rebuilt
from qkv.check.worksheets.orders import polynomial, written
from qkv.check.worksheets.shapes import Shape, same
from qkv.errors import InputError

Pulled = Iterator[tuple[str, ast.expr]]


@dataclass(frozen=True)
class Adjoint:
    """The adjoint of one node or leaf.

    Attributes:
        shape: of both.
        links: expressions that it is equal to, the simplest last.
        uses: the steps that it comes from.
    """

    name: str
    shape: Shape
    links: Sequence[ast.expr]
    uses: Sequence[str]

    def __str__(self) -> str:
        return " = ".join([f"bar({self.name})", *map(ast.unparse, self.links)])


def derivation(problem: Problem, seed: int = 0) -> list[Adjoint]:
    """Every adjoint of a graph, that of the loss first; those of constants are left out.

    Raises:
        InputError: a graph that cannot be computed, or an operation without a rule.

    >>> from qkv.check.worksheets.algebra import Setting, Symbol
    >>> from qkv.check.worksheets.syntax import parse
    >>> (graph,) = parse("graph\\na = W @ x\\nJ = sum(relu(a))\\nend").statements
    >>> setting = Setting({"W": Symbol((ast.Name("m"), ast.Name("n"))), "x": Symbol((ast.Name("n"),))})
    >>> print(*derivation(Problem(graph.assignments, setting)), sep="\\n")
    bar(J) = 1
    bar(a) = step(a)
    bar(W) = outer(bar(a), x)
    bar(x) = W.T @ bar(a)
    """
    instances = filled(problem, seed)
    rules = _Rules(problem)
    parts: dict[str, list[tuple[str, ast.expr]]] = {problem.loss: [("", _number(1))]}
    found: list[Adjoint] = []
    waiting = [name for name in problem.leaves if name not in problem.constants]

    def add(name: str) -> ast.expr:
        links = _links(name, parts.get(name, []), found, rules, instances)
        found.append(Adjoint(name, problem.shape(ast.Name(name)), links, problem.users(name)))
        return links[-1]

    ahead = [step.name for step in problem.steps]
    for step in reversed(problem.steps):
        value = add(ahead.pop())
        for name, part in rules.pull(step.value, value if step.name == problem.loss else _bar(step.name), step.name):
            parts.setdefault(name, []).append((step.name, part))
        for leaf in [name for name in waiting if not set(ahead) & set(problem.users(name))]:
            add(leaf)
            waiting.remove(leaf)
    return found


def _links(
    name: str, parts: Sequence[tuple[str, ast.expr]], found: Sequence[Adjoint], rules: "_Rules", at: Sequence[Filled]
) -> list[ast.expr]:
    """The sum of what comes through the users of a node, and simpler forms of it, each held to autograd."""
    shape = rules.problem.shape(ast.Name(name))
    first = _tidy(_total([part for _, part in parts])) if parts else _filled_with(_number(0), shape)
    if not _right(name, first, at):
        raise AssertionError(f"the rules give bar({name}) = {ast.unparse(first)}, and autograd something else")
    simpler = [one for one in _simpler(parts, found, rules) if _right(name, one, at)]
    return [first, *simpler]


def _right(name: str, value: ast.expr, at: Sequence[Filled]) -> bool:
    for one in at:
        bars = one.sweep({}).derived
        known = one.values | {f"bar({node})": bar for node, bar in bars.items()}
        if not close(one.evaluate(value, known), bars[name]):
            return False
    return True


def _simpler(parts: Sequence[tuple[str, ast.expr]], found: Sequence[Adjoint], rules: "_Rules") -> Iterator[ast.expr]:
    """What a softmax below a logarithm comes to: its adjoint is a quotient by itself, which cancels."""
    steps = {step.name: step.value for step in rules.problem.steps}
    made = [one for one in found if len(parts) == 1 and one.name == parts[0][0]]
    if not made or _called(steps[made[0].name]) != "softmax":
        return
    softmax = ast.Name(made[0].name)
    match made[0].links[-1]:
        case ast.BinOp(left=top, op=ast.Div(), right=ast.Name(id=below)) if below == softmax.id:
            count, target = _coefficient(top)
            over = None
            if isinstance(target, ast.BinOp) and isinstance(target.op, ast.Div):  # a mean over rows
                target, over = target.left, target.right
            if isinstance(target, ast.UnaryOp):
                count, target = -count, target.operand
            if count == -1 and rules.axes(softmax) == 1 and over is None:
                yield _minus(_times(softmax, _call("sum", target)), target)
            if count == -1:
                yield _minus(softmax, target) if over is None else _over(_minus(softmax, target), over)


class _Rules:
    """What the operands of each operation get."""

    def __init__(self, problem: Problem):
        self.problem = problem

    def shape(self, node: ast.expr) -> Shape:
        return self.problem.shape(node)

    def axes(self, node: ast.expr) -> int:
        return len(self.shape(node).sizes)

    def pull(self, node: ast.expr, g: ast.expr, made: str = "") -> Pulled:
        """The part of the adjoint that comes to each name in `node`, whose own adjoint is `g`.

        Args:
            made: the name of the node, where it is all of a step.
        """
        match node:
            case ast.Name(id=name):
                if name not in self.problem.setting.sizes and name not in self.problem.constants:
                    yield name, g
            case ast.Constant():
                return
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                yield from self.pull(inner, _minus_of(g))
            case ast.UnaryOp(operand=inner):
                yield from self.pull(inner, g)
            case ast.Attribute(value=inner, attr="T"):
                yield from self.pull(inner, self._turned(g))
            case ast.BinOp():
                yield from self._of_two(node, g)
            case ast.Call(func=ast.Name(id=name)) if name in self.problem.setting.definitions:
                yield from self.pull(self._inlined(node), g)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                yield from self._of_call(name, arguments, node, g, ast.Name(made) if made else node)
            case _:
                raise InputError(f"there is no rule for the adjoint of {ast.unparse(node)}", expected=_KNOWN)

    def _inlined(self, node: ast.Call) -> ast.expr:
        """The body of a function of the sheet, with the arguments in the place of its parameters."""
        function = self.problem.setting.definitions[_called(node)]
        arguments = dict(zip(function.parameters, node.args, strict=True))

        return rebuilt(function.body, lambda part: arguments.get(part.id) if isinstance(part, ast.Name) else None)

    def _of_two(self, node: ast.BinOp, g: ast.expr) -> Pulled:
        a, b = node.left, node.right
        match node.op:
            case ast.Add():
                yield from self.pull(a, self._summed(g, node, a))
                yield from self.pull(b, self._summed(g, node, b))
            case ast.Sub():
                yield from self.pull(a, self._summed(g, node, a))
                yield from self.pull(b, self._summed(_minus_of(g), node, b))
            case ast.Mult():
                yield from self.pull(a, self._summed(self._scaled(g, b), node, a))
                yield from self.pull(b, self._summed(self._scaled(g, a), node, b))
            case ast.Div():
                yield from self.pull(a, self._summed(_over(g, b), node, a))
                if self._moves(b):
                    slope = _over(self._scaled(_minus_of(g), a), ast.BinOp(b, ast.Pow(), _number(2)))
                    yield from self.pull(b, self._summed(slope, node, b))
            case ast.Pow() if isinstance(b, ast.Constant):
                below = a if b.value == 2 else ast.BinOp(a, ast.Pow(), ast.Constant(b.value - 1))  # pyright: ignore[reportOperatorIssue] - a number
                yield from self.pull(a, self._scaled(_times(b, g), below))
            case ast.MatMult():
                yield from self._of_product(a, b, g)
            case _:
                raise InputError(f"there is no rule for the adjoint of {ast.unparse(node)}", expected=_KNOWN)

    def _of_product(self, a: ast.expr, b: ast.expr, g: ast.expr) -> Pulled:
        match self.axes(a), self.axes(b):
            case 2, 2:
                yield from self.pull(a, self._matmul(g, self._turned(b)))
                yield from self.pull(b, self._matmul(self._turned(a), g))
            case 2, 1:
                yield from self.pull(a, _call("outer", g, b))
                yield from self.pull(b, self._matmul(self._turned(a), g))
            case 1, 2:
                yield from self.pull(a, self._matmul(b, g))
                yield from self.pull(b, _call("outer", a, g))
            case _:
                yield from self.pull(a, self._scaled(g, b))
                yield from self.pull(b, self._scaled(g, a))

    def _of_call(self, name: str, arguments: Sequence[ast.expr], node: ast.Call, g: ast.expr, made: ast.expr) -> Pulled:
        a = arguments[0]
        axis = self._axis(node)
        match name:
            case "sigmoid":
                yield from self.pull(a, self._scaled(self._scaled(g, made), _minus(_number(1), made)))
            case "tanh":
                yield from self.pull(a, self._scaled(g, _minus(_number(1), ast.BinOp(made, ast.Pow(), _number(2)))))
            case "relu":
                yield from self.pull(a, self._scaled(g, _call("step", a)))
            case "exp":
                yield from self.pull(a, self._scaled(g, made))
            case "log":
                yield from self.pull(a, _over(g, a))
            case "sqrt":
                if self._moves(a):
                    yield from self.pull(a, _over(g, _times(_number(2), made)))
            case "softmax" if self.axes(a) == 1:
                yield from self.pull(a, _times(made, _minus(g, _call("dot", made, g))))
            case "softmax":
                whole = _times(made, g)
                yield from self.pull(a, _minus(whole, self._weighted(whole, made, axis)))
            case "log_softmax" if self.axes(a) == 1:
                yield from self.pull(a, _minus(g, _times(_call("softmax", a), _call("sum", g))))
            case "log_softmax":
                softmax = ast.Call(ast.Name("softmax"), list(arguments), node.keywords)
                yield from self.pull(a, _minus(g, self._weighted(g, softmax, axis)))
            case "sum" | "mean":
                if name == "mean":
                    sizes = self.shape(a).sizes
                    g = _over(g, _size(self.shape(a).entries if axis is None else sizes[axis]))
                yield from self.pull(a, self._spread(g, a, axis))
            case "dot":
                yield from self._of_product(a, arguments[1], g)
            case "outer":
                yield from self.pull(a, self._matmul(g, arguments[1]))
                yield from self.pull(arguments[1], self._matmul(self._turned(g), a))
            case "concat" if not node.keywords:
                yield from self._of_parts(arguments, g)
            case "norm":
                yield from self.pull(a, _times(g, _over(a, made)))
            case "trace":
                yield from self.pull(a, _times(g, _call("eye", _size(self.shape(a).sizes[0]))))
            case "diag":
                yield from self.pull(a, _call("diag", g))
            case "step" | "hard_threshold" | "ones" | "eye":
                return
            case _:
                raise InputError(f"there is no rule for the adjoint of {name}", expected=_KNOWN, got=ast.unparse(node))

    def _of_parts(self, parts: Sequence[ast.expr], g: ast.expr) -> Pulled:
        start: ast.expr | None = None
        for place, part in enumerate(parts):
            size = _size(self.shape(part).sizes[0])
            end = size if start is None else ast.parse(written(polynomial(start) + polynomial(size)), mode="eval").body
            last = place == len(parts) - 1
            yield from self.pull(part, ast.Subscript(g, ast.Slice(start, None if last else end), ast.Load()))
            start = end

    def _axis(self, node: ast.Call) -> int | None:
        given = [word.value for word in node.keywords if word.arg == "axis"]
        if _called(node) in ("sum", "mean", "softmax", "log_softmax"):
            given += node.args[1:]
        if not given:
            return -1 if _called(node) in ("softmax", "log_softmax") else None
        return int(ast.literal_eval(given[0]))

    def _weighted(self, whole: ast.expr, softmax: ast.expr, axis: int | None) -> ast.expr:
        """The rows (or columns) of a softmax, each times the sum of that of `whole`."""
        rows = axis in (-1, 1)
        sums = _call("diag", _summed_along(whole, 1 if rows else 0))
        return self._matmul(sums, softmax) if rows else self._matmul(softmax, sums)

    def _moves(self, node: ast.expr) -> bool:
        """Whether anything in an expression has an adjoint."""
        return any(True for _ in self.pull(node, _number(1))) if not isinstance(node, ast.Constant) else False

    def _scaled(self, g: ast.expr, factor: ast.expr) -> ast.expr:
        """`g * factor`, without ones that change nothing."""
        for one, other in ((g, factor), (factor, g)):
            if (level := _level(one)) is not None and same(self.shape(one), self.shape(other)):
                return _times(level, other)
        return _times(factor, g) if isinstance(factor, ast.Constant) else _times(g, factor)

    def _matmul(self, a: ast.expr, b: ast.expr) -> ast.expr:
        """`a @ b` with signs and divisors outside."""
        for one, other, swapped in ((a, b, False), (b, a, True)):
            inner = one.operand if isinstance(one, ast.UnaryOp) else one
            if inner is not one:
                return _minus_of(self._matmul(other, inner) if swapped else self._matmul(inner, other))
            if _called(one) == "eye":
                return other
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div) and not self.axes(one.right):
                product = self._matmul(other, one.left) if swapped else self._matmul(one.left, other)
                return _over(product, one.right)
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult) and not self.axes(one.left):
                product = self._matmul(other, one.right) if swapped else self._matmul(one.right, other)
                return _times(one.left, product)
        return ast.BinOp(a, ast.MatMult(), b)

    def _turned(self, a: ast.expr) -> ast.expr:
        match a:
            case ast.Attribute(value=inner):
                return inner
            case ast.UnaryOp(operand=inner):
                return _minus_of(self._turned(inner))
            case ast.BinOp(left=left, op=ast.Div(), right=right) if not self.axes(right):
                return _over(self._turned(left), right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right) if not self.axes(left):
                return _times(left, self._turned(right))
            case ast.BinOp(left=left, op=ast.MatMult(), right=right) if self.axes(left) == self.axes(right) == 2:
                return self._matmul(self._turned(right), self._turned(left))
            case ast.Call(func=ast.Name(id="outer"), args=[left, right]):
                return _call("outer", right, left)
            case ast.Call(func=ast.Name(id="eye")):
                return a
        return ast.Attribute(a, "T", ast.Load())

    def _spread(self, g: ast.expr, a: ast.expr, axis: int | None) -> ast.expr:
        """The adjoint of a sum, given to each entry that was summed."""
        shape = self.shape(a)
        if axis is None:
            return _filled_with(g, shape)
        size = _size(shape.sizes[axis])
        if len(shape.sizes) == 1:
            return _filled_with(g, shape)
        ones = _call("ones", size)
        return _call("outer", g, ones) if axis in (-1, 1) else _call("outer", ones, g)

    def _summed(self, g: ast.expr, whole: ast.expr, part: ast.expr) -> ast.expr:
        """The adjoint of an operand that was repeated to fit the other one: the sum over its repetitions."""
        big, small = self.shape(whole), self.shape(part)
        if same(big, small) or not self._has_names(part):
            return g
        if not small.sizes:
            return _call("sum", g)
        if len(big.sizes) == 2 and len(small.sizes) == 1:
            return _summed_along(g, 0)
        raise InputError(
            f"there is no rule for the adjoint of {ast.unparse(part)}, which is repeated",
            expected=f"its shape to be {big}, ({written(big.sizes[-1])},) or a number", got=str(small),
        )  # fmt: skip

    def _has_names(self, node: ast.expr) -> bool:
        return any(isinstance(part, ast.Name) for part in ast.walk(node))


_KNOWN = (
    "+ - * / ** @ .T, sigmoid, tanh, relu, exp, log, sqrt, softmax, log_softmax, sum, mean, dot, outer, concat, norm, "
    "trace, diag"
)


# -- small expressions -----------------------------------------------------------------------------------------------


def _bar(name: str) -> ast.expr:
    return _call("bar", ast.Name(name))


def _called(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name), list(arguments), [])


def _number(value: int) -> ast.Constant:
    return ast.Constant(value)


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _times(a: ast.expr, b: ast.expr) -> ast.expr:
    if _is_one(a) or _is_one(b):
        return b if _is_one(a) else a
    for one, other, swapped in ((a, b, False), (b, a, True)):
        if isinstance(one, ast.UnaryOp):
            return _minus_of(_times(other, one.operand) if swapped else _times(one.operand, other))
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div) and _is_one(one.left):
            return _over(other, one.right)
    return ast.BinOp(a, ast.Mult(), b)


def _over(a: ast.expr, b: ast.expr) -> ast.expr:
    return _minus_of(_over(a.operand, b)) if isinstance(a, ast.UnaryOp) else ast.BinOp(a, ast.Div(), b)


def _level(node: ast.expr) -> ast.expr | None:
    """The number that every entry of an array of ones, or of their multiples, is."""
    match node:
        case ast.Call(func=ast.Name(id="ones")):
            return _number(1)
        case ast.UnaryOp(operand=inner) if (level := _level(inner)) is not None:
            return _minus_of(level)
        case ast.BinOp(left=left, op=ast.Mult(), right=right) if (level := _level(right)) is not None:
            return _times(left, level)
        case ast.BinOp(left=left, op=ast.Div(), right=right) if (level := _level(left)) is not None:
            return _over(level, right)
    return None


def _total(parts: Sequence[ast.expr]) -> ast.expr:
    """The sum, like terms taken together."""
    counted: dict[str, tuple[Fraction, ast.expr]] = {}
    for part in parts:
        count, rest = _coefficient(part)
        text = ast.unparse(rest)
        counted[text] = (counted[text][0] + count if text in counted else count), rest
    terms = [_counted(count, rest) for count, rest in counted.values() if count] or [parts[0]]
    return reduce(_plus, terms)


def _coefficient(node: ast.expr) -> tuple[Fraction, ast.expr]:
    """A number and what it is times."""
    match node:
        case ast.UnaryOp(operand=inner):
            count, rest = _coefficient(inner)
            return -count, rest
        case ast.BinOp(left=ast.Constant(value=int() as number), op=ast.Mult(), right=rest):
            count, rest = _coefficient(rest)
            return number * count, rest
        case ast.BinOp(left=rest, op=ast.Div(), right=ast.Constant(value=int() as number)):
            count, rest = _coefficient(rest)
            return count / number, rest
    return Fraction(1), node


def _counted(count: Fraction, rest: ast.expr) -> ast.expr:
    made = _times(_number(abs(count.numerator)), rest)
    made = made if count.denominator == 1 else _over(made, _number(count.denominator))
    return made if count > 0 else _minus_of(made)


def _tidy(node: ast.expr) -> ast.expr:
    """A minus before a product or a quotient goes to its first factor."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.BinOp):
        inner = node.operand
        if isinstance(inner.op, (ast.Mult, ast.Div)):
            return ast.BinOp(_tidy(_minus_of(inner.left)), inner.op, inner.right)
    return node


def _plus(a: ast.expr, b: ast.expr) -> ast.expr:
    return _minus(a, b.operand) if isinstance(b, ast.UnaryOp) else ast.BinOp(a, ast.Add(), b)


def _minus(a: ast.expr, b: ast.expr) -> ast.expr:
    return _plus(a, b.operand) if isinstance(b, ast.UnaryOp) else ast.BinOp(a, ast.Sub(), b)


def _minus_of(a: ast.expr) -> ast.expr:
    return a.operand if isinstance(a, ast.UnaryOp) else ast.UnaryOp(ast.USub(), a)


def _summed_along(a: ast.expr, axis: int) -> ast.expr:
    return ast.Call(ast.Name("sum"), [a], [ast.keyword("axis", _number(axis))])


def _filled_with(g: ast.expr, shape: Shape) -> ast.expr:
    return _times(g, _call("ones", *map(_size, shape.sizes))) if shape.sizes else g


def _size(size: object) -> ast.expr:
    return ast.parse(written(size), mode="eval").body  # pyright: ignore[reportArgumentType] - a size
