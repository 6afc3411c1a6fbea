"""Mistakes planted by rule in worksheets of numbers, and right variants of them with other digits.

A rule takes a claim and says what a person who makes one mistake would have written: by another formula, computed by
NumPy and not by what is tested, or by a slip in one entry. The claims after it are left out, or computed from it as
that person would. `python -m tests.check.worksheets.planted.numbers 6` tells the rates by kind.
"""

import ast
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from random import Random

import numpy as np

from qkv.check.worksheets.judge import Judgement, judge
from qkv.check.worksheets.syntax import Claim, Given, Let, parse
from tests.check.worksheets.planted.numeric_kinds import KEPT_OUT, KINDS

SQUARES = """
given A = [[1, 2, 0], [-1, 3, 1], [2, 0, 1]]
given B = [[2, -1, 1], [0, 1, 3], [1, 1, -2]]
claim C = A @ B = [[2, 1, 7], [-1, 5, 6], [5, -1, 0]]
claim D = C / sqrt(3) = [[1.15, 0.58, 4.04], [-0.58, 2.89, 3.46], [2.89, -0.58, 0.00]]
"""
SHEETS = ("self_attention", "cross_attention", "linear_attention", "softmax_gradient", "squares")
Array = np.ndarray


def shipped(name: str) -> str:
    if name == "squares":  # the shipped ones have no product of square matrices
        return SQUARES
    return files("qkv.check.worksheets").joinpath("shipped", f"{name}.md").read_text(encoding="utf-8")


# -- worksheets in NumPy -----------------------------------------------------------------------------------------------


def softmax(x: Array, axis: int = -1) -> Array:
    raised = np.exp(x)
    return raised / raised.sum(axis=axis, keepdims=True)


def concat(*parts: Array) -> Array:
    return np.concatenate([np.atleast_1d(part) for part in parts])


WORDS = {
    "softmax": softmax,
    "log_softmax": lambda x: np.log(softmax(x)),
    "concat": concat,
    "vec": lambda x: x.ravel(order="F"),
    "keys": -1,
    "columns": -1,
    "rows": 0,
    **{name: getattr(np, name) for name in ("abs", "diag", "dot", "exp", "inf", "log", "log2", "max", "mean", "outer")},
    **{name: getattr(np, name) for name in ("argmax", "sqrt", "sum", "trace")},
}


def evaluated(text: str, values: Mapping[str, object]) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(eval(text, {}, {**WORDS, **values}), dtype=float)


@dataclass(frozen=True)
class Site:
    """A claim of a value: what it is computed by, the names known there, and how many decimals it is written with."""

    sheet: str
    claim: Claim
    formula: str
    values: Mapping[str, object]
    decimals: int

    @property
    def true(self) -> Array:
        return evaluated(self.formula, self.values)

    @cached_property
    def noise(self) -> Array:
        """How far each entry may lie from the true one because the values above it were rounded as it is."""
        unit, random, true = 10.0**-self.decimals, np.random.default_rng(0), self.true
        finite = {name: x for name, x in self.values.items() if isinstance(x, np.ndarray) and np.isfinite(x).all()}
        rounded = {name: x for name, x in finite.items() if (abs(np.round(x, self.decimals) - x) > 1e-9).any()}
        noise = np.zeros(true.shape)
        for _ in range(16 if self.decimals else 0):
            shaken = {name: value + unit / 2 * random.choice([-1, 1], value.shape) for name, value in rounded.items()}
            noise = np.fmax(noise, np.abs(evaluated(self.formula, {**self.values, **shaken}) - true))
        return noise


def sites(name: str) -> Iterator[Site]:
    """The claims of a shipped worksheet that write a value down."""
    values: dict[str, object] = {}
    for statement in parse(shipped(name)).statements:
        match statement:
            case Given(value=value) if value is not None:
                for known in statement.names:
                    values[known] = evaluated(ast.unparse(value), values)
            case Let(parameters=(parameter,), value=value):
                body, before = ast.unparse(value), dict(values)
                values[statement.name] = lambda x, b=body, p=parameter, v=before: evaluated(b, {**v, p: x})
            case Claim(defines=defines, links=(_, formula, written)) if defines:
                text = ast.unparse(formula)
                numbers = re.findall(r"\d+\.(\d+)", statement.cut(written))
                yield Site(name, statement, text, dict(values), len(numbers[0]) if numbers else 0)
                values[defines] = evaluated(text, values)


def spelled(value: Array, decimals: int, cut: Callable[[float, int], float] = round) -> str:
    """An array as it is written in a worksheet."""
    if value.ndim:
        return "[" + ", ".join(spelled(row, decimals, cut) for row in value) + "]"
    number = float(value)
    if np.isinf(number):
        return "-inf"
    text = f"{cut(number, decimals):.{decimals}f}"
    return text.replace("-", "", 1) if float(text) == 0 else text


# -- mistakes ----------------------------------------------------------------------------------------------------------

Rule = Callable[[Site, Random], Iterator[Array]]


def _rewritten(pattern: str, replacement: str) -> Rule:
    """Another formula: each place where the pattern stands, in turn."""

    def rule(site: Site, _: Random) -> Iterator[Array]:
        for found in re.finditer(pattern, site.formula):
            text = site.formula[: found.start()] + found.expand(replacement) + site.formula[found.end() :]
            try:
                value = evaluated(text, site.values)
            except (ValueError, IndexError, SyntaxError):
                continue
            yield value

    return rule


def _entry(change: Callable[[float], float]) -> Rule:
    """One entry other than it should be, each in turn."""

    def rule(site: Site, _: Random) -> Iterator[Array]:
        true = site.true
        for place in range(true.size):
            value = true.ravel().copy()
            value[place] = change(value[place])
            yield value.reshape(true.shape)

    return rule


def _several(rule: Rule) -> Rule:
    """A rule for arrays of more than one entry."""
    return lambda site, random: rule(site, random) if site.true.size > 1 else iter(())


def _another_matrix(site: Site, _: Random) -> Iterator[Array]:
    shapes = {name: value.shape for name, value in site.values.items() if isinstance(value, np.ndarray)}
    for found in re.finditer(r"\b\w+\b", site.formula):
        for other, shape in shapes.items():
            if other != found[0] and shapes.get(found[0]) == shape:
                yield evaluated(site.formula[: found.start()] + other + site.formula[found.end() :], site.values)


def _products(tree: ast.AST) -> Iterator[ast.BinOp]:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield node


def _dropped_term(site: Site, _: Random) -> Iterator[Array]:
    tree = ast.parse(site.formula, mode="eval").body
    for node in _products(tree):
        left, right = (evaluated(ast.unparse(side), site.values) for side in (node.left, node.right))
        if left.ndim < 2 or right.ndim < 2:
            continue
        for row in range(left.shape[0]):
            for column in range(right.shape[1]):
                for term in range(left.shape[1]):
                    product = left @ right
                    product[row, column] -= left[row, term] * right[term, column]
                    text = site.formula.replace(ast.unparse(node), "PRODUCT")
                    yield evaluated(text, {**site.values, "PRODUCT": product})


def _swapped_digits(site: Site, _: Random) -> Iterator[Array]:
    true = site.true
    for place in range(true.size):
        text = spelled(true.ravel()[place], site.decimals)
        for at in range(len(text) - 1):
            if text[at : at + 2].isdigit() and text[at] != text[at + 1]:
                value = true.ravel().copy()
                value[place] = float(text[:at] + text[at + 1] + text[at] + text[at + 2 :])
                yield value.reshape(true.shape)


def _rounded_early(site: Site, _: Random) -> Iterator[Array]:
    for decimals in (0, 1):
        rough = {"softmax": lambda x, axis=-1, d=decimals: _share(np.round(np.exp(x), d), axis)}
        if "softmax" in site.formula:
            yield evaluated(site.formula, {**site.values, **rough})


def _share(raised: Array, axis: int) -> Array:
    return raised / raised.sum(axis=axis, keepdims=True)


def _rows_exchanged(site: Site, _: Random) -> Iterator[Array]:
    true = site.true
    for row in range(len(true) - 1 if true.ndim == 2 else 0):
        order = [*range(len(true))]
        order[row], order[row + 1] = order[row + 1], order[row]
        yield true[order]


def _entries_exchanged(site: Site, _: Random) -> Iterator[Array]:
    true = site.true
    for place in range(true.size - 1):
        value = true.ravel().copy()
        value[[place, place + 1]] = value[[place + 1, place]]
        yield value.reshape(true.shape)


def _row_copied(site: Site, _: Random) -> Iterator[Array]:
    true = site.true
    for row in range(1, len(true) if true.ndim == 2 else 0):
        value = true.copy()
        value[row] = value[row - 1]
        yield value


RULES: dict[str, Rule] = {
    "another index": _rewritten(r"\[(\d)\]", r"[(\1 + 1) % 2]"),
    "another matrix of that shape": _another_matrix,
    "decimal point": _entry(lambda number: 10 * number),
    "digits swapped": _swapped_digits,
    "divided by the other axis": _rewritten(r"\bsoftmax\((.*)\)", r"(exp(\1) / sum(exp(\1)))"),
    "dropped term in a dot product": _dropped_term,
    "exponentials rounded too early": _rounded_early,
    "factor of two": _rewritten(r"^(.*)$", r"2 * (\1)"),
    "function left out": _rewritten(r"\b(?:exp|log|softmax|log_softmax)(?=\()", ""),
    "multiplied for divided": _rewritten(r" / ", r" * "),
    "operands swapped": _rewritten(r"^(\w+) @ (\w+)$", r"\2 @ \1"),
    "product entry by entry": _rewritten(r"^(\w+) @ (\S+)$", r"\1 * \2"),
    "rows exchanged": _rows_exchanged,
    "sign of a term": _rewritten(r" \+ ", r" - "),
    "sign of one entry": _several(_entry(lambda number: -number)),
    "softmax over columns": _rewritten(r"\bsoftmax\((\w+)\)", r"softmax(\1, 0)"),
    "sum for mean": _rewritten(r"\bmean\(", "sum("),
    "swapped query and key": _rewritten(r"^Q @ K.T", "K @ Q.T"),
    "transposed operand": _rewritten(r"(?<=@ )(\w+)$", r"\1.T"),
    # Those that were kept out until the finder of causes stood.
    "base of the logarithm": _rewritten(r"\blog\(", "log2("),
    "divided by d, not by its root": _rewritten(r"\bsqrt\((\d)\)", r"\1"),
    "entries exchanged": _entries_exchanged,
    "forgot the scale": _rewritten(r" / sqrt\(\d\)", ""),
    "not normalised": _rewritten(r"\bsoftmax\(", "exp("),
    "row copied from the one above": _row_copied,
    "sign of all": _several(_rewritten(r"^(.*)$", r"-(\1)")),
    "square left out": _rewritten(r" \*\* 2", ""),
    "term left out": _rewritten(r" [+-] [^+-]*$|^[^+-]* [+](?= )", ""),
}


@dataclass(frozen=True)
class Plant:
    """A worksheet with one mistake."""

    kind: str
    sheet: str
    name: str
    text: str


def plants(kinds: Mapping[str, object], each: int, seed: int = 0) -> list[Plant]:
    """Up to `each` mistakes of each kind in each worksheet; every other one is carried on by the claims after it."""
    found = []
    for kind in kinds:
        for sheet in SHEETS:
            random = Random(f"{seed} {kind} {sheet}")
            wrong = [
                (site, value) for site in sites(sheet) for value in RULES[kind](site, random) if _shows(site, value)
            ]
            for number, (site, value) in enumerate(random.sample(wrong, min(each, len(wrong)))):
                found.append(Plant(kind, sheet, site.claim.name, planted(site, value, carried=bool(number % 2))))
    return found


def _shows(site: Site, value: Array) -> bool:
    """Whether a mistake can be seen in what is written: in its shape, in numbers, and an entry further away than a
    unit and what rounding above it may do."""
    true = site.true
    if value.shape != true.shape or not np.isfinite(value).all():
        return False
    room = 1.1 * 10.0**-site.decimals if site.decimals else 0.5
    return bool((np.abs(np.round(value, site.decimals) - true) > room + 1.3 * site.noise).any())


def planted(site: Site, value: Array, *, carried: bool) -> str:
    """The worksheet with another value in the place of the claimed one, and the claims after it as they follow."""
    return rewritten(site.sheet, {site.claim.line: value}, after=site.claim.line if carried else None)


def rewritten(sheet: str, changed: Mapping[int, Array], after: int | None) -> str:
    """A worksheet with other values in some lines; those `after` a line are computed from what stands above them."""
    lines = shipped(sheet).split("\n")
    values: dict[str, object] = {}
    for site in sites(sheet):
        line, name = site.claim.line, site.claim.defines
        value = changed.get(line)
        if value is None and after is not None and line > after:
            value = evaluated(site.formula, {**site.values, **values})
        if value is None or not np.isfinite(value).all():
            continue
        text = spelled(value, site.decimals)
        if "inf" not in text:
            lines[line - 1] = written(site, text)
            values[name] = value
    if changed:  # what was concluded and checked below the mistake is another matter
        first = min(changed)
        keep = {site.claim.line for site in sites(sheet)} if after is not None else set()
        lines = [
            line if number <= first or number in keep or not line.startswith("claim") else ""
            for number, line in enumerate(lines, start=1)
        ]
    return "\n".join(lines)


def written(site: Site, text: str) -> str:
    """The line of a claim with another value."""
    last = site.claim.links[-1]
    return site.claim.text[: last.col_offset] + text + site.claim.text[last.end_col_offset :]


# -- right variants ----------------------------------------------------------------------------------------------------


def variants(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Right worksheets as others would write them: other digits, rounded or cut off, computed from rounded values."""
    random = Random(seed)
    for number in range(count):
        sheet = SHEETS[number % len(SHEETS)]
        lines, values = shipped(sheet).split("\n"), {}
        from_rounded, cut = random.random() < 0.5, random.choice([round, truncated])
        most = random.choice([2, 3, 4, 5])
        for site in sites(sheet):
            value = evaluated(site.formula, {**site.values, **values})
            decimals = random.choice([most, most + 1])
            text = spelled(value, decimals, cut)
            if "inf" not in text:
                lines[site.claim.line - 1] = written(site, text)
                if from_rounded:
                    values[site.claim.defines] = evaluated(text, {})
        yield f"{sheet} {number}", "\n".join(lines)


def truncated(number: float, decimals: int) -> float:
    return np.trunc(number * 10**decimals) / 10**decimals


# -- what is said of them ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A mistake and what is said of it."""

    plant: Plant
    judgement: Judgement

    @property
    def located(self) -> bool:
        """Whether the first claim called wrong is the one with the mistake, and no later one is called wrong."""
        wrong = [line.name for line in self.judgement.lines if line.verdict.kind == "wrong"]
        return wrong == [self.plant.name]

    @property
    def cause(self) -> str:
        first = self.judgement.first_wrong
        return first.verdict.cause if first else ""

    @property
    def read(self) -> bool:
        return self.cause in KINDS[self.plant.kind]

    def __str__(self) -> str:
        first = self.judgement.first_wrong
        told = f"{first.name}, {first.verdict.cause}: {first.verdict.explanation}" if first else "nothing wrong"
        return f"{self.plant.kind} in {self.plant.sheet}, {self.plant.name}: {told}"


def said(plant: Plant) -> Said:
    return Said(plant, judge(parse(plant.text)))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    start = time.perf_counter()
    alarms = [name for name, text in variants(300) if not judge(parse(text)).ok]
    say("\n  ".join([f"false alarms on 300 right ones: {len(alarms)}", *alarms]))
    found: dict[str, list[Said]] = defaultdict(list)
    for plant in plants(sys.argv[2:] or RULES, each=int(sys.argv[1])):
        one = said(plant)
        found[plant.kind].append(one)
        if not one.located or not one.read:
            say(f"{'misread' if one.located else 'MISSED'}: {one}")
    say(f"{'kind':34} planted located cause right")
    for kind, several in sorted(found.items()):
        mark = " (kept out)" * (kind in KEPT_OUT)
        say(f"{kind + mark:34} {len(several):7} {sum(x.located for x in several):7} {sum(x.read for x in several):11}")
    for title, names in (("open", set(found) - set(KEPT_OUT)), ("kept out", set(found) & set(KEPT_OUT))):
        several = [one for kind in names for one in found[kind]]
        if several:
            right = sum(one.read for one in several)
            say(f"{title}: {len(several)}, cause right for {right} ({100 * right / len(several):.1f} %)")
    say(f"{time.perf_counter() - start:.0f} s")
