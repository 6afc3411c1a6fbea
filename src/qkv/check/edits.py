"""Small edits of a line of code, each undoing one kind of mistake: what else the line might have been meant to say.

An edit takes away something (a factor, a sign, a transpose), puts something there that stands elsewhere in the same
function, or changes one for the other; it carries the name of the cause that it would be the cure of.
"""

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

_FLIPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_COMPARED = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.LtE, ast.LtE: ast.GtE}
_MOVERS = {"roll", "flip", "fliplr", "flipud", "rot90"}


@dataclass(frozen=True)
class Edit:
    """One node of a tree and what is to stand in its place."""

    cause: str
    old: ast.AST
    new: ast.AST


@dataclass(frozen=True)
class Known:
    """What the names in a function stand for.

    Attributes:
        shapes: those of arrays, and of the arrays in lists.
        lists: names of lists of arrays.
        masks: names of arrays of booleans; `indices` of integers.
        counts: the sizes of axes.
        pieces: expressions that stand in the function, as text.
        functions: called with one argument.
        late: functions that only the backward pass calls.
        adjoints: names that only the backward pass assigns.
        divisors: what is divided by somewhere, and numbers.
        places: what stands in brackets and has a slice in it, as `bare` tells it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    lists: frozenset[str]
    masks: frozenset[str]
    indices: frozenset[str]
    counts: Sequence[int]
    pieces: Sequence[str]
    functions: Sequence[str]
    late: frozenset[str]
    adjoints: frozenset[str]
    divisors: Sequence[str]
    places: Sequence[str]


def _expressions(statement: ast.stmt) -> Iterator[tuple[ast.expr, ast.AST, list[ast.AST]]]:
    """The expressions of a statement that say a value, with what they stand in."""

    def walk(node: ast.AST, above: list[ast.AST]) -> Iterator[tuple[ast.expr, ast.AST, list[ast.AST]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", None), ast.Store):
                yield child, node, [node, *above]
            if not isinstance(child, ast.stmt) or node is statement:
                yield from walk(child, [node, *above])

    if isinstance(statement, (ast.For, ast.While, ast.If, ast.With)):
        return
    yield from walk(statement, [])


# -- less ----------------------------------------------------------------------------------------------------------


def _smaller(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Part of an expression in the place of all of it; loops the other way round."""
    if isinstance(statement, ast.For):
        if isinstance(statement.iter, ast.Call) and _called(statement.iter) == "reversed":
            yield Edit("moved", statement.iter, statement.iter.args[0])
        else:
            yield Edit("moved", statement.iter, filled("reversed({})", statement.iter))
    for node, _, above in _expressions(statement):
        if isinstance(node, (ast.BinOp, ast.Call, ast.UnaryOp, ast.Subscript, ast.Attribute)):
            for part in _parts(node):
                yield Edit(_taken_away(node, part, above, known), node, part)
    if isinstance(statement, ast.AugAssign):
        plain = ast.Assign([_stored(statement.target)], statement.value)
        yield Edit("double", statement, plain)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], (ast.Name, ast.Subscript)):
        target = statement.targets[0]
        if isinstance(target, ast.Subscript) and (rows := ast.unparse(target.slice)) in known.indices:
            scattered = f"np.add.at({ast.unparse(target.value)}, {rows}, {{}})"
            yield Edit("term", statement, ast.Expr(filled(scattered, statement.value)))
        more = ast.AugAssign(copy.deepcopy(target), ast.Add(), statement.value)
        yield Edit("term", statement, more)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    waiting: list[tuple[Any, int]] = [(child, 1) for child in ast.iter_child_nodes(node)]
    while waiting:
        child, depth = waiting.pop(0)
        said = isinstance(child, ast.expr) and not isinstance(child, (ast.Constant, ast.Slice, ast.Tuple, ast.List))
        if said and not _is_module(child, node):
            yield child
        if depth < 5:
            waiting += [(below, depth + 1) for below in ast.iter_child_nodes(child)]


def _is_module(child: ast.expr, node: ast.expr) -> bool:
    return (isinstance(child, ast.Name) and child.id in ("np", "numpy", "math", "torch", "F")) or (
        isinstance(node, ast.Call) and child is node.func
    )


def _taken_away(node: ast.expr, part: ast.expr, above: Sequence[ast.AST], known: Known) -> str:
    """What it was a mistake to write around `part`."""
    counted = [_number_before(one) for one in ast.walk(node)]
    if 0 in counted:
        node = _without_nothing(node)
        if not _reduces(node):
            return "term"
    if any(isinstance(one, ast.Subscript) and any(below is node for below in ast.walk(one.slice)) for one in above):
        return "operand"  # another step
    if isinstance(node, ast.BinOp) and isinstance(part, ast.Name) and part.id in known.indices:
        return "moved"
    if isinstance(node, ast.Call):
        name = _called(node)
        if name in _MOVERS:
            return "moved"
        if name == "swapaxes" or name == "transpose":
            return "transposed"
        if _reduces(node):
            return "axis"
        if name == "concatenate":
            return "double" if any(counted) else "moved"
        return "operand"
    if isinstance(node, ast.Attribute):
        return "transposed" if node.attr == "T" else "operand"
    if isinstance(node, ast.Subscript):
        return "moved"
    if isinstance(node, ast.UnaryOp):
        return "sign" if isinstance(node.op, (ast.USub, ast.UAdd)) else "mask"
    if _in_slope([node, *above], known):
        return "derivative"
    assert isinstance(node, ast.BinOp)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        inside = above and isinstance(above[0], (ast.BinOp, ast.Call)) and not _is_sum(above[0])
        return "operand" if inside else "double"
    if isinstance(node.op, ast.Pow):
        return "factor"
    rest = node.left if part is node.right else node.right
    return of_factor(rest, known)


def _number_before(node: ast.AST) -> Any:
    """The number that a product begins with."""
    product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant)
    return node.left.value if product else None  # pyright: ignore[reportAttributeAccessIssue]


def _without_nothing(node: ast.expr) -> ast.expr:
    """A sum without what is multiplied by 0."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for nothing, rest in ((node.left, node.right), (node.right, node.left)):
            if _number_before(nothing) == 0:
                return rest
    return node


def _reduces(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _called(node) in ("sum", "mean")


def of_factor(factor: ast.expr, known: Known) -> str:
    if any(isinstance(node, ast.Name) and node.id in known.masks for node in ast.walk(factor)):
        return "mask"
    return "derivative" if is_slope(factor, known) else "factor"


def _is_sum(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub))


def is_slope(node: ast.AST, known: Known) -> bool:
    """Whether it looks like the derivative of a nonlinearity: `1 - ...`, a comparison, what only derivatives call."""
    for child in ast.walk(node):
        if isinstance(child, ast.Compare) or (isinstance(child, ast.Call) and _called(child) in known.late):
            return True
        if (
            isinstance(child, ast.BinOp)
            and isinstance(child.op, (ast.Add, ast.Sub))
            and any(isinstance(side, ast.Constant) and side.value == 1 for side in (child.left, child.right))
        ):
            return not _in_index(node, child)
    return False


def _in_index(node: ast.AST, child: ast.AST) -> bool:
    return any(
        isinstance(subscript, ast.Subscript) and any(below is child for below in ast.walk(subscript.slice))
        for subscript in ast.walk(node)
    )


def _in_slope(above: Sequence[ast.AST], known: Known) -> bool:
    """Whether the innermost product that it stands in has it in a derivative's factor."""
    for node in above:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Pow)) and is_slope(node, known):
            return True
        if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and _called(node) in known.late):
            return True
        if isinstance(node, ast.Subscript):
            continue
    return False


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _masked(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Times a mask that stands in the function."""
    for operand in operands(statement):
        for name in sorted(known.masks):
            yield Edit("mask", operand, ast.BinOp(operand, ast.Mult(), ast.Name(name, ast.Load())))


# -- turned round ------------------------------------------------------------------------------------------------------


def _flipped(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Signs, operators, masks, and derivatives of one nonlinearity for those of another."""
    for node, _, _ in _expressions(statement):
        if isinstance(node, ast.BinOp) and type(node.op) in _FLIPPED:
            sums = _is_sum(node)
            new = ast.BinOp(node.left, _FLIPPED[type(node.op)](), node.right)
            yield Edit("sign" if sums else "factor", node, new)
            if sums:
                yield Edit("sign", node, ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right))
                for side in (node.left, node.right):
                    yield Edit("term", side, ast.BinOp(ast.Constant(2), ast.Mult(), side))
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and not isinstance(node.operand, ast.Constant)
        ):
            yield Edit("derivative", node, filled("1 - {}", node.operand))
        for slope in _slopes(node):
            yield Edit("derivative", node, expression(slope))
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
            new = ast.Compare(node.left, [_COMPARED[type(node.ops[0])]()], node.comparators)
            yield Edit("derivative", node, new)
        if isinstance(node, ast.Name) and node.id in known.masks:
            yield Edit("mask", node, ast.UnaryOp(ast.Invert(), node))


def _turned(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Transposes, axes, numbers, places."""
    for node, parent, above in _expressions(statement):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield Edit("transposed", node, ast.BinOp(node.right, node.op, node.left))
            for way in ("{}.T", "{}.swapaxes(-1, -2)"):
                for side in (node.left, node.right):
                    yield Edit("transposed", side, filled(way, side))
            yield Edit("transposed", node, ast.BinOp(filled("{}.T", node.right), node.op, filled("{}.T", node.left)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _reduces(node):
            other = "mean" if node.func.attr == "sum" else "sum"
            yield Edit(
                "mean", node, ast.Call(ast.Attribute(node.func.value, other, ast.Load()), node.args, node.keywords)
            )
            yield from _axes(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "->" in node.value:
            for spelled in _einsums(node.value):
                yield Edit("transposed", node, ast.Constant(spelled))
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield from _numbers(node, parent, above, known)
        if isinstance(node, ast.Subscript):
            yield from _neighbours(node)


def _slopes(node: ast.expr) -> list[str]:
    """Where it is the derivative of a logistic function, of tanh or of max(x, 0) by its value: the others."""
    ways = ("{0} * (1 - {0})", "1 - {0} ** 2", "{0} > 0")
    written = ast.unparse(node)
    bases = {ast.unparse(below) for below in ast.walk(node) if isinstance(below, (ast.Name, ast.Subscript))}
    for base in bases:
        if written in (forms := [ast.unparse(expression(way.format(base))) for way in ways]):
            return [f"({form})" for form in forms if form != written]
    return []


def _axes(node: ast.Call) -> Iterator[Edit]:
    for keyword in node.keywords:
        if keyword.arg == "axis" and isinstance(keyword.value, (ast.Constant, ast.Tuple, ast.UnaryOp)):
            several = isinstance(keyword.value, ast.Tuple)
            choices = ["(0,)", "(0, 1)", "(0, 2)", "(1, 2)", "(0, 2, 3)", "(1, 2, 3)", "(0, 1, 2)"] if several else []
            for text in [*choices, "0", "1", "2", "-1", "-2"]:
                yield Edit("axis", keyword.value, expression(text))


def _numbers(node: ast.Constant, parent: ast.AST, above: Sequence[ast.AST], known: Known) -> Iterator[Edit]:
    if any(isinstance(other, ast.keyword) and other.arg in ("axis", "keepdims") for other in above):
        return
    index = any(isinstance(other, ast.Subscript) for other in above)
    number: Any = node.value
    power = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow)
    for value in (
        number + 1,
        number - 1,
        -number,
        *(() if power or index else (2 * number, number / 2)),
    ):
        if value != number:
            one_less = value == 1 and _is_sum(parent)
            cause = "operand" if index else "derivative" if one_less or _in_slope(above, known) else "factor"
            yield Edit(cause, node, expression(repr(value)))


def _neighbours(node: ast.Subscript) -> Iterator[Edit]:
    """Neighbouring steps, and the same from the other end."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        if isinstance(part, (ast.Slice, ast.Constant)):
            continue
        text = ast.unparse(part)
        for way in ("{} + 1", "{} - 1", "-1 - ({})"):
            yield Edit("operand", part, expression(way.format(text)))
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub) and ast.unparse(part.left) == "-1":
            yield Edit("moved", part, part.right)
    if len(parts) > 1 and not any(isinstance(part, ast.Slice) for part in parts[-2:]):
        swapped = ast.Tuple([*parts[:-2], parts[-1], parts[-2]], ast.Load())
        yield Edit("transposed", node.slice, swapped)
    for axis, part in enumerate(parts):  # one of many
        if isinstance(_plus(part), ast.Constant):
            others = ast.Tuple([ast.Slice() if other is part else other for other in parts], ast.Load())
            kept = ast.Subscript(node.value, others, ast.Load()) if len(parts) > 1 else node.value
            yield Edit("term", node, filled(f"{{}}.sum(axis={axis})", kept))


def _plus(node: ast.expr) -> ast.expr:
    return node.operand if isinstance(node, ast.UnaryOp) else node


def _places(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Other slices, in what is read and what is written; slices of the same spelling left out together."""
    if isinstance(statement, (ast.For, ast.While, ast.If, ast.With, ast.FunctionDef)):
        return
    sliced = [node for node in ast.walk(statement) if isinstance(node, ast.Subscript)]
    for node in sliced:
        for text in dict.fromkeys(ast.unparse(one) for one in ast.walk(node.slice) if _is_sum(one)):
            yield Edit("moved", node.slice, _Everywhere(text).visit(copy.deepcopy(node.slice)))
        for text in known.places:
            new = expression(text)
            assert isinstance(new, ast.Subscript)
            if bare(node) != text and _axes_of(node.slice) == _axes_of(new.slice):
                yield Edit(_of_place(node.slice, new.slice), node.slice, new.slice)
    value = value_of(statement)
    for text in dict.fromkeys(ast.unparse(node.slice) for node in sliced if isinstance(node.slice, ast.Slice)):
        if value is not None:
            yield Edit("term", value, _Everywhere(text).visit(copy.deepcopy(value)))


def bare(node: ast.Subscript) -> str:
    """What stands in brackets, of nothing."""
    return ast.unparse(ast.Subscript(ast.Name("_"), node.slice))


def _axes_of(place: ast.expr) -> int:
    return len(place.elts) if isinstance(place, ast.Tuple) else 1


def _of_place(old: ast.AST, new: ast.AST) -> str:
    """A factor, where that is all in which one place differs from another."""
    apart = list(_apart(old, new))
    before, after = apart[0] if len(apart) == 1 else (None, None)
    if before is None or not isinstance(after, ast.BinOp) or not isinstance(after.op, ast.Mult):
        return "moved"
    return "factor" if ast.dump(before) in map(ast.dump, (after.left, after.right)) else "moved"


def _apart(old: ast.AST | None, new: ast.AST | None) -> Iterator[tuple[ast.AST | None, ast.AST | None]]:
    """The smallest nodes in which two trees differ."""
    if old is None or new is None or type(old) is not type(new):
        yield from () if old is new else [(old, new)]
        return
    below = [list(ast.iter_child_nodes(node)) for node in (old, new)]
    if isinstance(old, ast.Slice) and isinstance(new, ast.Slice):
        below = [[node.lower, node.upper, node.step] for node in (old, new)]
    if len(below[0]) != len(below[1]) or (not below[0] and ast.dump(old) != ast.dump(new)):
        yield old, new
        return
    for pair in zip(*below, strict=True):
        yield from _apart(*pair)


class _Everywhere(ast.NodeTransformer):
    """Sums of this spelling without what is added, or slices of this spelling left out."""

    def __init__(self, text: str):
        self.text = text

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.BinOp) and ast.unparse(node) == self.text:
            return node.left
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == self.text:
            return self.generic_visit(node.value)
        return self.generic_visit(node)


def _einsums(text: str) -> Iterator[str]:
    """The formula with two letters of one operand, or two operands, swapped."""
    inputs, output = text.replace(" ", "").split("->")
    sides = inputs.split(",")
    for place, side in enumerate([*sides, output]):
        for first in range(len(side)):
            for second in range(first + 1, len(side)):
                letters = list(side)
                letters[first], letters[second] = letters[second], letters[first]
                new = [*sides, output]
                new[place] = "".join(letters)
                yield f"{','.join(new[:-1])}->{new[-1]}"
    for order in permutations(sides):
        if list(order) != sides:
            yield f"{','.join(order)}->{output}"


# -- other things in its place -----------------------------------------------------------------------------------------


def _other(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Other arrays of the same shape, of the function's own; other functions of one argument."""
    for node, _, above in _expressions(statement):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in known.functions:
            for name in known.functions:
                if name != ast.unparse(node.func):
                    yield Edit("derivative", node.func, expression(name))
        if not isinstance(node, ast.Name) or node.id not in known.shapes:
            continue
        index = _own_index(node, above)
        back = _must_come_back(node, above, known)
        for name, shape in known.shapes.items():
            if back is not None and (name in known.adjoints) is not back:
                continue
            if node.id in known.lists and index is not None and name not in known.lists:
                shape = shape[1:]  # of an array whose first axis is what a list is indexed by
            if name == node.id or shape != known.shapes[node.id]:
                continue
            cause = "operand"
            if node.id in known.indices or name in known.indices:
                cause = "moved"
            elif _in_slope(above, known):
                cause = "derivative"
            elif name in known.masks:
                cause = "mask"
            if (name in known.lists) == (node.id in known.lists) or index is not None:
                yield Edit(cause, node, ast.Name(name, ast.Load()))
            if name in known.lists and node.id not in known.lists and index is None:
                yield from (Edit(cause, node, expression(f"{name}[{place}]")) for place in ("t", "t + 1", "-1"))


def _must_come_back(node: ast.Name, above: Sequence[ast.AST], known: Known) -> bool | None:
    """Whether what stands here in a product is of what comes back, of which there is one in each; None if unknown."""
    product: ast.AST = node
    for one in above:
        times = isinstance(one, ast.BinOp) and isinstance(one.op, (ast.Mult, ast.MatMult, ast.Div))
        called = isinstance(one, ast.Call) and one.func is product
        if not (times or called or isinstance(one, ast.Attribute) or getattr(one, "value", None) is product):
            break
        product = one
    others = [below for below in ast.walk(product) if isinstance(below, ast.Name) and below is not node]
    if any(below.id in known.adjoints for below in others):
        return False
    return True if node.id in known.adjoints else None


def _own_index(node: ast.Name, above: Sequence[ast.AST]) -> ast.AST | None:
    return above[0] if above and isinstance(above[0], ast.Subscript) and above[0].value is node else None


def value_of(statement: ast.stmt) -> ast.expr | None:
    """The right-hand side."""
    value = getattr(statement, "value", None)
    if isinstance(statement, ast.Expr) and isinstance(value, ast.Call):
        return value.args[-1] if value.args else None
    return value if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)) else None


def operands(statement: ast.stmt) -> Iterator[ast.expr]:
    """The right-hand side, and what is added, multiplied or called in it."""
    value = value_of(statement)
    if value is None or isinstance(value, ast.Dict):
        return
    yield from value.elts if isinstance(value, ast.Tuple) else [value]
    for node in ast.walk(value):
        if isinstance(node, ast.BinOp):
            yield from (side for side in (node.left, node.right) if not isinstance(side, ast.Constant))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _called(node) in ("sum", "mean"):
            yield node.func.value


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def filled(way: str, blank: ast.expr) -> Any:
    """`way` with `blank` in its blank."""
    whole = ast.parse(way.format("__it__"), mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return blank if node.id == "__it__" else node

    return Fill().visit(whole)


def _stored(target: ast.expr) -> ast.expr:
    new = copy.deepcopy(target)
    new.ctx = ast.Store()  # pyright: ignore[reportAttributeAccessIssue] - targets have one
    return new


STAGES = (_smaller, _masked, _flipped, _places, _other, _turned)
"""Those that change least first."""
