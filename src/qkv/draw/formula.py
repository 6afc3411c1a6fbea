"""Formulas: expressions as mathematics writes them, in LaTeX, in MathML, and as text with marks for figures.

`W1.T @ bar(a1)` becomes W₁ᵀ ā₁, a product of arrays entry by entry a ⊙ b. How many axes an expression has is for the
caller to say: it decides between a ⊙ b and a b, and between xᵀ y and X Y.
"""

import ast
import html
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

Axes = Callable[[ast.expr], int | None]
"""How many axes what an expression stands for has, None where that is not known."""

_GREEK = dict(
    zip(
        [
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "eta",
            "theta",
            "kappa",
            "lambda",
            "mu",
            "nu",
            "xi",
            "pi",
            "rho",
            "sigma",
            "tau",
            "phi",
            "chi",
            "psi",
            "omega",
            "Gamma",
            "Delta",
            "Theta",
            "Lambda",
            "Xi",
            "Pi",
            "Sigma",
            "Phi",
            "Psi",
            "Omega",
        ],
        "αβγδεηθκλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ",
        strict=True,
    )
)
_SUM, _SIGN, _PRODUCT, _POWER, _ATOM = range(5)  # how tightly parts hold together
_COMPARED: dict[type[ast.cmpop], str] = {
    ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥",
}  # fmt: skip


def _constants_are_numbers(node: ast.expr) -> int | None:
    return 0 if isinstance(node, ast.Constant) else None


def latex(node: ast.expr, axes: Axes = _constants_are_numbers) -> str:
    """An expression as LaTeX, for use in formulas.

    >>> def read(text): return ast.parse(text, mode="eval").body
    >>> print(latex(read("bar(u) + bar(c1) * c1 * (1 - c1)")))
    \\bar{u} + \\bar{c}_{1} \\odot c_{1} \\odot (1 - c_{1})
    >>> print(latex(read("softmax(Q @ K.T / sqrt(2)) @ V")))
    \\operatorname{softmax}\\left(\\frac{Q\\,K^{\\top}}{\\sqrt{2}}\\right)\\,V
    """
    return _Writer(axes, _Latex()).write(node)[0]


def mathml(node: ast.expr, axes: Axes = _constants_are_numbers) -> str:
    """An expression as the content of a MathML element.

    >>> mathml(ast.parse("x / 2", mode="eval").body)
    '<mfrac><mi>x</mi><mn>2</mn></mfrac>'
    """
    return _Writer(axes, _MathML()).write(node)[0]


def marked(node: ast.expr, axes: Axes = _constants_are_numbers) -> str:
    """An expression as text on one line in which `LOW`, `HIGH`, `OVER` and `SLANTED` begin and `END` ends a mark."""
    return _Writer(axes, _Marked()).write(node)[0]


def named(name: str, form: str = "latex", *, bar: bool = False) -> str:
    """A name as mathematics writes it: digits and what follows an underscore are subscripts.

    Args:
        form: `latex`, `mathml` or `marked`.
        bar: whether it stands for its adjoint.

    >>> named("a1"), named("W_Q"), named("Wg"), named("theta"), named("scores"), named("a1", bar=True)
    ('a_{1}', 'W_{Q}', 'W_{g}', '\\\\theta', '\\\\mathrm{scores}', '\\\\bar{a}_{1}')
    """
    marks = {"latex": _Latex, "mathml": _MathML, "marked": _Marked}[form]()
    return marks.name(*parted(name), bar=bar)


def parted(name: str) -> tuple[str, str]:
    """A name and its subscript: `a1` is a with 1, `Wg` is W with g, `W_Q` is W with Q; `scores` has none."""
    base, _, below = name.partition("_")
    found = re.fullmatch(r"([^\W\d_])([^\W\d_])|([^\W\d_]+?)(\d+)", base)
    if found and base not in _GREEK:
        base, first = found[1] or found[3], found[2] or found[4]
        below = f"{first},{below}" if below else first
    return base, below.replace("_", ",")


# -- forms -----------------------------------------------------------------------------------------------------------


class _Form(ABC):
    """How the parts of a formula are written."""

    @abstractmethod
    def name(self, base: str, below: str, *, bar: bool = False) -> str: ...
    @abstractmethod
    def number(self, text: str) -> str: ...
    @abstractmethod
    def sign(self, text: str) -> str: ...
    @abstractmethod
    def function(self, name: str, below: str = "") -> str: ...
    @abstractmethod
    def row(self, parts: Sequence[str]) -> str: ...
    @abstractmethod
    def high(self, base: str, above: str) -> str: ...
    @abstractmethod
    def low(self, base: str, below: str) -> str: ...
    @abstractmethod
    def fraction(self, top: str, bottom: str) -> str: ...
    @abstractmethod
    def root(self, inner: str) -> str: ...
    @abstractmethod
    def round(self, inner: str) -> str: ...
    @abstractmethod
    def table(self, lines: Sequence[Sequence[str]]) -> str: ...


_LATEX_SIGNS = {
    "⊙": r" \odot ", "⊤": r"\top", "+": " + ", "−": " - ", "≠": r" \neq ", "≤": r" \leq ", "≥": r" \geq ",
    "⇔": r" \iff ", "∧": r" \land ",
    "∨": r" \lor ", "¬": r"\lnot ", "·": r" \cdot ", " ": r"\,", "‖": r"\Vert ", "|": r"\vert ", "-": "-",
    ",": ", ", ":": ":", "[": "[", "]": "]", "⊙ high": r"\odot ",
}  # fmt: skip


_LATEX_FUNCTIONS = {"tanh": r"\tanh", "exp": r"\exp", "log": r"\log", "max": r"\max", "sigmoid": r"\sigma"}


class _Latex(_Form):
    def name(self, base: str, below: str, *, bar: bool = False) -> str:
        written = f"\\{base}" if base in _GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
        written = rf"\bar{{{written}}}" if bar else written
        return f"{written}_{{{below}}}" if below else written

    def number(self, text: str) -> str:
        return rf"\mathbf{{{text[0]}}}" if text.endswith("bold") else text

    def sign(self, text: str) -> str:
        return _LATEX_SIGNS.get(text, f" {text} ")

    def function(self, name: str, below: str = "") -> str:
        written = _LATEX_FUNCTIONS.get(name, name if len(name) == 1 else rf"\operatorname{{{name}}}")
        return rf"{written}_{{\text{{{below}}}}}" if below else written

    def row(self, parts: Sequence[str]) -> str:
        return "".join(parts)

    def high(self, base: str, above: str) -> str:
        return f"{base}^{{{above}}}"

    def low(self, base: str, below: str) -> str:
        return f"{base}_{{{below}}}"

    def fraction(self, top: str, bottom: str) -> str:
        return rf"\frac{{{top}}}{{{bottom}}}"

    def root(self, inner: str) -> str:
        return rf"\sqrt{{{inner}}}"

    def round(self, inner: str) -> str:
        tall = r"\frac" in inner or "matrix" in inner
        return rf"\left({inner}\right)" if tall else f"({inner})"

    def table(self, lines: Sequence[Sequence[str]]) -> str:
        rows = r" \\ ".join(" & ".join(line) for line in lines)
        return rf"\begin{{bmatrix}} {rows} \end{{bmatrix}}"


_MATHML_SIGNS = {" ": "<mspace width='0.17em'/>", "-": "<mo>−</mo>", "⊙ high": "<mo>⊙</mo>"}


class _MathML(_Form):
    def name(self, base: str, below: str, *, bar: bool = False) -> str:
        written = f"<mi>{_GREEK.get(base, base)}</mi>"
        written = f"<mover>{written}<mo>¯</mo></mover>" if bar else written
        return f"<msub>{written}<mi>{below}</mi></msub>" if below else written

    def number(self, text: str) -> str:
        bold = text.endswith("bold")
        return f'<mn style="font-weight:bold">{text[0]}</mn>' if bold else f"<mn>{text}</mn>"

    def sign(self, text: str) -> str:
        return _MATHML_SIGNS.get(text) or f"<mo>{html.escape(text)}</mo>"

    def function(self, name: str, below: str = "") -> str:
        written = "<mi>σ</mi>" if name == "sigmoid" else f"<mi>{name}</mi>"
        return f"<msub>{written}<mtext>{below}</mtext></msub>" if below else written

    def row(self, parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"

    def high(self, base: str, above: str) -> str:
        return f"<msup>{base}{above}</msup>"

    def low(self, base: str, below: str) -> str:
        return f"<msub>{base}{below}</msub>"

    def fraction(self, top: str, bottom: str) -> str:
        return f"<mfrac>{top}{bottom}</mfrac>"

    def root(self, inner: str) -> str:
        return f"<msqrt>{inner}</msqrt>"

    def round(self, inner: str) -> str:
        return f"<mrow><mo>(</mo>{inner}<mo>)</mo></mrow>"

    def table(self, lines: Sequence[Sequence[str]]) -> str:
        rows = "".join(f"<mtr>{''.join(f'<mtd>{cell}</mtd>' for cell in line)}</mtr>" for line in lines)
        return f"<mrow><mo>[</mo><mtable>{rows}</mtable><mo>]</mo></mrow>"


LOW, HIGH, OVER, SLANTED, END = "\ue000\ue001\ue002\ue003\ue004"
"""Marks in texts of figures; from the private use area, so that no text has them."""


# Only signs that common fonts without serifs have: a line with another is drawn in some other font altogether.
_MARKED_SIGNS = {
    " ": "\u2009", ",": ", ", "⊙": " · ", "⊙ high": "·", "-": "−", "⊤": "T", ":": ":", "[": "[", "]": "]", "‖": "|",
    "|": "|", "¬": "¬",
}  # fmt: skip


class _Marked(_Form):
    def name(self, base: str, below: str, *, bar: bool = False) -> str:
        written = _GREEK.get(base, base)
        written = f"{SLANTED}{written}{END}" if len(written) == 1 else written
        written = f"{OVER}{written}{END}" if bar else written
        return f"{written}{LOW}{below}{END}" if below else written

    def number(self, text: str) -> str:
        return text.removesuffix("bold")

    def sign(self, text: str) -> str:
        return _MARKED_SIGNS.get(text, f" {text} ")

    def function(self, name: str, below: str = "") -> str:
        written = "σ" if name == "sigmoid" else name
        return f"{written}{LOW}{below}{END}" if below else written

    def row(self, parts: Sequence[str]) -> str:
        return "".join(parts)

    def high(self, base: str, above: str) -> str:
        return f"{base}{HIGH}{above}{END}"

    def low(self, base: str, below: str) -> str:
        return f"{base}{LOW}{below}{END}"

    def fraction(self, top: str, bottom: str) -> str:
        return f"{top} / {bottom}"

    def root(self, inner: str) -> str:
        return f"√({inner})" if len(inner) > 3 else f"√{inner}"

    def round(self, inner: str) -> str:
        return f"({inner})"

    def table(self, lines: Sequence[Sequence[str]]) -> str:
        return f"[{'; '.join(', '.join(line) for line in lines)}]"


# -- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes expressions; each with how tightly it holds together, so that brackets stand only where they must."""

    def __init__(self, axes: Axes, form: _Form):
        self.axes, self.form = axes, form

    def write(self, node: ast.expr) -> tuple[str, int]:
        form = self.form
        match node:
            case ast.Constant(value=value):
                return form.number(node.kind or str(value)), _ATOM
            case ast.Name(id=name):
                return form.name(*parted(name)), _ATOM
            case ast.Attribute(value=inner):
                return form.high(self.held(inner, _ATOM), form.sign("⊤")), _POWER
            case ast.UnaryOp(op=op, operand=inner):
                sign = form.sign("¬" if isinstance(op, ast.Not) else "-")
                return form.row([sign, self.held(inner, _PRODUCT)]), _SIGN
            case ast.BinOp():
                return self._of_two(node)
            case ast.List(elts=rows) | ast.Tuple(elts=rows):
                return self._table(rows), _ATOM
            case ast.Subscript(value=inner, slice=where):
                parts = where.elts if isinstance(where, ast.Tuple) else [where]
                return form.low(self.held(inner, _ATOM), self._joined([*map(self._place, parts)], ",")), _POWER
            case ast.Compare(left=left, ops=ops, comparators=others):
                parts = [self.write(left)[0]]
                for op, side in zip(ops, others, strict=True):
                    parts += [form.sign(_COMPARED[type(op)]), self.write(side)[0]]
                return form.row(parts), _SUM
            case ast.BoolOp(op=op, values=conditions):
                held = [form.round(self.write(condition)[0]) for condition in conditions]
                return self._joined(held, "∧" if isinstance(op, ast.And) else "∨"), _SUM
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._of_call(name, arguments, node)
            case ast.Call(func=made, args=arguments):
                return form.row([self.write(made)[0], self._bracketed(arguments)]), _POWER
        raise AssertionError(f"{ast.dump(node)} is no part of the language")

    def held(self, node: ast.expr, at_least: int) -> str:
        """An expression, in brackets where it does not hold together tightly enough."""
        text, tight = self.write(node)
        return text if tight >= at_least else self.form.round(text)

    def _joined(self, parts: Sequence[str], sign: str) -> str:
        return self.form.row([piece for part in parts for piece in (part, self.form.sign(sign))][:-1])

    def _of_two(self, node: ast.BinOp) -> tuple[str, int]:
        a, b, form = node.left, node.right, self.form
        match node.op:
            case ast.Add():
                return form.row([self.write(a)[0], form.sign("+"), self.held(b, _PRODUCT)]), _SUM
            case ast.Sub():
                return form.row([self.write(a)[0], form.sign("−"), self.held(b, _PRODUCT)]), _SUM
            case ast.Mult():
                sign = "·" if isinstance(b, ast.Constant) else " " if 0 in (self.axes(a), self.axes(b)) else "⊙"
                return form.row([self.held(a, _SIGN), form.sign(sign), self.held(b, _POWER)]), _PRODUCT
            case ast.Div():
                return self._fraction(a, b)
            case ast.Pow():
                entrywise = [] if self.axes(a) == 0 else [form.sign("⊙ high")]
                return form.high(self.held(a, _ATOM), form.row([*entrywise, self.write(b)[0]])), _POWER
        return self._product(a, b)

    def _fraction(self, top: ast.expr, bottom: ast.expr) -> tuple[str, int]:
        if isinstance(top, ast.UnaryOp):
            return self.form.row([self.form.sign("-"), self._fraction(top.operand, bottom)[0]]), _SIGN
        flat = isinstance(self.form, _Marked)  # on one line, where only brackets can tell what is above and below
        above = self.held(top, _PRODUCT if flat else _SUM)
        below = self.held(bottom, _POWER if flat else _SUM)
        return self.form.fraction(above, below), _PRODUCT

    def _product(self, a: ast.expr, b: ast.expr) -> tuple[str, int]:
        sign = []
        if isinstance(a, ast.UnaryOp):
            sign, a = [self.form.sign("-")], a.operand
        # A flat vector on the left is a row.
        row = self.axes(a) == 1
        left = self.form.high(self.held(a, _ATOM), self.form.sign("⊤")) if row else self.held(a, _PRODUCT)
        return self.form.row([*sign, left, self.form.sign(" "), self.held(b, _POWER)]), _SIGN if sign else _PRODUCT

    def _of_call(self, name: str, arguments: Sequence[ast.expr], node: ast.Call) -> tuple[str, int]:
        form = self.form
        match name, arguments:
            case "bar", [ast.Name(id=inner)]:
                return form.name(*parted(inner), bar=True), _ATOM
            case "sqrt", [inner]:
                return form.root(self.write(inner)[0]), _ATOM
            case "outer", [a, b]:
                column = form.high(self.held(b, _ATOM), form.sign("⊤"))
                return form.row([self.held(a, _POWER), form.sign(" "), column]), _PRODUCT
            case "dot", [a, b]:
                row = form.high(self.held(a, _ATOM), form.sign("⊤"))
                return form.row([row, form.sign(" "), self.held(b, _POWER)]), _PRODUCT
            case (("norm" | "abs"), [inner]):
                bars = form.sign("‖" if name == "norm" else "|")
                return form.row([bars, self.write(inner)[0], bars]), _ATOM
            case (("step" | "hard_threshold"), [inner]):
                sign = form.sign(">" if name == "step" else "≥")
                inside = [form.sign("["), self.write(inner)[0], sign, form.number("0"), form.sign("]")]
                return form.row([form.number("1bold"), *inside]), _ATOM
            case "ones", _:
                return form.number("1bold"), _ATOM
            case "eye", _:
                return form.name("I", ""), _ATOM
            case "concat", _:
                return self._table(arguments), _ATOM
            case "iff", [_, _]:
                return self._joined([self.write(side)[0] for side in arguments], "⇔"), _SUM
        axes = [ast.unparse(word.value) for word in node.keywords if word.arg == "axis"]
        along = "" if not axes or name in ("softmax", "log_softmax") else "columns" if axes[0] == "0" else "rows"
        rows = [form.row([form.function("row"), form.sign(" "), self.write(word.value)[0]]) for word in node.keywords
                if word.arg == "row"]  # fmt: skip
        inside = self._joined([*(self.write(argument)[0] for argument in arguments), *rows], ",")
        return form.row([form.function(name, along), form.round(inside)]), _POWER

    def _bracketed(self, arguments: Sequence[ast.expr]) -> str:
        return self.form.round(self._joined([self.write(argument)[0] for argument in arguments], ","))

    def _table(self, rows: Sequence[ast.expr]) -> str:
        if all(isinstance(row, (ast.Constant, ast.UnaryOp)) for row in rows):  # a flat vector of numbers
            return self.form.table([[self.write(row)[0] for row in rows]])
        entries = [row.elts if isinstance(row, (ast.List, ast.Tuple)) else [row] for row in rows]
        return self.form.table([[self.write(entry)[0] for entry in line] for line in entries])

    def _place(self, place: ast.expr) -> str:
        """An index as people count, from 1; a slice from its first to its last."""
        form = self.form
        if not isinstance(place, ast.Slice):
            return self._counted(place)
        if place.lower is place.upper:
            return form.sign(":")
        start = form.number("1") if place.lower is None else self._counted(place.lower)
        end = [] if place.upper is None else [self.write(place.upper)[0]]
        return form.row([start, form.sign(":"), *end])

    def _counted(self, place: ast.expr) -> str:
        if isinstance(place, ast.Constant) and isinstance(place.value, int):
            return self.form.number(str(place.value + 1))
        return self.form.row([self.write(place)[0], self.form.sign("+"), self.form.number("1")])
