"""Values as a person wrote them: each entry with its place in the text, and the range that it stands for.

0.62 stands for 0.615 to 0.625, and one unit in the last place is tolerated beside that. A whole number stands for
itself where the truth is rational; for the half around it where it is not; among decimals, for as many decimals as the
roughest of them has. What is written as an expression, such as 1/3, stands for itself.
"""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qkv.check.worksheets.evaluate import Evaluator
from qkv.check.worksheets.expressions import names, unit
from qkv.check.worksheets.values import Exact, Value, floats

Agreement = Literal["right", "unit", "wrong"]
_SAME = 1e-9


@dataclass(frozen=True)
class Written:
    """An array that was written down.

    Attributes:
        value: its numbers.
        leaves: the expression of each entry, row after row.
        units: one in the last place of each, 0 where it stands for itself, NaN for a whole number.
    """

    value: Value
    leaves: Sequence[ast.expr]
    units: np.ndarray

    @classmethod
    def of(cls, node: ast.expr, evaluate: Evaluator) -> "Written | None":
        """Reads a literal; None where its entries are not all there to be read, as in `-[1, 2]`."""
        leaves, value = _leaves(node), evaluate(node)
        if len(leaves) != math.prod(value.shape):
            return None
        units = [_unit(leaf) for leaf in leaves]
        decimals = [size for size in units if size > 0]
        if decimals:
            units = [max(decimals) if math.isnan(size) else size for size in units]
        return cls(value, leaves, np.array(units))

    @property
    def rough(self) -> np.ndarray:
        """How far what was meant may lie from each entry."""
        return np.asarray(np.nan_to_num(self.units) / 2).reshape(self.value.shape)

    def agrees(self, truth: Value, room: np.ndarray | float = 0.0) -> list[Agreement]:
        """How each entry stands to the one of `truth`, an array of as many, which is known but for `room`."""
        claimed, true = floats(self.value).ravel(), floats(truth).ravel()
        with np.errstate(invalid="ignore"):
            off = np.abs(claimed - true)
        off[claimed == true] = 0.0  # infinities among them
        slack = _SAME * np.maximum(1.0, np.abs(true)) + np.ravel(room)
        exact = isinstance(truth, Exact)
        whole = np.isnan(self.units)
        stands = np.where(whole, 0.0 if exact else 0.5, self.units / 2)
        right = off <= np.where(np.isfinite(slack), stands + slack, 0.0)
        near = off <= np.where(whole, 0.0, self.units) + slack
        if exact and isinstance(self.value, Exact):
            ours, theirs = self.value.numerators * truth.denominator, truth.numerators * self.value.denominator
            right = np.where(whole, np.ravel(ours == theirs), right)
        return ["right" if r else "unit" if n else "wrong" for r, n in zip(right.tolist(), near.tolist(), strict=True)]


def is_written(node: ast.expr) -> bool:
    """Whether an expression is a value written down: a number or list, without names and functions but in entries."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return is_written(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return is_written(node.left) and is_written(node.right) and not isinstance(node.left, ast.List)
    if isinstance(node, ast.List):
        return not names(node) - {"inf", "pi", "e"}
    if isinstance(node, ast.Name):
        return node.id == "inf"
    return isinstance(node, ast.Constant)


def _leaves(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, (ast.List, ast.Tuple)):
        return [node]
    return [leaf for entry in node.elts for leaf in _leaves(entry)]


def _unit(leaf: ast.expr) -> float:
    while isinstance(leaf, ast.UnaryOp):
        leaf = leaf.operand
    if not isinstance(leaf, ast.Constant):
        return 0.0
    size = unit(leaf)
    return math.nan if size is None else size
