"""Mistakes planted by rule in the shipped worksheets of identities and costs, one at a time, and right variants.

Each mistake is made in the tree of the last side of a claim, of its first for the brackets of a cost, of its
second for a scale.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qkv.check.worksheets.edited import exchanged, expressions
from qkv.check.worksheets.syntax import Claim, Let, Sheet, parse

SHIPPED = Path(__file__).parents[4] / "src" / "qkv" / "check" / "worksheets" / "shipped"
SHEETS = (
    "attention_costs", "cross_entropy_gradient", "glove_gradients", "hessian", "permutation_equivariance",
    "taylor_features",
)  # fmt: skip

Edits = Callable[[ast.expr, "Known"], Iterator[ast.expr]]


@dataclass(frozen=True)
class Known:
    """Names of a worksheet by their shapes, as written, and its sizes."""

    shapes: dict[str, str]
    sizes: list[str]
    cost: bool


@dataclass(frozen=True)
class Planted:
    """A worksheet with one claim, in which there is one mistake, or none."""

    sheet: str
    line: int
    kind: str
    claim: str
    text: str


def another_name(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.Name) and node.id in known.shapes and not known.cost:
        for name, shape in known.shapes.items():
            if name != node.id and shape == known.shapes[node.id]:
                yield ast.Name(name)


def bracket_order(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp(ast.BinOp(a, ast.MatMult(), b), ast.MatMult(), c) if known.cost:
            yield ast.BinOp(a, ast.MatMult(), ast.BinOp(b, ast.MatMult(), c))
        case ast.BinOp(a, ast.MatMult(), ast.BinOp(b, ast.MatMult(), c)) if known.cost:
            yield ast.BinOp(ast.BinOp(a, ast.MatMult(), b), ast.MatMult(), c)


def dropped_term(node: ast.expr, _: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield node.left
        if not (isinstance(node.left, ast.BinOp) and isinstance(node.left.op, (ast.Add, ast.Sub))):  # one term, not two
            yield node.right if isinstance(node.op, ast.Add) else ast.UnaryOp(ast.USub(), node.right)


def extra_size(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "O":
        for name in known.sizes:
            yield ast.Call(node.func, [ast.BinOp(node.args[0], ast.Mult(), ast.Name(name))], [])


def operands_swapped(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not known.cost and not _is_flat(node):
        yield ast.BinOp(node.right, node.op, node.left)


def other_axis(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not known.cost:
        if node.func.id in ("softmax", "log_softmax") and ast.unparse(node.args[0]) not in ("y",):
            yield ast.Call(node.func, node.args, [ast.keyword("axis", ast.Constant(0))])
        if node.func.id in ("sum", "mean") and node.keywords:
            yield ast.Call(node.func, node.args, [ast.keyword("axis", ast.Constant(1))])


def power(node: ast.expr, _: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield node.left
        yield ast.BinOp(node.left, node.op, ast.BinOp(node.right, ast.Add(), ast.Constant(1)))


def scale(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    match node:
        case ast.Call(ast.Name("sqrt"), [inside]) if not known.cost:
            yield inside
        case ast.BinOp(a, ast.Div(), ast.Call(ast.Name("sqrt"))) if not known.cost:
            yield a


def transposed(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.Attribute) and not known.cost:
        yield node.value
    if isinstance(node, ast.Name) and known.shapes.get(node.id) in ("V, V", "n, n") and not known.cost:
        yield ast.Attribute(node, "T")


def dropped_factor(node: ast.expr, _: Known) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp(ast.Constant(), ast.Mult(), a):
            yield a
        case ast.BinOp(a, ast.Div(), ast.Constant()):
            yield a


def mean_for_sum(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not known.cost:
        if node.func.id in ("sum", "mean"):
            yield ast.Call(ast.Name("mean" if node.func.id == "sum" else "sum"), node.args, node.keywords)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not known.cost:
        for name in known.sizes:
            yield ast.BinOp(node, ast.Div(), ast.Name(name))


def other_size(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if known.cost and isinstance(node, ast.Name) and node.id in known.sizes:
        yield from (ast.Name(name) for name in known.sizes if name != node.id)


def sign(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not known.cost and not _is_flat(node):
        yield ast.UnaryOp(ast.USub(), node)


RULES: dict[str, tuple[Edits, set[str]]] = {
    "another name": (another_name, {"another operand"}),
    "bracket order": (bracket_order, {"other brackets"}),
    "dropped factor": (dropped_factor, {"factor", "mean"}),
    "dropped term": (dropped_term, {"term left out", "other brackets", "products alone"}),
    "extra size": (extra_size, {"power", "other brackets", "another size"}),
    "mean for sum": (mean_for_sum, {"mean", "factor", "scaled"}),
    "operands swapped": (operands_swapped, {"operands swapped", "transposed operand"}),
    "other axis": (other_axis, {"other axis", "transposed operand"}),
    "other size": (other_size, {"another size", "other brackets", "power", "term left out"}),
    "power": (power, {"power", "another size", "other brackets", "factor left out", "term left out"}),
    "scale": (scale, {"root of the scale", "scaled by d", "no scale", "scaled", "factor"}),
    "sign": (sign, {"sign", "term left out"}),
    "transposed": (transposed, {"transposed operand", "only for symmetric X", "operands swapped"}),
}
"""For each kind its rule, and what its causes may be called: `2 R` for `2 R Wt + 2 R Wt` lacks a term and a factor."""


def planted(kinds: tuple[str, ...]) -> Iterator[Planted]:
    """The mistakes of some kinds, over all worksheets."""
    for name in SHEETS:
        sheet = parse((SHIPPED / f"{name}.md").read_text(encoding="utf-8"))
        for claim in sheet.claims:
            known = _known(sheet, claim)
            for kind in kinds:
                yield from _edited(name, sheet, claim, kind, known, RULES[kind][0])


def right(count: int = 10_000) -> Iterator[Planted]:
    """Claims as they ship, and written in other ways that come to the same."""
    for name in SHEETS:
        sheet = parse((SHIPPED / f"{name}.md").read_text(encoding="utf-8"))
        for claim in sheet.claims:
            known = _known(sheet, claim)
            for kind, rule in (("other order", _other_order), ("turned twice", _turned_twice), ("halved", _halved)):
                yield from list(_edited(name, sheet, claim, kind, known, rule))[:count]


def _other_order(node: ast.expr, _: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        yield ast.BinOp(node.right, node.op, node.left)


def _turned_twice(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and not known.cost and not _is_flat(node):
        sides = (ast.Attribute(side, "T") for side in (node.right, node.left))
        yield ast.Attribute(ast.BinOp(next(sides), node.op, next(sides)), "T")


def _halved(node: ast.expr, known: Known) -> Iterator[ast.expr]:
    if isinstance(node, (ast.Name, ast.BinOp)) and not known.cost:
        yield ast.BinOp(ast.BinOp(ast.Constant(2), ast.Mult(), node), ast.Div(), ast.Constant(2))


def _is_flat(node: ast.expr) -> bool:
    """Whether this is the product of flat vectors, which is the same the other way round."""
    return ast.unparse(node) == "q @ k"


def _known(sheet: Sheet, claim: Claim) -> Known:
    shapes: dict[str, str] = {}
    sizes: dict[str, None] = {}
    for statement in sheet.statements:
        if statement.line < claim.line and getattr(statement, "shape", None) is not None:
            shape = ", ".join(map(ast.unparse, statement.shape))
            shapes |= dict.fromkeys(statement.names, shape)
            sizes |= {
                part.id: None for size in statement.shape for part in ast.walk(size) if isinstance(part, ast.Name)
            }
    words = ("cost(", "size(", "params(")
    return Known(shapes, list(sizes), any(word in claim.text for word in words))


def _edited(name: str, sheet: Sheet, claim: Claim, kind: str, known: Known, rule: Edits) -> Iterator[Planted]:
    before = [one.text for one in sheet.statements if not isinstance(one, Claim) and one.line < claim.line]
    functions = {one.name for one in sheet.statements if isinstance(one, Let)}
    whole = claim.text
    link = claim.links[-1]
    if len(claim.links) < 2 or (isinstance(link, ast.Name) and link.id in functions):
        return
    if kind in ("bracket order", "scale"):
        link = claim.links[kind == "scale"]
    seen = set()
    for node in expressions(link):
        for new in rule(node, known):
            text = ast.unparse(ast.fix_missing_locations(exchanged(link, node, new)))
            if text not in seen and text != ast.unparse(link):
                seen.add(text)
                changed = whole[: link.col_offset] + text + whole[link.end_col_offset :]
                yield Planted(name, claim.line, kind, changed, "\n".join([*before, changed]))
