"""Why a number is wrong: likely causes, each tried by recomputing what was claimed.

Three kinds of trial. The expression is edited as people misread it, and computed. Or one value on the way is bent as
people slip (an entry's sign, a term of a dot product, digits rounded too early), and the rest is computed from it. Or
the claimed entries alone tell: exchanged, a row repeated, digits swapped, the decimal point moved.
"""

import ast
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np

from qkv.check.worksheets.edited import Edited, Known, edits, exchanged, expressions, inlined
from qkv.check.worksheets.evaluate import Evaluator
from qkv.check.worksheets.values import Exact, UnusableError, Value, floats
from qkv.check.worksheets.verdict import Lane, Scope, TimeLimitError
from qkv.check.worksheets.written import Written

CAUSES = {
    "another function": "another function of the same values",
    "another index": "a neighbouring entry or row, or a column for a row",
    "another operand": "another matrix of the same shape",
    "another scale": "scaled by the root of another size",
    "base of the exponential": "a power of 2 or 10 for one of e",
    "base of the logarithm": "to base 2 or 10",
    "decimal point": "moved by a place or two",
    "digits swapped": "two neighbouring digits exchanged",
    "dropped term": "a product missing from a dot product, a number from a sum",
    "entries exchanged": "two entries stand in each other's place",
    "factor": "off by a factor: 2, 1/2, a size",
    "factor left out": "a factor of a product",
    "function left out": "the argument in the place of the function",
    "mean": "a sum for a mean, or the other way round",
    "no scale": "a scale such as 1/sqrt(d) forgotten",
    "not normalised": "not divided by the sum",
    "operands swapped": "the operands of a product in the other order",
    "operation": "multiplied for divided, added for multiplied, and so on",
    "other axis": "summed along, or divided by the sums of, the other axis",
    "power": "a square for the number itself, or the other way round",
    "product entry by entry": "in the place of a matrix product",
    "query and key swapped": "K @ Q.T for Q @ K.T",
    "rounded too early": "digits dropped on the way",
    "row repeated": "a row written down again for the next",
    "rows exchanged": "two rows stand in each other's place",
    "scaled by d": "divided by d, not by its root",
    "sign": "of all, or of a term",
    "sign of an entry": "one entry has the other sign",
    "softmax over columns": "normalised down the columns for along the rows",
    "term left out": "one of a sum",
    "term taken twice": "one of a sum",
    "transposed operand": "a matrix stands transposed",
}
"""The causes that wrong numbers can be found to have, and what they are."""

_TRIALS, _PAIRED, _SIZE = 8000, 40, 100  # of one claim; edits that are paired; entries of a value that is bent
_SAME = 1e-9
_LANES: tuple[Lane, ...] = ("claimed", "followed", "true")
_POINTS = (1, -1, 2, -2)
_DECIMALS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Cause:
    """A name out of `CAUSES`, and in words what was done; `units` entries are then off by one in the last place."""

    name: str
    words: str
    units: int = 0


def likely_cause(source: ast.expr, written: Written, scope: Scope) -> Cause | None:
    """The likeliest mistake that gives what was written in the place of the value of `source`; None if none is found.

    Args:
        source: the expression that says what is to be computed.
        written: what was claimed, with an entry that is wrong.
        scope: what was known there.
    """
    tree = inlined(source, scope.functions)
    used = scope.used(tree).values()
    lanes: list[_Lane] = []
    for place, lane in enumerate(_LANES):
        if all(any(getattr(known, lane) is not getattr(known, other) for known in used) for other in _LANES[:place]):
            with contextlib.suppress(UnusableError):
                lanes.append(_Lane.of(tree, scope.evaluator(lane)))
    search = _Search(written, [lane for lane in lanes if lane.value.shape == written.value.shape])
    stages = [search.entries, search.edited, search.slips, search.rounded, search.partly, search.paired]
    if len(written.leaves) == 1:  # of a number alone, digits say little: what people misread comes first
        stages = [search.edited, search.slips, search.entries, search.rounded, search.paired]
    with contextlib.suppress(TimeLimitError):
        for stage in stages:
            found = min(stage(), key=lambda cause: cause.units, default=None)
            if found is not None:
                return found
    return None


# -- computing otherwise -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recorder(Evaluator):
    """Keeps what each part of an expression comes to."""

    parts: dict[int, Value] = field(default_factory=dict)

    def __call__(self, node: ast.expr) -> Value:
        self.parts[id(node)] = value = super().__call__(node)
        return value


@dataclass(frozen=True)
class _Patched(Evaluator):
    """Computes anew what stands above one part, which comes to another value; all else is known.

    Attributes:
        parts: what each part of an expression comes to.
        above: the parts that one part stands in, and `patch` it and its other value.
    """

    parts: Mapping[int, Value] = field(default_factory=dict)
    above: frozenset[int] = frozenset()
    patch: tuple[int, Value] | None = None

    def __call__(self, node: ast.expr) -> Value:
        if self.patch is not None and id(node) == self.patch[0]:
            return self.patch[1]
        if id(node) in self.parts and id(node) not in self.above:
            return self.parts[id(node)]
        return super().__call__(node)


@dataclass(frozen=True)
class _Rounding(Evaluator):
    """Rounds, or cuts off, every value on the way to so many decimals, the exponentials of softmax among them."""

    cut: Callable[[np.ndarray], np.ndarray] = np.round

    def __call__(self, node: ast.expr) -> Value:
        if isinstance(node, (ast.Constant, ast.Name, ast.List, ast.UnaryOp)):
            return super().__call__(node)
        rounded = _rounded_softmax(node, self, self.cut)
        return np.asarray(self.cut(floats(super().__call__(node)))) if rounded is None else rounded


@dataclass(frozen=True)
class _Lane:
    """An expression computed from one set of values, with what each of its parts comes to."""

    tree: ast.expr
    evaluate: Evaluator
    parts: Mapping[int, Value]
    above: Mapping[int, frozenset[int]]
    value: Value

    @classmethod
    def of(cls, tree: ast.expr, evaluate: Evaluator) -> "_Lane":
        recorder = _Recorder(evaluate.values, {}, evaluate.tick)
        value = recorder(tree)
        return cls(tree, evaluate, recorder.parts, _above(tree), value)

    def bent(self, part: ast.expr, value: Value) -> Value:
        """What the expression comes to where one part of it comes to `value`."""
        above = self.above[id(part)]
        return _Patched(self.evaluate.values, {}, self.evaluate.tick, 0, self.parts, above, (id(part), value))(
            self.tree
        )

    def edited(self, edit: Edited) -> Value:
        """What it comes to where a part is taken for another."""
        plain = _Patched(self.evaluate.values, {}, self.evaluate.tick, 0, self.parts)
        return self.bent(edit.old, plain(edit.new))

    @property
    def known(self) -> Known:
        shapes = {name: value.shape for name, value in self.evaluate.values.items()}
        return Known(shapes, {part: value.shape for part, value in self.parts.items()})


def _above(tree: ast.expr) -> dict[int, frozenset[int]]:
    """For each part of an expression those that it stands in."""
    found: dict[int, frozenset[int]] = {}
    waiting: list[tuple[ast.AST, frozenset[int]]] = [(tree, frozenset())]
    while waiting:
        node, over = waiting.pop()
        found[id(node)] = found.get(id(node), frozenset()) | over
        waiting += [(child, over | {id(node)}) for child in ast.iter_child_nodes(node)]
    return found


def _rounded_softmax(node: ast.expr, evaluate: Evaluator, cut: Callable[[np.ndarray], np.ndarray]) -> Value | None:
    """Softmax of rounded exponentials; None for other expressions."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "softmax" or len(node.args) != 1:
        return None
    axis = next((word.value for word in node.keywords if word.arg == "axis"), ast.Constant(-1))
    values = floats(evaluate(node.args[0]))
    along = 0 if ast.unparse(axis) in ("0", "-2", "rows", "queries") else -1
    with np.errstate(all="ignore"):
        raised = cut(np.exp(values))
        return raised / raised.sum(axis=along, keepdims=True)


# -- the search --------------------------------------------------------------------------------------------------------


class _Search:
    """Tries mistakes on one claim."""

    def __init__(self, written: Written, lanes: Sequence[_Lane]):
        self.written, self.lanes = written, lanes
        self.claimed = floats(written.value)
        self.left = _TRIALS
        agreed = [written.agrees(lane.value) for lane in lanes]
        self.wrong = [place for place, ones in enumerate(zip(*agreed, strict=True)) if {*ones} == {"wrong"}]
        self.reach = np.where(np.isnan(written.units), 0.5, written.units)

    def edited(self) -> Iterator[Cause]:
        """The expression edited, and all entries as that gives them."""
        for edit, value in self._edited():
            if (units := self._units(value)) is not None:
                yield Cause(edit.cause, str(edit), units)

    def partly(self) -> Iterator[Cause]:
        """The expression edited, where that explains all entries that are wrong, and the others are right."""
        if len(self.wrong) < 2:
            return
        for edit, value in self._edited():
            units = self._units(value, self.wrong)
            if units is not None:
                yield Cause(edit.cause, f"{edit}, for {len(self.wrong)} of the entries", units)

    def paired(self) -> Iterator[Cause]:
        """Two edits at once; the first is named."""
        if len(self.wrong) == 1 < self.claimed.size:  # what is read otherwise shows in more than one entry of many
            return
        for lane in self.lanes[:1]:
            for first in islice(edits(lane.tree, lane.known), _PAIRED):
                with contextlib.suppress(UnusableError):
                    between = _Lane.of(exchanged(lane.tree, first.old, first.new), lane.evaluate)
                    for second in islice(edits(between.tree, between.known), _PAIRED):
                        value = self._tried(lambda lane=between, edit=second: lane.edited(edit))
                        if value is not None and self._units(value) == 0:
                            yield Cause(first.cause, f"{first}, and then {second}")
                            return

    def _edited(self) -> Iterator[tuple[Edited, Value]]:
        for lane in self.lanes:
            for edit in edits(lane.tree, lane.known):
                value = self._tried(lambda lane=lane, edit=edit: lane.edited(edit))
                if value is not None:
                    yield edit, value

    def _tried(self, compute: Callable[[], Value]) -> Value | None:
        """What a trial comes to; None where it cannot be the cause, and once all trials are used up."""
        self.left -= 1
        if self.left >= 0:
            with contextlib.suppress(UnusableError):
                value = compute()
                if value.shape == self.claimed.shape and self._near(floats(value)):
                    return value
        return None

    def _near(self, value: np.ndarray) -> bool:
        """Whether a trial explains the first entry that is wrong: most do not, and need no closer look."""
        if not self.wrong:
            return True
        place = self.wrong[0]
        claimed, tried = float(self.claimed.flat[place]), float(value.flat[place])
        return claimed == tried or abs(claimed - tried) <= float(self.reach[place]) + _SAME * max(1.0, abs(tried))

    def _units(self, value: Value, places: Sequence[int] | None = None) -> int | None:
        """How many entries are off by one in the last place; None where more than that is."""
        agreed = self.written.agrees(value)
        agreed = agreed if places is None else [agreed[place] for place in places]
        return None if "wrong" in agreed else agreed.count("unit")

    # -- one value on the way bent -------------------------------------------------------------------------------------

    def slips(self) -> Iterator[Cause]:
        """The sign of an entry, a term of a dot product or of a sum, and the rest computed from it."""
        for lane in self.lanes:
            wrong = [place for place, one in enumerate(self.written.agrees(lane.value)) if one == "wrong"]
            for part in _distinct(lane):
                # A slip in the last value is where that is wrong, and there alone.
                places = None if part is not lane.tree else wrong if len(wrong) == 1 else []
                for cause, words, bent in _slips(part, lane.parts, places):
                    value = self._tried(lambda lane=lane, part=part, bent=bent: lane.bent(part, bent))
                    if value is not None and (units := self._units(value)) is not None:
                        yield Cause(cause, words, units)

    def rounded(self) -> Iterator[Cause]:
        """Digits dropped on the way, of one value or of all."""
        for lane in self.lanes:
            for decimals in _DECIMALS:
                for verb, cut in _cuts(decimals):
                    told = f"{verb} to {decimals} decimal{'s' * (decimals != 1)}"
                    for words, compute in _roughened(lane, cut):
                        value = self._tried(compute)
                        if value is not None and (units := self._units(value)) is not None:
                            yield Cause("rounded too early", f"{words} {told}", units)

    # -- the entries alone ---------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Cause]:
        """What the claimed numbers tell beside the right ones."""
        for lane in self.lanes:
            true, agreed = floats(lane.value), self.written.agrees(lane.value)
            wrong = [place for place, one in enumerate(agreed) if one == "wrong"]
            yield from self._exchanged(true, wrong)
            yield from self._rows(true, wrong)
            if len(wrong) == 1:
                yield from self._alone(true, wrong[0])
            turned = self._units(_like(lane.value, np.asarray(-true)))
            if turned is not None:
                yield Cause("sign", "all of it has the other sign", turned)

    def _exchanged(self, true: np.ndarray, wrong: Sequence[int]) -> Iterator[Cause]:
        if len(wrong) == 2:
            moved = true.ravel().copy()
            moved[wrong] = moved[wrong[::-1]]
            units = self._units(moved.reshape(true.shape))
            if units is not None:
                told = " and ".join(self._place(place) for place in wrong)
                yield Cause("entries exchanged", f"entries {told} stand in each other's place", units)

    def _rows(self, true: np.ndarray, wrong: Sequence[int]) -> Iterator[Cause]:
        if true.ndim != 2:
            return
        rows = sorted({place // true.shape[1] for place in wrong})
        if len(rows) == 2:
            moved = true.copy()
            moved[rows] = moved[rows[::-1]]
            units = self._units(moved)
            if units is not None:
                yield Cause(
                    "rows exchanged", f"rows {rows[0] + 1} and {rows[1] + 1} stand in each other's place", units
                )
        if len(rows) == 1:
            for other in {rows[0] - 1, rows[0] + 1} & set(range(len(true))):
                moved = true.copy()
                moved[rows[0]] = true[other]
                units = self._units(moved)
                if units is not None:
                    yield Cause("row repeated", f"row {rows[0] + 1} is row {other + 1} again", units)

    def _alone(self, true: np.ndarray, place: int) -> Iterator[Cause]:
        """One entry that is wrong: its sign, its digits, its point."""
        claimed, right, where = self.claimed.ravel()[place], true.ravel()[place], self._place(place)
        for name, number, words in (
            ("sign of an entry", -right, f"entry {where} has the other sign"),
            *(("decimal point", right * 10.0**step, f"the point of entry {where} is moved") for step in _POINTS),
        ):
            moved = true.ravel().copy()
            moved[place] = number
            units = self._units(moved.reshape(true.shape))
            if units is not None and claimed and right:
                yield Cause("sign" if name == "sign of an entry" and true.size == 1 else name, words, units)
        if _digits_swapped(self.written.leaves[place], self.written.units[place], right):
            yield Cause("digits swapped", f"two digits of entry {where} are exchanged")

    def _place(self, place: int) -> str:
        columns = self.claimed.shape[-1] if self.claimed.ndim else 1
        return f"({place // columns + 1}, {place % columns + 1})"


def _distinct(lane: _Lane) -> list[ast.expr]:
    """The parts of an expression that have a value that can be wrong, each once; numbers of a row are read with it."""
    found = {id(part): part for part in expressions(lane.tree) if not isinstance(part, ast.Constant)}
    return [part for place, part in found.items() if place in lane.parts]


def _cuts(decimals: int) -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    size = 10.0**decimals
    return [
        ("rounded", lambda values: np.round(values, decimals)),
        ("cut off", lambda values: np.trunc(values * size) / size),
    ]


def _roughened(lane: _Lane, cut: Callable[[np.ndarray], np.ndarray]) -> Iterator[tuple[str, Callable[[], Value]]]:
    """Values on the way with fewer digits, one at a time and all at once, and what was done in words."""
    for part in _distinct(lane):
        told = ast.unparse(part)
        if (share := _rounded_softmax(part, lane.evaluate, cut)) is not None:
            yield f"the exponentials of `{told}` were", lambda part=part, share=share: lane.bent(part, share)
        if part is not lane.tree:
            rough = np.asarray(cut(floats(lane.parts[id(part)])))
            yield f"`{told}` was", lambda part=part, rough=rough: lane.bent(part, rough)
    rounding = _Rounding(lane.evaluate.values, {}, lane.evaluate.tick, cut=cut)
    yield "every value on the way was", lambda: rounding(lane.tree)


def _slips(
    part: ast.expr, parts: Mapping[int, Value], places: Sequence[int] | None
) -> Iterator[tuple[str, str, np.ndarray]]:
    """A value with one slip in it, at one of `places` or anywhere, and what the slip was."""
    value = floats(parts[id(part)])
    told = ast.unparse(part)
    if value.size > _SIZE:
        return

    def moved(place: int, by: float) -> np.ndarray:
        other = value.ravel().copy()
        other[place] += by
        return other.reshape(value.shape)

    for place, terms in enumerate(_terms(part, parts)):
        where = f"entry {_where(value.shape, place)} of `{told}`" if value.ndim else f"`{told}`"
        for number, term in enumerate(terms.tolist() if places is None or place in places else (), start=1):
            if term:
                said = f"term {number} of its sum, {term:.4g}"
                yield "dropped term", f"{where} lacks {said}", moved(place, -term)
                yield "sign", f"{where} has the other sign in {said}", moved(place, -2 * term)
    if value.ndim and not isinstance(part, ast.List):
        for place, number in enumerate(value.ravel().tolist()):
            if number and (places is None or place in places):
                told_where = f"entry {_where(value.shape, place)} of `{told}` has the other sign"
                yield "sign of an entry", told_where, moved(place, -2 * number)


def _terms(part: ast.expr, parts: Mapping[int, Value]) -> Iterator[np.ndarray]:
    """What is summed for each entry of a matrix product, a dot product or a sum of all."""
    name = part.func.id if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) else ""
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.MatMult):
        operands = [part.left, part.right]
    elif isinstance(part, ast.Call) and name == "dot":
        operands = part.args
    elif isinstance(part, ast.Call) and name == "sum" and len(part.args) == 1 and not part.keywords:
        yield floats(parts[id(part.args[0])]).ravel()
        return
    else:
        return
    left, right = (floats(parts[id(operand)]) for operand in operands)
    rows = np.atleast_2d(left)
    columns = right[:, None] if right.ndim == 1 else right
    for row in rows:
        for column in columns.T:
            yield row * column


def _where(shape: tuple[int, ...], place: int) -> str:
    columns = shape[-1] if shape else 1
    return f"({place // columns + 1}, {place % columns + 1})"


def _like(value: Value, numbers: np.ndarray) -> Value:
    """The negative of `value`, exact where it is."""
    return (
        Exact(np.asarray(-value.numerators, dtype=object), value.denominator) if isinstance(value, Exact) else numbers
    )


def _digits_swapped(leaf: ast.expr, unit: float, right: float) -> bool:
    """Whether two neighbouring digits of what was written, exchanged, give the right number."""
    while isinstance(leaf, ast.UnaryOp):
        leaf = leaf.operand
    text = (leaf.kind or "") if isinstance(leaf, ast.Constant) else ""
    size = 0.0 if np.isnan(unit) else unit / 2
    for place, (one, other) in enumerate(pairwise(text)):
        if one.isdigit() and other.isdigit() and one != other:
            swapped = text[:place] + other + one + text[place + 2 :]
            if abs(float(swapped) - abs(right)) <= size + _SAME:
                return True
    return False
