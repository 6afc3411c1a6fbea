"""The language of worksheets: what is given, what is claimed of it, line by line.

A sheet is Markdown with fenced blocks marked `worksheet` or `graph`, or a text of nothing but such lines:

    given NAME, NAME = EXPRESSION           a value
    given NAME, NAME : (n, m)               a shape: values are drawn
    given NAME : permutation(n)             a kind of matrix; see `KINDS`
    given NAME in R^4                       a variable over reals or integers (Z)
    given m <= n                            an assumption
    let NAME(ARGUMENT, ...) = EXPRESSION    a function; `let NAME = EXPRESSION` a name for an expression
    claim [LABEL:] A = B = C [by LEMMA, ...] [if CONDITION] [for permutation P]
    claim [LABEL:] forall x in R^4: A iff B
    graph                                   named assignments `NAME = EXPRESSION` up to `end`

`given` may stand for `let` before a function. A statement goes on where a bracket is open, and on lines that begin
with `=`; what follows `#` is a remark.

>>> sheet = parse("given X = [[2, 0]]\\nclaim c1: Y = 2 * X = [[4, 1]]")
>>> [type(statement).__name__ for statement in sheet.statements], sheet.statements[1].name
(['Given', 'Claim'], 'c1')
>>> parse("claim Y = = 3").statements[0]
Unreadable(line=1, text='claim Y = = 3', column=10, expected='an expression', salvaged=None)
"""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qkv.check.worksheets.expressions import ReadingError, Source, Token
from qkv.errors import unknown_name

_SQUARE = ("permutation", "orthogonal", "symmetric")
KINDS = (*_SQUARE, "scalar", "positive", "mask", "onehot", "distribution")
"""What a given name can be beside an array of a shape: `given P : permutation(n)`, `given t : onehot(m)`."""

_STATEMENTS = ("given", "let", "claim", "graph")
_CLAUSES = ("by", "if", "for")
_LINES, _CHARACTERS = 20_000, 2_000_000  # what stands beyond is not read
_BEGINS = re.compile(r"\s*(?:(?:given|let|claim|graph|end)\b|\w+\s*=(?!=))")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)\s*\{?\.?(\w*)")


@dataclass(frozen=True)
class Statement:
    """What stands on a line, counted from 1, and those that it goes on to."""

    line: int
    text: str


@dataclass(frozen=True)
class Unreadable(Statement):
    """A line that cannot be read: where, counted from 1, and what was expected there.

    Attributes:
        salvaged: the claim without what cannot be read, where that much of it can be.
    """

    column: int
    expected: str
    salvaged: "Claim | None" = None


@dataclass(frozen=True)
class Domain:
    """Which values names range over: `x in R^4` (kind `R`, `Z`), `permutation P` (a name out of `KINDS`)."""

    names: tuple[str, ...]
    kind: str
    size: ast.expr | None = None


@dataclass(frozen=True)
class Given(Statement):
    """What is taken as given: names with a value, a shape or a domain; or an assumption.

    Attributes:
        shape: the sizes of the axes; those of `permutation(n)` are `n, n`.
        kind: out of `KINDS`, or nothing.
    """

    names: tuple[str, ...] = ()
    value: ast.expr | None = None
    shape: tuple[ast.expr, ...] | None = None
    kind: str = ""
    domain: Domain | None = None
    condition: ast.expr | None = None


@dataclass(frozen=True)
class Let(Statement):
    """A function of its parameters, or where it has none (`None`) a name for an expression."""

    name: str
    parameters: tuple[str, ...] | None
    value: ast.expr


@dataclass(frozen=True)
class Claim(Statement):
    """What is claimed: that the expressions between the equals signs are equal, or that the only one holds.

    Attributes:
        label: as written before a colon, or nothing.
        links: the expressions in their order; `iff(a, b)` stands for `a iff b`.
        by: lemmas, as written.
        condition: what follows `if`.
        over: what it is claimed for all of (`forall x in R^4`, `for permutation P`).
    """

    label: str
    links: tuple[ast.expr, ...]
    by: tuple[str, ...] = ()
    condition: ast.expr | None = None
    over: tuple[Domain, ...] = ()

    @property
    def defines(self) -> str:
        """The name that stands alone before the first equals sign, or nothing."""
        first = self.links[0]
        return first.id if isinstance(first, ast.Name) and len(self.links) > 1 else ""

    @property
    def name(self) -> str:
        """What it goes by: its label, the name or adjoint that it defines, or its line."""
        first = self.links[0]
        if isinstance(first, ast.Call) and isinstance(first.func, ast.Name) and first.func.id == "bar":
            return self.label or self.cut(first)
        return self.label or self.defines or f"line {self.line}"

    def cut(self, node: ast.expr) -> str:
        """An expression of this claim as it was written."""
        return " ".join(self.text[node.col_offset : node.end_col_offset].split())


@dataclass(frozen=True)
class Assignment(Statement):
    """One node of a graph."""

    name: str
    value: ast.expr


@dataclass(frozen=True)
class Graph(Statement):
    """Named assignments in their order."""

    assignments: tuple[Assignment, ...]


@dataclass(frozen=True)
class Sheet:
    """A worksheet as read: its text, the statements in their order, and the numbers of the lines that may hold any."""

    text: str
    statements: tuple[Statement, ...]
    code: frozenset[int]

    @property
    def claims(self) -> list[Claim]:
        return [statement for statement in self.statements if isinstance(statement, Claim)]


def parse(text: str) -> Sheet:
    """Reads a worksheet; lines that cannot be read become `Unreadable`, and the rest is read all the same."""
    statements: list[Statement] = []
    blocks = list(_blocks(text[:_CHARACTERS].splitlines()[:_LINES]))
    for block, is_graph in blocks:
        nodes: list[Assignment] | None = None
        start = Graph(block[0][0] if block else 0, "graph", ())
        if is_graph:
            nodes = []
            statements.append(start)
        for line, piece in _pieces(block):
            word = piece.split("#")[0].strip()
            if word == "graph" and nodes is None:
                nodes, start = [], Graph(line, piece, ())
                statements.append(start)
            elif word == "end" and nodes is not None:
                statements[statements.index(start)] = Graph(start.line, start.text, tuple(nodes))
                nodes = None
            elif nodes is not None and word.partition(" ")[0] not in _STATEMENTS:
                node = _read(line, piece, _assignment)
                if isinstance(node, Assignment):
                    nodes.append(node)
                else:
                    statements.append(node)
            else:
                statements.append(_read(line, piece, _statement))
        if nodes is not None:
            statements[statements.index(start)] = Graph(start.line, start.text, tuple(nodes))
    return Sheet(text, tuple(statements), frozenset(number for block, _ in blocks for number, _ in block))


# -- lines -------------------------------------------------------------------------------------------------------------

Lines = list[tuple[int, str]]


def _blocks(lines: Sequence[str]) -> Iterator[tuple[Lines, bool]]:
    """The lines of each fenced block that is ours, with their numbers, and whether it is a graph; or all lines."""
    fences = [_FENCE.match(line) for line in lines]
    if not any(fence and fence[2] in ("worksheet", "graph") for fence in fences):
        yield list(enumerate(lines, start=1)), False
        return
    inside, word, block = "", "", []
    for number, (line, fence) in enumerate(zip(lines, fences, strict=True), start=1):
        if inside and fence and fence[1].startswith(inside) and line.strip() == fence[1]:
            if word in ("worksheet", "graph"):
                yield block, word == "graph"
            inside = ""
        elif inside:
            block.append((number, line))
        elif fence:
            inside, word, block = fence[1], fence[2], []
    if inside and word in ("worksheet", "graph"):  # a fence that is never closed goes on to the end
        yield block, word == "graph"


def _pieces(lines: Lines) -> Iterator[tuple[int, str]]:
    """Statements as text, each with the number of its first line: those that go on are put together."""
    start, piece, depth = 0, "", 0
    for number, line in lines:
        bare = line.split("#")[0]
        if not bare.strip():
            continue
        goes_on = bare.lstrip().startswith("=") or (depth > 0 and not _BEGINS.match(bare))
        if piece and not goes_on:
            yield start, piece
            piece, depth = "", 0
        start, piece = (start, f"{piece}\n{line}") if piece else (number, line)
        depth += sum(bare.count(bracket) for bracket in "([") - sum(bare.count(bracket) for bracket in ")]")
    if piece:
        yield start, piece


def _read(line: int, text: str, reader: "Callable[[_Reader], Statement]") -> Statement:
    """One statement, or where it cannot be read."""
    text = text.rstrip()
    bare = re.sub(r"#[^\n]*", lambda remark: " " * len(remark[0]), text).replace("\t", " ").replace("\n", " ")
    salvaged: list[Claim] = []
    try:
        return reader(_Reader(line, text, Source.of(bare), salvaged))
    except ReadingError as error:
        before = text[: error.place]
        column = len(before) - (before.rfind("\n") + 1) + 1
        at = line + before.count("\n")
        return Unreadable(at, text, column, error.expected, salvaged[0] if salvaged else None)


# -- statements --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """One statement that is being read."""

    line: int
    text: str
    source: Source
    salvaged: list[Claim]

    @property
    def tokens(self) -> tuple[Token, ...]:
        return self.source.tokens

    def expression(self, tokens: Sequence[Token], after: int) -> ast.expr:
        return self.source.expression(tokens, after)

    def whole(self, tokens: Sequence[Token], after: int) -> ast.expr:
        """An expression, or two with `iff` between them."""
        both = _split(tokens, "iff")
        if len(both) == 1:
            return self.expression(tokens, after)
        if len(both) > 2:
            raise ReadingError(both[2][0].start if both[2] else after, "one iff")
        left, right = (self.expression(side, _after(tokens[: len(both[0])], after)) for side in both)
        spans = {"lineno": 1, "end_lineno": 1, "col_offset": left.col_offset, "end_col_offset": right.end_col_offset}
        return ast.Call(ast.Name("iff", ast.Load(), **spans), [left, right], [], **spans)


def _statement(reader: _Reader) -> Statement:
    if not reader.tokens:
        raise ReadingError(0, "a statement")
    word, *rest = reader.tokens
    readers = {"given": _given, "let": _let, "claim": _claim}
    if word.text not in readers:
        near = unknown_name("statement", word.text, _STATEMENTS).hint
        raise ReadingError(word.start, f"{near}?" if near else "given, let, claim or graph")
    return readers[word.text](reader, rest, word.end)


def _assignment(reader: _Reader) -> Assignment:
    name, value = _defined(reader, reader.tokens, 0)
    if len(name) != 1 or name[0].kind != "name":
        raise ReadingError(reader.tokens[0].start, "NAME = EXPRESSION")
    return Assignment(reader.line, reader.text, name[0].text, value)


def _defined(reader: _Reader, tokens: Sequence[Token], after: int) -> tuple[Sequence[Token], ast.expr]:
    """What stands before the only equals sign, and the expression after it."""
    sides = _split(tokens, "=")
    if len(sides) == 1:
        raise ReadingError(_after(tokens, after), "= and an expression")
    if len(sides) > 2:
        raise ReadingError(sides[2][0].start if sides[2] else _after(tokens, after), "one = only")
    return sides[0], reader.expression(sides[1], _after(sides[0], after) + 1)


def _given(reader: _Reader, tokens: Sequence[Token], after: int) -> Given | Let:
    if len(tokens) > 1 and tokens[1].text == "(" and len(_split(tokens, "=")) == 2:
        return _let(reader, tokens, after)
    known = {"line": reader.line, "text": reader.text}
    if len(parts := _split(tokens, ":")) == 2:
        names = _names(parts[0], after)
        kind, shape = _shape(reader, parts[1], _after(parts[0], after) + 1)
        return Given(**known, names=names, shape=shape, kind=kind)
    if any(token.text == "in" for token in tokens):
        domain = _domain(reader, tokens, after)
        return Given(**known, names=domain.names, domain=domain)
    if len(_split(tokens, "=")) > 1:
        names, value = _defined(reader, tokens, after)
        return Given(**known, names=_names(names, after), value=value)
    condition = reader.expression(tokens, after)
    if not isinstance(condition, (ast.Compare, ast.BoolOp)):
        raise ReadingError(_after(tokens, after), "= and a value, : and a shape, or an assumption such as m <= n")
    return Given(**known, condition=condition)


def _shape(reader: _Reader, tokens: Sequence[Token], after: int) -> tuple[str, tuple[ast.expr, ...]]:
    """The kind and the sizes that stand after a colon."""
    tree = reader.expression(tokens, after)
    if isinstance(tree, ast.Tuple):
        return "", tuple(tree.elts)
    name = tree.func if isinstance(tree, ast.Call) else tree
    if not isinstance(name, ast.Name) or name.id not in KINDS:
        raise ReadingError(tokens[0].start, f"a shape such as (n, m) or (n,), or one of {', '.join(KINDS)}")
    sizes, square = tree.args if isinstance(tree, ast.Call) else [], name.id in _SQUARE
    if len(sizes) not in ((0,) if name.id == "scalar" else (1,) if square else (1, 2)):
        raise ReadingError(tokens[0].start, "scalar" if name.id == "scalar" else f"{name.id}(n)")
    return name.id, tuple(sizes * 2 if square else sizes)


def _let(reader: _Reader, tokens: Sequence[Token], after: int) -> Let:
    head, value = _defined(reader, tokens, after)
    if not head or head[0].kind != "name":
        raise ReadingError(_after(head[:1], after), "a name")
    if len(head) == 1:
        return Let(reader.line, reader.text, head[0].text, None, value)
    if head[1].text != "(" or head[-1].text != ")":
        raise ReadingError(head[1].start, "NAME = EXPRESSION or NAME(ARGUMENT, ...) = EXPRESSION")
    return Let(reader.line, reader.text, head[0].text, _names(head[2:-1], head[1].end), value)


def _claim(reader: _Reader, tokens: Sequence[Token], after: int) -> Claim:
    label, over = "", ()
    if len(tokens) > 1 and tokens[0].kind == "name" and tokens[1].text == ":" and tokens[0].text != "forall":
        label, after, tokens = tokens[0].text, tokens[1].end, tokens[2:]
    if tokens and (tokens[0].text == "forall" or [token.text for token in tokens[:2]] == ["for", "all"]):
        words = 1 if tokens[0].text == "forall" else 2
        domains, *rest = _split(tokens[words:], ":", most=2)
        over = (_domain(reader, domains, tokens[words - 1].end),)
        if not rest:
            raise ReadingError(_after(tokens, after), ": and what is claimed")
        after, tokens = _after(domains, after) + 1, rest[0]
    body, clauses = _clauses(tokens)
    by, condition = (), None
    for clause in clauses:
        word, *rest = clause
        if word.text == "by":
            by = tuple(_said(reader, part) for part in _split(rest, ",") if part)
            if not by:
                raise ReadingError(word.end, "a lemma")
        elif word.text == "if":
            condition = reader.expression(rest, word.end)
        else:
            over += tuple(_ranged(reader, rest, word.end))
    links = []
    # Equations of a condition stand for truth; those of a chain part its links.
    truth = any(token.text in ("iff", "and", "or", "not", "<", ">", "<=", ">=", "!=") for token in _flat(body))
    equals = ("=",) if truth or any(domain.kind in "RZ" for domain in over) else ("=", "==")
    at = 0
    for part in _split(body, *equals):
        links.append(reader.whole(part, body[at - 1].end if at else after))
        at += len(part) + 1
        if len(links) > 1 and not reader.salvaged:
            reader.salvaged.append(Claim(reader.line, reader.text, label, tuple(links)))
    return Claim(reader.line, reader.text, label, tuple(links), by, condition, over)


def _clauses(tokens: Sequence[Token]) -> tuple[Sequence[Token], list[Sequence[Token]]]:
    """A claim without its clauses, and those: each from its word on."""
    depth, starts = 0, []
    for place, token in enumerate(tokens):
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0 and token.text in _CLAUSES:
            starts.append(place)
    starts.append(len(tokens))
    return tokens[: starts[0]], [tokens[start:end] for start, end in pairwise(starts)]


def _said(reader: _Reader, tokens: Sequence[Token]) -> str:
    return " ".join(reader.text[tokens[0].start : tokens[-1].end].split())


def _ranged(reader: _Reader, tokens: Sequence[Token], after: int) -> Iterator[Domain]:
    """`permutation P, x in R^4` after `for`."""
    if tokens and tokens[0].text in ("all", "every", "any"):
        after, tokens = tokens[0].end, tokens[1:]
    for part in _split(tokens, ","):
        if any(token.text == "in" for token in part):
            yield _domain(reader, part, after)
        elif len(part) == 2 and part[0].text in KINDS and part[1].kind == "name":
            yield Domain((part[1].text,), part[0].text)
        else:
            raise ReadingError(part[0].start if part else after, f"x in R^4, or a name after one of {', '.join(KINDS)}")


def _domain(reader: _Reader, tokens: Sequence[Token], after: int) -> Domain:
    """`x, y in R^4`."""
    names, *rest = _split(tokens, "in")
    if len(rest) != 1 or not rest[0] or rest[0][0].text not in ("R", "Z"):
        raise ReadingError(rest[0][0].start if rest and rest[0] else _after(tokens, after), "a name in R^4 or Z^4")
    kind, *power = rest[0]
    size = None
    if power:
        if power[0].text not in ("^", "**"):
            raise ReadingError(power[0].start, "^ and how many numbers")
        size = reader.expression(power[1:], power[0].end)
    return Domain(_names(names, after), kind.text, size)


def _names(tokens: Sequence[Token], after: int) -> tuple[str, ...]:
    """Names with commas between them."""
    found = []
    for part in _split(tokens, ","):
        if len(part) != 1 or part[0].kind != "name":
            raise ReadingError(part[0].start if part else _after(tokens, after), "a name")
        found.append(part[0].text)
    return tuple(found)


def _split(tokens: Sequence[Token], *marks: str, most: int | None = None) -> Sequence[list[Token]]:
    """Tokens parted at `marks` that stand outside brackets, into `most` parts at most."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0 and token.text in marks and (most is None or len(parts) < most):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    """Those tokens that stand outside brackets."""
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
        if depth == 0:
            yield token


def _after(tokens: Sequence[Token], otherwise: int) -> int:
    return tokens[-1].end if tokens else otherwise
