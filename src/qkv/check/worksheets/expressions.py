"""Expressions of a worksheet: tokens, then a tree of Python's `ast` in which only arithmetic stands.

Nothing is executed as Python. What a tree may hold is a short list, and its length, depth and numbers are limited here,
so that whatever walks it later need not ask.
"""

import ast
import functools
import keyword
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

_LENGTH, _DEPTH, _BRACKETS, _OPERATORS = 20_000, 80, 30, 400
_DIGITS, _EXPONENT = 40, 300
_TOKEN = re.compile(
    r"(?P<blank>\s+)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)"
    r"|(?P<operator>\*\*|==|!=|<=|>=|[-+*/@()\[\],:=<>.^])"
)
_SHORT = r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?"
_ROW = re.compile(rf"(?P<row>\[ *(?:{_SHORT} *, *)*+{_SHORT} *\])")  # most of what people write: read in one go
_OPENING, _CLOSING = {"(": ")", "[": "]"}, {")", "]"}
_BINARY = {"+", "-", "*", "/", "@", "**", "==", "!=", "<", ">", "<=", ">=", "and", "or"}
_AFTER_VALUES = _BINARY - {"+", "-"} | {",", *_CLOSING}
_WORDS = {"and", "or", "not", "if", "for", "in"}  # of Python's, those that a worksheet has too
_TRUTH = {"True", "False"}  # 1 and 0
_TYPED = {"−": "-", "–": "-", "’": "'", "\N{NO-BREAK SPACE}": " "}
_MEANT = {
    "×": "* between numbers, @ between matrices",
    "·": "* between numbers, @ between matrices",
    "^": "** for a power",
    "'": ".T for a transpose",
    "ᵀ": ".T for a transpose",
    "√": "sqrt(...)",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "{": "[ and ] around rows",
    "}": "[ and ] around rows",
    "|": "abs(...) or norm(...)",
    "%": "a number between 0 and 1",
    ";": "a line for each",
    "&": "and",
}
_NODES = frozenset({
    ast.Name, ast.BinOp, ast.UnaryOp, ast.Call, ast.List, ast.Tuple, ast.Subscript, ast.Slice, ast.Compare, ast.BoolOp,
    ast.Attribute, ast.keyword, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult, ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
})  # fmt: skip


class ReadingError(Exception):
    """A place in a text that cannot be read, counted in characters from its start, and what was expected there."""

    def __init__(self, place: int, expected: str):
        super().__init__(expected)
        self.place, self.expected = place, expected


class Token(NamedTuple):
    """A piece of text that means something, and where it stands: a name, a number, an operator, a row of numbers."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class Source:
    """A text and its tokens, from which expressions are cut."""

    text: str
    tokens: tuple[Token, ...]

    @classmethod
    def of(cls, text: str) -> "Source":
        """The tokens of `text`; a minus that a word processor made is taken for one.

        Raises:
            ReadingError: a character that has no meaning here.
        """
        if len(text) > _LENGTH:
            raise ReadingError(_LENGTH, f"at most {_LENGTH:,} characters in one statement")
        for typed, meant in _TYPED.items():
            text = text.replace(typed, meant)
        return cls(text, tuple(_tokens(text)))

    def expression(self, tokens: Sequence[Token], after: int) -> ast.expr:
        """The tree of the expression that `tokens` make; `after` is where one is missed if there are none.

        Every node's `col_offset` and `end_col_offset` are places in the text; the `kind` of a number is its spelling.

        Raises:
            ReadingError: not an expression, or one past a limit.
        """
        _well_formed(tokens, after)
        start, end = tokens[0].start, tokens[-1].end
        tokens = [*_named_axes(tokens)]
        piece = self._respelled(tokens, start, end)
        try:
            tree = ast.parse(piece, mode="eval").body
        except SyntaxError as error:
            place = start + _characters(piece, (error.offset or 1) - 1)
            raise ReadingError(min(place, end), "an expression, as Python spells it") from error
        except (RecursionError, MemoryError, ValueError) as error:
            raise ReadingError(start, "a simpler expression") from error
        _place(tree, piece, start)
        return tree

    def _respelled(self, tokens: Sequence[Token], start: int, end: int) -> str:
        """The text of `tokens` on one line, each where it stood."""
        piece, at = [], start
        for token in tokens:
            piece += [" " * (token.start - at), token.text]
            at = token.end
        return "".join(piece) + " " * (end - at)


def number(node: ast.Constant) -> Fraction:
    """The number that was written, exactly.

    >>> number(Source.of("0.62").expression(Source.of("0.62").tokens, 0))
    Fraction(31, 50)
    """
    return Fraction(_spelling(node))


def unit(node: ast.Constant) -> float | None:
    """One in the last place that was written, None for a whole number: 0.01 for 0.62.

    >>> unit(Source.of("1.50e-3").expression(Source.of("1.50e-3").tokens, 0))
    1e-05
    """
    decimals, is_whole = _decimals(_spelling(node))
    return None if is_whole else 10.0**-decimals


def scaled(node: ast.Constant) -> tuple[int, int]:
    """The number that was written as a whole numerator and a power of ten."""
    return _scaled(_spelling(node))


def _spelling(node: ast.Constant) -> str:
    return node.kind or str(node.value)


@functools.lru_cache(maxsize=8192)
def _scaled(spelling: str) -> tuple[int, int]:
    mantissa = spelling.lower().partition("e")[0].replace(".", "")
    decimals, _ = _decimals(spelling)
    return (int(mantissa), 10**decimals) if decimals >= 0 else (int(mantissa) * 10**-decimals, 1)


@functools.lru_cache(maxsize=8192)
def _decimals(spelling: str) -> tuple[int, bool]:
    """How many decimals the last digit of a number is, and whether it is a whole one without exponent."""
    mantissa, _, exponent = spelling.lower().partition("e")
    _, point, decimals = mantissa.partition(".")
    return len(decimals) - int(exponent or 0), not (point or exponent)


def names(node: ast.AST) -> set[str]:
    """The names in an expression but those of functions that it calls."""
    return set(_said(node)[0])


def calls(node: ast.AST) -> set[str]:
    """The names of the functions that an expression calls."""
    return set(_said(node)[1])


@functools.lru_cache(maxsize=8192)
def _said(node: ast.AST) -> tuple[frozenset[str], frozenset[str]]:
    """Names and functions; trees are never changed, so each is walked once."""
    every = list(parts(node))
    functions = [below.func for below in every if isinstance(below, ast.Call)]
    called = {id(function) for function in functions}
    found = (below.id for below in every if isinstance(below, ast.Name) and id(below) not in called)
    return frozenset(found), frozenset(function.id for function in functions if isinstance(function, ast.Name))


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """What an expression is made of, but for the numbers in it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if not is_number(node):
            below = node.elts if isinstance(node, (ast.List, ast.Tuple)) else ast.iter_child_nodes(node)
            waiting += [child for child in below if not is_number(child)]
            yield node


def is_number(node: ast.AST) -> bool:
    """Whether it is a number with or without a minus."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))


# -- tokens ------------------------------------------------------------------------------------------------------------


def _tokens(text: str) -> Iterator[Token]:
    at, last = 0, None
    while at < len(text):
        found = (None if _ends(last) else _ROW.match(text, at)) or _TOKEN.match(text, at)
        if found is None:
            meant = _MEANT.get(text[at])
            raise ReadingError(at, meant or "a number, a name, an operator or a bracket")
        kind = found.lastgroup or ""
        after_number = last is not None and last.kind == "number" and last.end == at
        if kind == "name" and after_number:
            raise ReadingError(at, "an operator between a number and a name, such as 2 * x")
        if kind == "number" and after_number:
            raise ReadingError(at, "a number with one point")
        if kind == "number":
            _number_fits(found[0], at)
        if kind == "name" and keyword.iskeyword(found[0]) and found[0] not in _WORDS | _TRUTH:
            raise ReadingError(at, f"a name ({found[0]} is a word of Python's)")
        if kind != "blank":
            last = Token(kind, found[0], at)
            yield last
        at = found.end()


def _number_fits(text: str, at: int) -> None:
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > _DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > _EXPONENT:
        raise ReadingError(at, f"a number of at most {_DIGITS} digits, with an exponent up to {_EXPONENT}")
    if digits.isdigit() and len(digits) > 1 and digits[0] == "0" and int(digits):
        raise ReadingError(at, "a number that does not begin with 0")


def _named_axes(tokens: Sequence[Token]) -> Iterator[Token]:
    """Tokens with `row 1` in a call as `row=1`: what people say, as a keyword argument."""
    for place, token in enumerate(tokens):
        yield token
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if token.text in ("row", "column") and after is not None and after.kind in ("number", "name"):
            yield Token("operator", "=", token.end)


def _well_formed(tokens: Sequence[Token], after: int) -> None:
    """Says in words what is wrong with brackets, and with what stands beside what."""
    if not tokens:
        raise ReadingError(after, "an expression")
    open_ones: list[Token] = []
    operators = 0
    before: Token | None = None
    for token in tokens:
        value = token.kind in ("number", "row") or (token.kind == "name" and token.text not in _WORDS)
        if token.text in ("if", "for", "in") or token.text == "^":
            raise ReadingError(token.start, _MEANT.get(token.text, f"no {token.text} inside an expression"))
        if _ends(before) and (value or token.text == "not"):
            axis = before is not None and before.text in ("row", "column")
            if not axis:
                raise ReadingError(token.start, "an operator or a comma")
        if not _ends(before) and token.text in _AFTER_VALUES:
            between = "" if before is None else before.text
            if (token.text not in _CLOSING or between not in ("(", "[", ",", ":")) and (between, token.text) != (
                ":",
                ",",
            ):
                raise ReadingError(token.start, f"a value before {token.text}")
        if token.text in _OPENING:
            if before is not None and before.kind == "number":
                raise ReadingError(token.start, "an operator or a comma")
            open_ones.append(token)
            if len(open_ones) > _BRACKETS:
                raise ReadingError(token.start, f"at most {_BRACKETS} brackets inside one another")
        elif token.text in _CLOSING:
            if not open_ones:
                raise ReadingError(token.start, f"no {token.text} without its opening bracket")
            if _OPENING[open_ones.pop().text] != token.text:
                raise ReadingError(token.start, "the bracket that closes the last one opened")
        signs = token.text == "-" and not _ends(before) and not (before is not None and before.text in ("-", "+"))
        operators += (token.text in _BINARY or token.text in ("not", ".")) and not signs
        if operators > _OPERATORS:
            raise ReadingError(token.start, f"at most {_OPERATORS} operators in one expression")
        before = token
    if open_ones:
        raise ReadingError(tokens[-1].end, f"a closing {_OPENING[open_ones[-1].text]}")
    if not _ends(before):
        raise ReadingError(tokens[-1].end, f"a value after {tokens[-1].text}")


def _ends(token: Token | None) -> bool:
    """Whether a value can end with `token`."""
    if token is None:
        return False
    return (
        token.kind in ("number", "row") or (token.kind == "name" and token.text not in _WORDS) or token.text in _CLOSING
    )


# -- trees -------------------------------------------------------------------------------------------------------------


def _place(tree: ast.expr, piece: str, start: int) -> None:
    """Checks every node, and gives it its place in the whole text."""
    plain = piece.isascii()
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        at = 0
        if isinstance(node, (ast.expr, ast.keyword)):
            begins, ends = node.col_offset, node.end_col_offset or node.col_offset
            if not plain:
                begins, ends = _characters(piece, begins), _characters(piece, ends)
            node.col_offset, node.end_col_offset = at, _ = start + begins, start + ends
            if isinstance(node, ast.Constant):
                _spelled(node, piece[begins:ends], at)
                continue
        if depth > _DEPTH:
            raise ReadingError(start, f"at most {_DEPTH} operators inside one another")
        _allowed(node, at)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]


def _spelled(node: ast.Constant, spelling: str, at: int) -> None:
    """Keeps the spelling of a number as its kind; of what is true or false, 1 or 0."""
    if isinstance(node.value, bool):
        node.value = int(node.value)
    elif isinstance(node.value, (int, float)):
        node.kind = spelling
    else:
        raise ReadingError(at, "a number")


def _allowed(node: ast.AST, at: int) -> None:
    """Refuses what is not on the list."""
    if type(node) not in _NODES:
        raise ReadingError(at, "arithmetic, calls of known functions, lists and subscripts")
    if isinstance(node, ast.Attribute) and node.attr != "T":
        raise ReadingError(node.end_col_offset or at, ".T, the only thing after a point")
    if isinstance(node, ast.Call):
        maker = node.func.func if isinstance(node.func, ast.Call) else node.func  # indicator(lo, hi)(z)
        if not isinstance(maker, ast.Name):
            raise ReadingError(at, "the name of a function before its bracket")
        if any(word.arg is None for word in node.keywords):
            raise ReadingError(at, "arguments by place or by name")


def _characters(text: str, count: int) -> int:
    """How many characters the first `count` bytes of `text` are: Python counts places in bytes."""
    return len(text.encode()[:count].decode(errors="ignore"))
