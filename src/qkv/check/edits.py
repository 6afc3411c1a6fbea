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
    """

    shapes: Mapping[str, tuple[int, ...]]
    lists: frozenset[str]
    masks: frozenset[str]
    indices: frozenset[str]
    counts: Sequence[int]
    pieces: Sequence[str]
    functions: Sequence[str]
    late: frozenset[str]


def edits(statement: ast.stmt, known: Known) -> Iterator[Iterator[Edit]]:
    """Edits of one statement, those that change least first, in as many lots as of any other."""
    for stage in (_smaller, _masked, _turned, _other, _multiplied, _with_pieces, _with_terms):
        yield stage(statement, known)


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
            yield Edit("moved", statement.iter, _filled("reversed({})", statement.iter))
    for node, _, above in _expressions(statement):
        if isinstance(node, (ast.BinOp, ast.Call, ast.UnaryOp, ast.Subscript, ast.Attribute)):
            for part in _parts(node):
                yield Edit(_taken_away(node, part, above, known), node, part)
    if isinstance(statement, ast.AugAssign):
        plain = ast.Assign([_stored(statement.target)], statement.value)
        yield Edit("double", statement, plain)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], (ast.Name, ast.Subscript)):
        more = ast.AugAssign(copy.deepcopy(statement.targets[0]), ast.Add(), statement.value)
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
        if name in ("sum", "mean"):
            return "axis"
        return "term" if name == "concatenate" else "operand"
    if isinstance(node, ast.Attribute):
        return "transposed" if node.attr == "T" else "operand"
    if isinstance(node, ast.Subscript):
        return "moved"
    if isinstance(node, ast.UnaryOp):
        return "sign"
    if _in_slope([node, *above], known):
        return "derivative"
    assert isinstance(node, ast.BinOp)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        inside = above and isinstance(above[0], (ast.BinOp, ast.Call)) and not _is_sum(above[0])
        return "operand" if inside else "double"
    if isinstance(node.op, ast.Pow):
        return "factor"
    rest = node.left if part is node.right else node.right
    return _of_factor(rest, known)


def _of_factor(factor: ast.expr, known: Known) -> str:
    if any(isinstance(node, ast.Name) and node.id in known.masks for node in ast.walk(factor)):
        return "mask"
    return "derivative" if _is_slope(factor, known) else "factor"


def _is_sum(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub))


def _is_slope(node: ast.AST, known: Known) -> bool:
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
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Pow)) and _is_slope(node, known):
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
    for operand in _operands(statement):
        for name in sorted(known.masks):
            yield Edit("mask", operand, ast.BinOp(operand, ast.Mult(), ast.Name(name, ast.Load())))


# -- turned round ------------------------------------------------------------------------------------------------------


def _turned(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Signs, operators, transposes, axes, numbers."""
    for node, parent, above in _expressions(statement):
        if isinstance(node, ast.BinOp) and type(node.op) in _FLIPPED:
            sums = _is_sum(node)
            new = ast.BinOp(node.left, _FLIPPED[type(node.op)](), node.right)
            yield Edit("sign" if sums else "factor", node, new)
            if sums:
                yield Edit("sign", node, ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right))
                for side in (node.left, node.right):
                    yield Edit("term", side, ast.BinOp(ast.Constant(2), ast.Mult(), side))
        for slope in _slopes(node):
            yield Edit("derivative", node, _expression(slope))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield Edit("transposed", node, ast.BinOp(node.right, node.op, node.left))
            for way in ("{}.T", "{}.swapaxes(-1, -2)"):
                for side in (node.left, node.right):
                    yield Edit("transposed", side, _filled(way, side))
            yield Edit("transposed", node, ast.BinOp(_filled("{}.T", node.right), node.op, _filled("{}.T", node.left)))
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
            new = ast.Compare(node.left, [_COMPARED[type(node.ops[0])]()], node.comparators)
            yield Edit("derivative", node, new)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "mean"):
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
            yield from _places(node)


def _slopes(node: ast.expr) -> list[str]:
    """Where it is the derivative of a logistic function, of tanh or of max(x, 0) by its value: the others."""
    ways = ("{0} * (1 - {0})", "1 - {0} ** 2", "{0} > 0")
    written = ast.unparse(node)
    bases = {ast.unparse(below) for below in ast.walk(node) if isinstance(below, (ast.Name, ast.Subscript))}
    for base in bases:
        if written in (forms := [ast.unparse(_expression(way.format(base))) for way in ways]):
            return [f"({form})" for form in forms if form != written]
    return []


def _axes(node: ast.Call) -> Iterator[Edit]:
    for keyword in node.keywords:
        if keyword.arg == "axis" and isinstance(keyword.value, (ast.Constant, ast.Tuple, ast.UnaryOp)):
            several = isinstance(keyword.value, ast.Tuple)
            choices = ["(0,)", "(0, 1)", "(0, 2)", "(1, 2)", "(0, 2, 3)", "(1, 2, 3)", "(0, 1, 2)"] if several else []
            for text in [*choices, "0", "1", "2", "-1", "-2"]:
                yield Edit("axis", keyword.value, _expression(text))


def _numbers(node: ast.Constant, parent: ast.AST, above: Sequence[ast.AST], known: Known) -> Iterator[Edit]:
    if any(isinstance(other, ast.keyword) and other.arg in ("axis", "keepdims") for other in above):
        return
    index = any(isinstance(other, ast.Subscript) for other in above)
    number: Any = node.value
    cause = "operand" if index else "derivative" if _in_slope(above, known) else "factor"
    power = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow)
    for value in (
        number + 1,
        number - 1,
        -number,
        *(() if power or index else (2 * number, number / 2)),
    ):
        if value != number:
            yield Edit(cause, node, _expression(repr(value)))


def _places(node: ast.Subscript) -> Iterator[Edit]:
    """Neighbouring steps, and the same from the other end."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        if isinstance(part, (ast.Slice, ast.Constant)):
            continue
        text = ast.unparse(part)
        for way in ("{} + 1", "{} - 1", "-1 - ({})"):
            yield Edit("operand", part, _expression(way.format(text)))
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub) and ast.unparse(part.left) == "-1":
            yield Edit("moved", part, part.right)
    if len(parts) > 1 and not any(isinstance(part, ast.Slice) for part in parts[-2:]):
        swapped = ast.Tuple([*parts[:-2], parts[-1], parts[-2]], ast.Load())
        yield Edit("transposed", node.slice, swapped)


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
                    yield Edit("derivative", node.func, _expression(name))
        if not isinstance(node, ast.Name) or node.id not in known.shapes:
            continue
        index = _own_index(node, above)
        for name, shape in known.shapes.items():
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
                yield from (Edit(cause, node, _expression(f"{name}[{place}]")) for place in ("t", "t + 1", "-1"))


def _own_index(node: ast.Name, above: Sequence[ast.AST]) -> ast.AST | None:
    return above[0] if above and isinstance(above[0], ast.Subscript) and above[0].value is node else None


def _value(statement: ast.stmt) -> ast.expr | None:
    """The right-hand side."""
    value = getattr(statement, "value", None)
    if isinstance(statement, ast.Expr) and isinstance(value, ast.Call):
        return value.args[-1] if value.args else None
    return value if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return)) else None


def _operands(statement: ast.stmt) -> Iterator[ast.expr]:
    """The right-hand side, and what is added, multiplied or called in it."""
    value = _value(statement)
    if value is None or isinstance(value, ast.Dict):
        return
    yield from value.elts if isinstance(value, ast.Tuple) else [value]
    for node in ast.walk(value):
        if isinstance(node, ast.BinOp):
            yield from (side for side in (node.left, node.right) if not isinstance(side, ast.Constant))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _called(node) in ("sum", "mean"):
            yield node.func.value


def _multiplied(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """The whole line times a number that means something."""
    value = _value(statement)
    if value is None or isinstance(value, (ast.Dict, ast.Tuple)):
        return
    for cause, way in (("sign", "-({})"), ("factor", "({}) * 2"), ("factor", "({}) / 2")):
        yield Edit(cause, value, _filled(way, value))
    for count in known.counts:
        yield Edit("mean", value, _filled(f"({{}}) * {count}", value))
        yield Edit("mean", value, _filled(f"({{}}) / {count}", value))
        yield Edit("factor", value, _filled(f"({{}}) * {count} ** 0.5", value))
        yield Edit("factor", value, _filled(f"({{}}) / {count} ** 0.5", value))
    for name in known.functions:
        for operand in _operands(statement):
            yield Edit("operand", operand, _filled(f"{name}({{}})", operand))


def _with_pieces(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Times, over or instead of something that stands elsewhere in the function, or a derivative made of it."""
    names = [name for name in known.shapes if name not in known.indices]
    slopes = ("(1 - {0})", "{0} * (1 - {0})", "(1 - {0} ** 2)", "({0} > 0)")
    made = [way.format(name) for name in names for way in slopes]
    made += [
        way.format(f"{name}[{place}]")
        for name in known.lists
        for place in ("t", "t + 1")
        for way in ("{0}", "{0} * (1 - {0})", "(1 - {0} ** 2)")
    ]
    for operand in _operands(statement):
        written = ast.unparse(operand)
        for text in dict.fromkeys([*names, *made, *known.pieces]):
            if text == written:
                continue
            piece = _expression(text)
            cause = _of_factor(piece, known)
            yield Edit(cause, operand, ast.BinOp(operand, ast.Mult(), piece))
            if cause == "factor":
                yield Edit(cause, operand, ast.BinOp(operand, ast.Div(), piece))
            bent = _is_slope(operand, known) or _is_slope(piece, known)
            if bent or not isinstance(operand, ast.Name):
                yield Edit("derivative" if bent else "operand", operand, piece)


def _with_terms(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Plus or minus something that stands elsewhere, or a term like one that is there."""
    for operand in _operands(statement):
        for text in [*known.shapes, *known.pieces]:
            for operator in (ast.Add(), ast.Sub()):
                yield Edit("term", operand, ast.BinOp(operand, operator, _expression(text)))
    for operand in _operands(statement):
        if not (isinstance(operand, ast.BinOp) and isinstance(operand.op, (ast.Mult, ast.MatMult))):
            continue
        names = list(dict.fromkeys(node.id for node in ast.walk(operand) if isinstance(node, ast.Name)))
        names = [name for name in names if name in known.shapes][:2]
        others = [[other for other in known.shapes if known.shapes[other] == known.shapes[name]] for name in names]
        for first in others[0] if others else ():
            for second in others[1] if len(others) > 1 else (None,):
                piece = _Renamed({names[0]: first, **({names[1]: second} if second else {})}).visit(
                    copy.deepcopy(operand)
                )
                yield Edit("term", operand, ast.BinOp(operand, ast.Add(), piece))


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, Any]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _filled(way: str, blank: ast.expr) -> Any:
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
