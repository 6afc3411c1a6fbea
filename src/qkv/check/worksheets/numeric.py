"""Claims about numbers: judged from true values and from the values claimed above, at the precision written."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from qkv.check.worksheets.arithmetic import shape_text
from qkv.check.worksheets.evaluate import Evaluator
from qkv.check.worksheets.numeric_causes import likely_cause
from qkv.check.worksheets.syntax import Claim
from qkv.check.worksheets.values import Exact, UnusableError, Value, floats
from qkv.check.worksheets.verdict import Known, Mark, Scope, Verdict
from qkv.check.worksheets.written import Agreement, Written, is_written
from qkv.types import Entry
from qkv.types import Verdict as Kind

_SHAKEN, _MARGIN = 16, 1.25  # how often rounded values are shaken, and what is given beyond what that showed
_TOLD, _WRITTEN = 4, 8  # entries that a note names, terms of a dot product that it writes out
_SAME = 1e-9


def judge(claim: Claim, scope: Scope) -> Verdict | None:
    """Judges a claim all of whose names stand for numbers; None for others."""
    fresh = bool(claim.defines) and claim.defines not in scope.numbers
    links = claim.links[fresh:]
    if claim.over or claim.condition or not all(scope.numeric(link) for link in links):
        return None
    if len(claim.links) == 1 or any(isinstance(link, (ast.Compare, ast.BoolOp)) for link in links):
        return None
    formulas = [link for link in links if not is_written(link)]
    # `claim y = A @ V = [..]` of a known y: what is written down is judged by the formula, and so is y.
    source = next((link for link in formulas if link is not claim.links[0]), formulas[0] if formulas else None)
    if source is None and len(links) > 1:  # 1/3 = 0.333: numbers alone
        source = links[0]
    if source is None:
        raise UnusableError(
            f"nothing says what {claim.defines or 'it'} should be", hint=f"claim {claim.name} = EXPRESSION = VALUE"
        )
    lanes = _Lanes(source, scope)
    others = [link for link in links if link is not source]
    known = Known(lanes.true, lanes.true, lanes.true, claim)
    try:
        verdict = Verdict("correct", notes=() if others else ["Nothing is claimed of its value."])
        for link in others:
            verdict, known = _compared(claim, link, lanes, scope)
            if verdict.kind != "correct":
                break
    finally:  # what cannot be used is taken as it should be, so that the rest can be judged
        if claim.defines:
            scope.forget(claim.defines)
            scope.numbers[claim.defines] = known
    return verdict


class _Lanes:
    """What an expression comes to from true values, from those claimed above, from what followed from mistakes."""

    def __init__(self, source: ast.expr, scope: Scope):
        self.source, self.scope = source, scope
        self.used = scope.used(source)
        self.mistaken = sorted(name for name, known in self.used.items() if known.kind in ("wrong", "carried"))
        self.rounded = any(known.rough is not None for known in self.used.values())
        self.true = scope.evaluator()(source)
        self.claimed = self._otherwise(scope.evaluator("claimed")) if self._differ("claimed") else self.true
        self.followed = self._otherwise(scope.evaluator("followed")) if self.mistaken else self.true

    def __iter__(self) -> Iterator[Value]:
        yield self.claimed
        yield self.followed

    def room(self) -> np.ndarray:
        """How far the value may lie from what follows from the values claimed above, since those were rounded."""
        rough = {name: known.rough for name, known in self.used.items() if known.rough is not None}
        plain, random = self.scope.evaluator("claimed"), np.random.default_rng(self.scope.seed)
        room = np.zeros(self.true.shape)
        for _ in range(_SHAKEN if rough else 0):
            shaken = {
                name: np.asarray(floats(self.used[name].claimed) + random.choice([-1, 1], size.shape) * size)
                for name, size in rough.items()
            }
            value = self._otherwise(replace(plain, values={**plain.values, **shaken}))
            room = np.fmax(room, np.abs(floats(value) - floats(self.claimed)))
        return np.asarray(_MARGIN * room)

    def _differ(self, lane: str) -> bool:
        return any(getattr(known, lane) is not known.true for known in self.used.values())

    def _otherwise(self, evaluate: Evaluator) -> Value:
        """What a mistake above may make impossible, such as a division by zero, is not followed."""
        try:
            value = evaluate(self.source)
        except UnusableError:
            return self.true
        return value if value.shape == self.true.shape else self.true


def _compared(claim: Claim, link: ast.expr, lanes: _Lanes, scope: Scope) -> tuple[Verdict, Known]:
    """The verdict on one link beside the one that says what is to be computed, and what its name then stands for."""
    written = Written.of(link, scope.evaluator()) if is_written(link) else None
    if written is None:
        return _same(claim, link, lanes, scope)
    value, notes = _shaped(written.value, lanes.true)
    written = Written(value, written.leaves, written.units)
    true = written.agrees(lanes.true)
    best = list(true)
    if "wrong" in best:
        for lane in lanes:
            best = _better(best, written.agrees(lane))
    if "wrong" in best and lanes.rounded:
        best = _better(best, written.agrees(lanes.claimed, lanes.room()))
    kind: Kind = "correct"
    if "wrong" in best:
        kind = "wrong"
    elif "wrong" in true:
        kind = "carried" if lanes.mistaken else "rounding"
    marks = [
        Mark(leaf.col_offset, leaf.end_col_offset or leaf.col_offset, _mark(ours, any_lane, kind))
        for leaf, ours, any_lane in zip(written.leaves, true, best, strict=True)
    ]
    entries = _entries(value, lanes.true, best) if kind == "wrong" else ()
    follows = "wrong" not in [agreement for lane in lanes for agreement in written.agrees(lane)]
    if kind == "correct" and lanes.mistaken and not follows:
        notes.append(
            f"It is right, though it does not follow from {_listed(lanes.mistaken)} above: that slip stopped there."
        )
    if "unit" in best:
        notes.append(f"Off by one unit in the last place, which is let pass: {_places(value.shape, best, 'unit')}.")
    if kind == "carried":
        notes.append(f"It is right for {_listed(lanes.mistaken)} as claimed above.")
    if kind == "rounding":
        notes.append("It is off only because values above were rounded.")
    followed = lanes.true if kind == "correct" else value if kind == "wrong" else lanes.followed
    cause = likely_cause(lanes.source, written, scope) if kind == "wrong" else None
    named = (cause.name, cause.words) if cause else ("", "")
    if kind == "wrong" and cause is None and len(entries) == 1:
        notes += _written_out(lanes.source, entries[0].index, scope)
    return Verdict(kind, entries, *named, notes=notes, marks=marks), Known(
        lanes.true, value, followed, claim, kind, written.rough
    )


def _written_out(source: ast.expr, index: tuple[int, ...], scope: Scope) -> list[str]:
    """The dot product of one entry of a matrix product, with its numbers."""
    if not isinstance(source, ast.BinOp) or not isinstance(source.op, ast.MatMult):
        return []
    left, right = (floats(scope.evaluator()(side)) for side in (source.left, source.right))
    row = left[index[0]] if left.ndim == 2 else left
    column = right[:, index[1]] if right.ndim == 2 else right
    if len(row) > _WRITTEN:
        return []
    terms = [f"{_bracketed(a)} * {_bracketed(b)}" for a, b in zip(row.tolist(), column.tolist(), strict=True)]
    return [f"Entry ({index[0] + 1}, {index[1] + 1}) is {' + '.join(terms)} = {float(row @ column):.6g}."]


def _bracketed(number: float) -> str:
    return f"({number:.6g})" if number < 0 else f"{number:.6g}"


def _same(claim: Claim, link: ast.expr, lanes: _Lanes, scope: Scope) -> tuple[Verdict, Known]:
    """The verdict on two expressions that are claimed to be equal."""
    other = scope.evaluator()(link)
    value, _ = _shaped(other, lanes.true)
    ours, theirs = floats(value), floats(lanes.true)
    with np.errstate(invalid="ignore"):
        off = ~((ours == theirs) | (np.abs(ours - theirs) <= _SAME * np.maximum(1.0, np.abs(theirs))))
    agreed: list[Agreement] = ["wrong" if one else "right" for one in off.ravel().tolist()]
    kind: Kind = "wrong" if off.any() else "correct"
    notes = [f"{claim.cut(link)} is not {claim.cut(lanes.source)}."] if off.any() else []
    known = Known(lanes.true, lanes.claimed, lanes.followed, claim, kind)
    return Verdict(kind, _entries(value, lanes.true, agreed), notes=notes), known


def _entries(value: Value, true: Value, agreed: Sequence[Agreement]) -> list[Entry]:
    """Those entries that are wrong, as claimed and as they are."""
    claimed, truth = floats(value).ravel().tolist(), floats(true).ravel().tolist()
    return [
        Entry(place, ours, theirs, _relative(ours, theirs))
        for place, ours, theirs, one in zip(_indices(true.shape), claimed, truth, agreed, strict=True)
        if one == "wrong"
    ]


def _relative(claimed: float, true: float) -> float:
    largest = max(abs(claimed), abs(true))
    return abs(claimed - true) / largest if np.isfinite(largest) and largest else 1.0


def _indices(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Row and column of each entry; a flat vector is one row."""
    rows, columns = (1,) * (2 - len(shape)) + shape
    return [(row, column) for row in range(rows) for column in range(columns)]


def _places(shape: tuple[int, ...], agreed: Sequence[Agreement], which: Agreement) -> str:
    """Entries by row and column as people count them, those of one kind."""
    found = [place for place, one in zip(_indices(shape), agreed, strict=True) if one == which]
    told = ", ".join(f"({row + 1}, {column + 1})" for row, column in found[:_TOLD])
    return f"{'entries' if len(found) > 1 else 'entry'} {told}{' and others' if len(found) > _TOLD else ''}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _better(ones: Sequence[Agreement], others: Sequence[Agreement]) -> list[Agreement]:
    order = ("right", "unit", "wrong")
    return [min(pair, key=order.index) for pair in zip(ones, others, strict=True)]


def _mark(true: Agreement, best: Agreement, kind: Kind) -> Kind:
    if true != "wrong":
        return "correct"
    if best == "wrong":
        return "wrong"
    return "rounding" if kind == "rounding" else "carried"


def _shaped(value: Value, true: Value) -> tuple[Value, list[str]]:
    """The claimed value in the shape of the true one; a flat vector may be written as a row or a column."""
    if value.shape == true.shape:
        return value, []
    flat = {len(shape) for shape in (value.shape, true.shape)} == {1, 2} and 1 in (value.shape + true.shape)
    if flat and np.prod(value.shape) == np.prod(true.shape):
        note = f"It is {shape_text(true.shape)}, written as {shape_text(value.shape)}."
        if isinstance(value, Exact):
            return Exact(value.numerators.reshape(true.shape), value.denominator), [note]
        return value.reshape(true.shape), [note]
    hint = "its transpose has that shape" if value.shape == true.shape[::-1] != true.shape else ""
    raise UnusableError(
        "the claim has another shape than its expression",
        expected=shape_text(true.shape),
        got=shape_text(value.shape),
        hint=hint,
    )
