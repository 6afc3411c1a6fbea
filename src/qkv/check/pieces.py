"""Larger edits of a line of code: what stands elsewhere in the function, or is made of it, put into the line.

There are many of these, so they are tried when those of `edits` have failed. What comes back in a backward pass is a
factor of each of its terms, once: only arrays of the forward pass are factors that may be missing.
"""

import ast
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qkv.check.edits import Edit, Known, expression, filled, is_slope, of_factor, operands, value_of


def _multiplied(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """The whole line times a number that means something."""
    value = value_of(statement)
    if value is None or isinstance(value, (ast.Dict, ast.Tuple)):
        return
    for cause, way in (("sign", "-({})"), ("factor", "({}) * 2"), ("factor", "({}) / 2")):
        yield Edit(cause, value, filled(way, value))
    for count in known.counts:
        yield Edit("mean", value, filled(f"({{}}) * {count}", value))
        yield Edit("mean", value, filled(f"({{}}) / {count}", value))
        yield Edit("factor", value, filled(f"({{}}) * {count} ** 0.5", value))
        yield Edit("factor", value, filled(f"({{}}) / {count} ** 0.5", value))


def _with_factors(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Times or over an array of the forward pass: what comes back is a factor of each term once, and never more."""
    for operand in operands(statement):
        for name in known.shapes:
            if name not in known.indices | known.adjoints:
                piece = ast.Name(name, ast.Load())
                yield Edit(of_factor(piece, known), operand, ast.BinOp(operand, ast.Mult(), piece))
        for text in known.divisors:
            yield Edit("factor", operand, ast.BinOp(operand, ast.Div(), expression(text)))


def _with_functions(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """A function of what stands there."""
    for name in known.functions:
        for operand in operands(statement):
            yield Edit("operand", operand, filled(f"{name}({{}})", operand))


def _with_slopes(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Times or instead of a derivative made of an array of the forward pass."""
    names = [name for name in known.shapes if name not in known.indices | known.adjoints]
    slopes = ("(1 - {0})", "{0} * (1 - {0})", "(1 - {0} ** 2)", "({0} > 0)")
    made = [way.format(name) for name in names for way in slopes]
    made += [
        way.format(f"{name}[{place}]")
        for name in known.lists
        for place in ("t", "t + 1")
        for way in ("{0}", "{0} * (1 - {0})", "(1 - {0} ** 2)")
    ]
    yield from _with(statement, made, known)


def _with_pieces(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Times or instead of something that stands elsewhere in the function."""
    names = [name for name in known.shapes if name not in known.indices]
    yield from _with(statement, dict.fromkeys([*names, *known.pieces]), known)


def _with(statement: ast.stmt, texts: Iterable[str], known: Known) -> Iterator[Edit]:
    for operand in operands(statement):
        for text in texts:
            piece = expression(text)
            if text == ast.unparse(operand):
                continue
            if not _comes_back(piece, known):
                yield Edit(of_factor(piece, known), operand, ast.BinOp(operand, ast.Mult(), piece))
            bent = is_slope(operand, known) or is_slope(piece, known)
            if _alike(operand, piece, known) and (bent or not isinstance(operand, ast.Name)):
                yield Edit("derivative" if bent else "operand", operand, piece)


def _comes_back(node: ast.AST, known: Known) -> bool:
    return any(isinstance(below, ast.Name) and below.id in known.adjoints for below in ast.walk(node))


def _alike(one: ast.AST, other: ast.AST, known: Known) -> bool:
    """Whether both are of the forward pass, or both come back."""
    return _comes_back(one, known) == _comes_back(other, known)


def _with_terms(statement: ast.stmt, known: Known) -> Iterator[Edit]:
    """Plus or minus something that stands elsewhere, or a term like one that is there."""
    value = value_of(statement)
    back = value is not None and _comes_back(value, known)
    for operand in operands(statement):
        # In a factor of what comes back, which is of the forward pass, a term more makes another factor.
        cause = "factor" if back and not _comes_back(operand, known) else "term"
        for piece in map(expression, [*known.shapes, *known.pieces]):
            if _alike(operand, piece, known):
                for operator in (ast.Add(), ast.Sub()):
                    yield Edit(cause, operand, ast.BinOp(operand, operator, piece))
    for operand in operands(statement):
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


STAGES = (_with_factors, _with_functions, _multiplied), (_with_slopes, _with_pieces, _with_terms)
"""Those that draw on little, and those that draw on all."""
