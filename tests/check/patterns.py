"""Patterns of code, in which capitals stand for anything: found in a tree, filled, put in another's place."""

import ast
import re
from typing import Any


def matches(pattern: Any, node: Any, bound: dict[str, ast.AST]) -> bool:
    if isinstance(pattern, ast.Name) and re.fullmatch("[A-Z]|LINE", pattern.id):
        return isinstance(node, ast.expr) and ast.unparse(bound.setdefault(pattern.id, node)) == ast.unparse(node)
    if isinstance(pattern, list):
        same = isinstance(node, list) and len(node) == len(pattern)
        return same and all(matches(*pair, bound) for pair in zip(pattern, node, strict=True))
    if isinstance(pattern, ast.AST):
        fields = [name for name in pattern._fields if name not in ("ctx", "type_comment")]
        return type(node) is type(pattern) and all(
            matches(getattr(pattern, name), getattr(node, name), bound) for name in fields
        )
    return pattern == node


class Fill(ast.NodeTransformer):
    """Puts what capitals were bound to in their place."""

    def __init__(self, bound: dict[str, ast.AST]):
        self.bound = bound

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.bound.get(node.id, node)


class Swap(ast.NodeTransformer):
    """Puts one node in another's place."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)
