"""Why a gradient is wrong: likely causes, each tried by recomputing.

Two kinds of trial. The claimed array is compared with the true one: a multiple of it, its transpose, the same entries
elsewhere, as much in all but not in each. Or parameters are changed so that one mistake would no longer matter, and it
is seen whether the error vanishes: a matrix that stands transposed somewhere in the chain does no harm once it is
symmetric, a factor left out none once it is one, a term left out none once what it runs through is zero, the
derivative of a nonlinearity none (or a known factor) once all that goes into it is small.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from qkv.check.repair import Wanted, mended
from qkv.check.slopes import Point

# What a cause can be called, and what the name stands for.
CAUSES = {
    "sign": "the sign is the other way round, of all of it or of a term",
    "factor": "a factor is left out or too many: 2, 1/2, 1/sqrt(d), or an array",
    "mean": "a sum stands for a mean, or a mean for a sum",
    "transposed": "a matrix stands transposed, or an axis for another",
    "moved": "entries go to wrong places: wrong rows, an axis reversed, shifted or permuted",
    "mask": "a mask is forgotten: what takes no part gets a gradient",
    "axis": "summed or averaged over an axis that is to be kept, or over another",
    "derivative": "the derivative of a nonlinearity is left out, or another's",
    "operand": "another array stands in a product",
    "term": "a term of the chain is left out",
    "double": "a term is too many, or is counted twice",
}

_MEASURED = 800  # entries of one array that are measured for comparison
_PROBES = 17
_SAME = 1e-4
_MULTIPLES = {4.0: "4", 2.0: "2", 0.5: "1/2", 0.25: "1/4"}


@dataclass(frozen=True)
class Evidence:
    """A point and the gradients claimed there."""

    point: Point
    claimed: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Cause:
    """A name out of `CAUSES`, in words what was found, and whether that shows it or it is what is left."""

    name: str
    words: str
    shown: bool = True


@dataclass(frozen=True)
class Pair:
    """Claimed and true gradients by one parameter at one point; the true ones are NaN where they were not measured."""

    name: str
    claimed: np.ndarray
    true: np.ndarray
    evidence: Evidence

    def holds(self, predicted: np.ndarray) -> bool:
        """Whether the true gradient is `predicted`."""
        known = ~np.isnan(self.true)
        return _same(predicted[known], self.true[known])

    @property
    def wrong(self) -> bool:
        return not self.holds(self.claimed)


def likely_causes(
    gradients: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray | None]],
    loss: Callable[[Mapping[str, np.ndarray]], Any],
    wrong: Mapping[str, Sequence[tuple[int, ...]]],
    evidence: Sequence[Evidence],
) -> dict[str, Cause]:
    """The likely cause by each parameter whose gradient is wrong.

    Args:
        gradients: what the code claims at given parameters.
        loss: its loss there.
        wrong: those parameters, with entries where they are wrong.
        evidence: the points where the code was judged.
    """
    if not wrong:
        return {}
    detective = _Detective(gradients, list(wrong), evidence)
    pairs = {name: detective.pairs(name, entries) for name, entries in wrong.items()}
    wanted = [
        Wanted(at.point.parameters, {**at.claimed, **{name: of[place].true for name, of in pairs.items()}})
        for place, at in enumerate(evidence)
    ]
    mend = mended(gradients, loss, wanted[::-1], list(wrong))
    if mend is not None:
        words = f"{Path(mend.path).name}, line {mend.line}: `{mend.stands}` would be right as `{mend.right}`"
        return dict.fromkeys(wrong, Cause(mend.cause, words))
    found = {name: detective.cause(of) for name, of in pairs.items()}
    # One mistake upstream is more likely than two: what could only be guessed follows what could be shown.
    shown = [(name, cause) for name, cause in found.items() if cause.shown]
    for name, cause in found.items():
        if not cause.shown and shown:
            other, same = shown[-1]
            found[name] = Cause(same.name, f"as by {other}: {same.words}")
    return found


class _Detective:
    """Looks for the causes of errors in code whose gradients can be had anywhere.

    Args:
        gradients: what the code claims at given parameters.
        wrong: the parameters whose gradients are wrong.
        evidence: the points where it was judged.
    """

    def __init__(
        self,
        gradients: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray | None]],
        wrong: Sequence[str],
        evidence: Sequence[Evidence],
    ):
        self.gradients, self.wrong, self.evidence = gradients, wrong, evidence

    def cause(self, pairs: Sequence[Pair]) -> Cause:
        """The likely cause of an error, from the gradients at all points."""
        pairs = [pair for pair in pairs if pair.wrong] or pairs[:1]
        whole = [
            trial(pairs) for trial in (_nothing, _another, _multiple, _elsewhere, _constant, _other_places, _masked)
        ]
        for found in whole:
            if found is not None:
                return found
        part, cut = _wrong_part(pairs)
        found = (
            next(filter(None, (trial(cut) for trial in (_nothing, _multiple, _elsewhere, _constant) if part)), None)
            or self._harmless(pairs[-1])
            or self._small(pairs[-1])
            or _factor_by_slice(pairs)
            or _in_simple_terms(pairs)
            or self._rest(pairs)
        )
        return replace(found, words=f"{part}: {found.words}" if part else found.words)

    def pairs(self, name: str, entries: Sequence[tuple[int, ...]]) -> list[Pair]:
        """Claimed and true gradients at all points by parameter `name`, which is wrong at `entries` at least."""
        return [self._pair(name, evidence, entries) for evidence in self.evidence]

    def _pair(self, name: str, evidence: Evidence, entries: Sequence[tuple[int, ...]]) -> Pair:
        claimed = np.asarray(evidence.claimed[name], np.float64)
        true = np.full(claimed.shape, np.nan)
        for index in _measured(claimed.shape, entries):
            true[index] = evidence.point.entry_beside_kinks(name, index).value
        return Pair(name, claimed, true, evidence)

    # -- trials that change parameters -------------------------------------------------------------------------------

    def _harmless(self, pair: Pair) -> Cause | None:
        """A change of parameters under which the claimed gradients are right, though not nothing."""
        at, probes = pair.evidence.point.parameters, _probes(pair)
        for change in _changes(at):
            if self._off(pair.name, probes, {**at, **change.moved}) > _SAME:
                continue
            if not change.fades:
                return Cause(change.cause, change.words)
            # Of a term that runs through it, half is left where it is half; of a derivative such as 1 - t^2, a quarter.
            large, small = (
                self._off(pair.name, probes, {**at, **{key: size * at[key] for key in change.moved}})
                for size in (0.02, 0.01)
            )
            if large < 3 * small:
                return Cause(change.cause, change.words)
        return None

    def _small(self, pair: Pair) -> Cause | None:
        """What is claimed over what is true where all parameters are small, and nonlinearities are straight lines."""
        at, probes = pair.evidence.point.parameters, _probes(pair)
        ratio = None
        for size in (0.03, 0.003):
            found = self._at(pair.name, probes, {key: size * value for key, value in at.items()})
            ratio = None if found is None else _ratio(*found, within=2 * size)
            if ratio is None:
                return None
        for multiple, told in _MULTIPLES.items():
            if ratio is not None and abs(ratio / multiple - 1) < 0.02:
                return Cause("derivative", f"where all parameters are small it is {told} times what it should be")
        if ratio is not None and abs(ratio - 1) < 0.02:
            return Cause("derivative", "it is right only where all parameters are small")
        return None

    def _off(self, name: str, probes: Sequence[tuple[int, ...]], parameters: Mapping[str, np.ndarray]) -> float:
        """The error with these parameters, relative to what is true; infinity where that says nothing."""
        found = self._at(name, probes, parameters)
        if found is None:
            return np.inf
        claimed, true = found
        return float(np.linalg.norm(claimed - true) / np.linalg.norm(true))

    def _at(
        self, name: str, probes: Sequence[tuple[int, ...]], parameters: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Claimed and true gradients at some entries, with these parameters; None where they say nothing."""
        old = self.evidence[0].point
        point = Point(old.loss, parameters, complex_step=old.complex_step, eps=old.eps)
        given = self.gradients(parameters)[name]
        if given is None or not np.isfinite(point.value):
            return None
        slopes = [point.entry_beside_kinks(name, index) for index in probes]
        true = np.array([slope.value for slope in slopes])
        claimed = np.array([given[index] for index in probes], dtype=np.float64)
        rounding = max(slope.error for slope in slopes) * np.sqrt(len(probes)) + 1e-14 * abs(point.value)
        telling = np.isfinite(true).all() and np.isfinite(claimed).all() and np.linalg.norm(true) > 1e3 * rounding
        return (claimed, true) if telling else None

    # -- what is left ------------------------------------------------------------------------------------------------

    def _rest(self, pairs: Sequence[Pair]) -> Cause:
        if self.wrong == [pairs[0].name] and all(_shares_a_side(pair) for pair in pairs):
            return Cause("operand", "all else is right, and so is one side of the product that it comes from")
        # Y = A + c B for N = A + B, with A and B unrelated: then (Y - N) . N / |Y - N|^2 is 1 / (c - 1).
        products = [
            (np.vdot(claimed - true, true), np.sum((claimed - true) ** 2)) for claimed, true in map(_known, pairs)
        ]
        if sum(product for product, _ in products) > 0.3 * sum(square for _, square in products):
            return Cause("double", "what is too much goes along with what is right", shown=False)
        return Cause("term", "what is missing is no multiple of what is there", shown=False)


# -- trials that compare arrays ----------------------------------------------------------------------------------------


def _nothing(pairs: Sequence[Pair]) -> Cause | None:
    if all(not pair.claimed.any() for pair in pairs):
        return Cause("term", "nothing arrives")
    return None


def _another(pairs: Sequence[Pair]) -> Cause | None:
    """The gradient by another parameter."""
    for name, claimed in pairs[0].evidence.claimed.items():
        if (
            name != pairs[0].name
            and all(
                _same(pair.claimed.ravel(), pair.evidence.claimed[name].ravel())
                for pair in pairs
                if claimed.size == pair.claimed.size
            )
            and claimed.size == pairs[0].claimed.size
        ):
            return Cause("operand", f"it is the gradient by {name}")
    return None


def _multiple(pairs: Sequence[Pair]) -> Cause | None:
    """One factor throughout."""
    ratios = [_ratio(*_known(pair), within=_SAME) for pair in pairs]
    if any(ratio is None or ratio == 0 for ratio in ratios):
        return None
    first = float(ratios[0] or 0)
    if any(abs(float(ratio or 0) / first - 1) > 1e-3 for ratio in ratios):
        if len(_known(pairs[0])[0]) < 2:
            return None
        return Cause("factor", f"all of it is {_plain(first)} times what it should be, and other times elsewhere")
    if abs(first + 1) < 1e-3:
        return Cause("sign", "all of it has the other sign")
    words = f"all of it is {_plain(first)} times what it should be"
    size = max(abs(first), 1 / abs(first))
    if first > 0 and size > 2.5 and abs(size - round(size)) < 1e-3 * size:
        count = round(size)
        kind = "a sum for a mean" if first > 1 else "a mean for a sum"
        return Cause("mean", f"{words}: {kind} over {count}, or over part of what it runs over")
    return Cause("factor", words)


def _elsewhere(pairs: Sequence[Pair]) -> Cause | None:
    """The same entries in other places."""
    for words, kind, moved in _moves(pairs[0].claimed):
        if all(pair.holds(moved(pair.claimed)) for pair in pairs):
            return Cause(kind, words)
    return None


def _moves(like: np.ndarray) -> Iterator[tuple[str, str, Callable[[np.ndarray], np.ndarray]]]:
    for first, second in combinations(range(like.ndim), 2):
        if like.shape[first] == like.shape[second]:
            yield (
                f"it is right with axes {first} and {second} swapped",
                "transposed",
                lambda x, a=first, b=second: x.swapaxes(a, b),
            )
    if like.ndim > 1:
        yield (
            "its entries are in the order of the transpose",
            "transposed",
            lambda x: x.reshape(x.shape[::-1]).T,
        )
    for count in range(1, like.ndim + 1):
        for axes in combinations(range(like.ndim), count):
            told = " and ".join(map(str, axes))
            yield f"it is right when reversed along axis {told}", "moved", lambda x, a=axes: np.flip(x, a)
    for axis, size in enumerate(like.shape):
        for by in (1, -1, *range(2, size - 1)) if size > 2 else ():
            yield (
                f"it is right when shifted by {by} along axis {axis}",
                "moved",
                lambda x, a=axis, b=by: np.roll(x, b, a),
            )


def _other_places(pairs: Sequence[Pair]) -> Cause | None:
    """Slices in another order, or as much in all as there should be, in other slices."""
    for axis in range(pairs[0].claimed.ndim):
        if pairs[0].claimed.ndim > 1 and all(_permuted(pair, axis) for pair in pairs):
            return Cause("moved", f"the slices along axis {axis} are right, but in another order")
    for axis in range(pairs[0].claimed.ndim):
        if all(_conserved(pair, axis) for pair in pairs):
            wrong = [k for k, part in enumerate(_cuts(pairs[0], axis)) if part.wrong]
            none = [k for k in wrong if not pairs[0].claimed.take(k, axis).any()]
            words = f"what axis {axis} gets in all is right, but {ranges(wrong)} of it get wrong shares"
            return Cause("moved", f"{words}, {ranges(none)} nothing" if none else words)
    return None


def _masked(pairs: Sequence[Pair]) -> Cause | None:
    """Entries where nothing belongs, and the others right (or a multiple)."""
    for pair in pairs:
        claimed, true = _known(pair)
        none = np.abs(true) <= 1e-9 * np.abs(true).max(initial=0)
        if not none.any() or not (np.abs(claimed[none]) > _SAME * np.abs(claimed).max()).any():
            return None
        if none.all():
            return Cause("mask", "nothing belongs there at all")
    return Cause("mask", "it is not zero where it should be")


def _constant(pairs: Sequence[Pair]) -> Cause | None:
    """Claimed gradients that are the same all along an axis, and true ones that are neither that nor nothing."""
    if any(not _known(pair)[1].any() for pair in pairs):
        return None
    for axis, size in enumerate(pairs[0].claimed.shape):
        if size > 1 and all(_flat(pair, pair.claimed, axis) and not _flat(pair, pair.true, axis) for pair in pairs):
            return Cause("axis", f"it is the same all along axis {axis}, as if summed or averaged over it")
    return None


def _factor_by_slice(pairs: Sequence[Pair]) -> Cause | None:
    """A factor for each slice along an axis."""
    for axis, size in enumerate(pairs[0].claimed.shape):
        if pairs[0].claimed.size == size:
            continue
        if all(all(_ratio(*_known(cut), within=_SAME) is not None for cut in _cuts(pair, axis)) for pair in pairs):
            return Cause("factor", f"it is right but for a factor that goes along axis {axis}")
    return None


def _in_simple_terms(pairs: Sequence[Pair]) -> Cause | None:
    """An error that is the same along an axis, or made of that and the parameter itself."""
    for axis, size in enumerate(pairs[0].claimed.shape):
        if size > 2 and all(_flat(pair, pair.claimed - pair.true, axis) for pair in pairs):
            return Cause("term", f"what is missing is the same all along axis {axis}: a sum or a mean over it")
    for axis, size in enumerate(pairs[0].claimed.shape):
        if size > 3 and all(_made_of_parameter(pair, axis) for pair in pairs):
            return Cause(
                "term", f"what is missing is the parameter itself but for a factor and a constant on axis {axis}"
            )
    return None


def _wrong_part(pairs: Sequence[Pair]) -> tuple[str, list[Pair]]:
    """The slices where all errors are, in words, where there are others; and the gradients there."""
    told, cut = [], list(pairs)
    for axis in range(pairs[0].claimed.ndim):
        known = [k for k, part in enumerate(_cuts(cut[0], axis)) if not np.isnan(part.true).all()]
        wrong = sorted({k for pair in cut for k, part in enumerate(_cuts(pair, axis)) if part.wrong})
        if 0 < len(wrong) < len(known):
            told.append(f"{ranges(wrong)} of axis {axis}")
            cut = [
                Pair(pair.name, pair.claimed.take(wrong, axis), pair.true.take(wrong, axis), pair.evidence)
                for pair in cut
            ]
    return f"wrong only at {' and '.join(told)}" if told else "", cut


# -- changes under which a mistake would do no harm --------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """Parameters under which one mistake would not matter, and what it then is.

    Attributes:
        fades: whether other mistakes do no harm there either, and only how the error fades tells them apart.
    """

    cause: str
    words: str
    moved: Mapping[str, np.ndarray]
    fades: bool = False


def _changes(at: Mapping[str, np.ndarray]) -> Iterator[Change]:
    """The more particular first."""
    for name, value in at.items():
        for first, second in combinations(range(value.ndim), 2):
            if value.shape[first] == value.shape[second] > 1:
                even = (value + value.swapaxes(first, second)) / 2
                yield Change("transposed", f"it is right once {name} is symmetric: {name} is transposed", {name: even})
    for one, other in combinations(at, 2):
        if at[one].shape == at[other].shape and at[one].size > 1:
            words = f"it is right once {one} and {other} are the same: one is taken for the other"
            yield Change("operand", words, {other: at[one]})
    for name, value in at.items():
        words = f"it is right once all of {name} is the same: entries of {name} come from wrong places"
        yield Change("moved", words, {name: np.full_like(value, 0.7)})
        words = f"it is right once {name} is one: as a factor it is left out or too many"
        yield Change("factor", words, {name: np.ones_like(value)})
    for name, value in at.items():
        for axis, size in enumerate(value.shape):
            if size > 2:
                even = (value + np.flip(value, axis)) / 2
                words = f"it is right once {name} is the same from both ends of axis {axis}: it is reversed"
                yield Change("moved", words, {name: even})
    for name, value in at.items():
        words = f"it is right once {name} is zero: a term that runs through it is left out, or counted otherwise"
        yield Change("term", words, {name: np.zeros_like(value)}, fades=True)


# -- small things ------------------------------------------------------------------------------------------------------


def _measured(shape: tuple[int, ...], entries: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """All indices of an array, or of a large one a block of whole slices in which the wrong entries are."""
    if int(np.prod(shape)) <= _MEASURED:
        yield from np.ndindex(*shape)
        return
    generator = np.random.default_rng(0)
    keep = [list(range(size)) for size in shape]
    while int(np.prod([len(kept) for kept in keep])) > _MEASURED:
        axis = max(range(len(shape)), key=lambda axis: len(keep[axis]))
        wanted = list(dict.fromkeys(index[axis] for index in entries))
        others = [place for place in generator.permutation(shape[axis]).tolist() if place not in set(wanted)]
        keep[axis] = sorted([*wanted, *others][: max(len(keep[axis]) * 3 // 4, 2)])
    for place in np.ndindex(*(len(kept) for kept in keep)):
        yield tuple(kept[i] for kept, i in zip(keep, place, strict=True))


def _probes(pair: Pair) -> list[tuple[int, ...]]:
    """Some of the entries that are wrong, spread over the array."""
    size = np.maximum(np.abs(pair.claimed), np.abs(pair.true))
    wrong = np.argwhere(np.abs(pair.claimed - pair.true) > _SAME * size)  # not where it was not measured
    chosen = np.unique(np.linspace(0, len(wrong) - 1, _PROBES).round().astype(int))
    return [tuple(int(i) for i in wrong[place]) for place in chosen]


def _known(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    known = ~np.isnan(pair.true)
    return pair.claimed[known], pair.true[known]


def _same(one: np.ndarray, other: np.ndarray, within: float = _SAME) -> bool:
    size = float(np.linalg.norm(other))
    return bool(np.linalg.norm(one - other) <= within * size if size else not one.any())


def _ratio(claimed: np.ndarray, true: np.ndarray, *, within: float) -> float | None:
    """The factor by which all of `claimed` differs from `true`, where there is one."""
    square = float(np.vdot(true, true))
    if square == 0:
        return None
    ratio = float(np.vdot(claimed, true)) / square
    return ratio if np.linalg.norm(claimed - ratio * true) <= within * max(np.linalg.norm(claimed), 1e-300) else None


def _permuted(pair: Pair, axis: int) -> bool:
    """Whether each slice of the true gradient is one of the claimed one's."""
    if np.isnan(pair.true).any():
        return False
    claimed = np.moveaxis(pair.claimed, axis, 0).reshape(pair.claimed.shape[axis], -1)
    true = np.moveaxis(pair.true, axis, 0).reshape(claimed.shape)
    size = np.linalg.norm(true) / np.sqrt(len(true)) or 1.0
    taken: set[int] = set()
    for row in true:
        apart = np.linalg.norm(claimed - row, axis=1)
        near = [int(place) for place in np.flatnonzero(apart <= _SAME * size) if int(place) not in taken]
        if not near:
            return False
        taken.add(near[0])
    return True


def _conserved(pair: Pair, axis: int) -> bool:
    """Whether sums along an axis are right, and not just nothing."""
    shape = pair.claimed.shape
    claimed = np.asarray(pair.claimed.sum(axis))
    if np.isnan(pair.true).any():
        if claimed.size > _PROBES or pair.claimed.shape != pair.evidence.point.parameters[pair.name].shape:
            return False
        true = np.empty(claimed.shape)
        for place in np.ndindex(*claimed.shape):
            along = np.zeros(shape)
            along[(*place[:axis], slice(None), *place[axis:])] = 1.0
            true[place] = pair.evidence.point.direction(pair.name, along).value
    else:
        true = np.asarray(pair.true.sum(axis))
    least = 1e-2 * np.linalg.norm(np.abs(np.nan_to_num(pair.true)).sum(axis))
    return bool(_same(claimed, true) and float(np.linalg.norm(true)) > least)


def _cuts(pair: Pair, axis: int) -> list[Pair]:
    return [
        Pair(pair.name, pair.claimed.take([k], axis), pair.true.take([k], axis), pair.evidence)
        for k in range(pair.claimed.shape[axis])
    ]


def _block(pair: Pair, array: np.ndarray) -> np.ndarray:
    """The part of an array where the true gradient was measured: whole slices."""
    known = ~np.isnan(pair.true)
    axes = range(known.ndim)
    kept = [np.flatnonzero(known.any(tuple(other for other in axes if other != axis))) for axis in axes]
    return array[np.ix_(*kept)]


def _flat(pair: Pair, array: np.ndarray, axis: int) -> bool:
    """Whether an array is the same all along an axis, and not nothing."""
    block = _block(pair, array)
    size = float(np.abs(block).max(initial=0))
    return size > 0 and float(np.ptp(block, axis=axis).max(initial=0)) <= _SAME * size


def _made_of_parameter(pair: Pair, axis: int) -> bool:
    """Whether the error, on each line along an axis, is a multiple of the parameter and a constant."""
    value = pair.evidence.point.parameters[pair.name]
    if value.shape != pair.claimed.shape:
        return False
    error, lines = (
        np.moveaxis(_block(pair, array), axis, -1).reshape(-1, _block(pair, array).shape[axis])
        for array in (pair.claimed - pair.true, np.asarray(value, np.float64))
    )
    left = 0.0
    for off, line in zip(error, lines, strict=True):
        terms = np.stack([line, np.ones_like(line)], axis=1)
        left += float(np.sum((off - terms @ np.linalg.lstsq(terms, off)[0]) ** 2))
    return left**0.5 <= _SAME * float(np.linalg.norm(error))


def _shares_a_side(pair: Pair) -> bool:
    """Whether a matrix of low rank has the true one's rows or columns to be made of, but for the other side."""
    claimed, true = (
        _block(pair, array).reshape(_block(pair, array).shape[0], -1) for array in (pair.claimed, pair.true)
    )
    if min(true.shape) < 2:
        return False
    size = float(np.linalg.norm(true))
    rank, own = (int(np.linalg.matrix_rank(x, tol=_SAME * size)) for x in (true, claimed - true))
    if own < rank:
        return False
    columns, rows = (
        int(np.linalg.matrix_rank(np.concatenate([true, claimed], axis), tol=_SAME * size)) for axis in (1, 0)
    )
    return bool(rank in (columns, rows))


def ranges(places: Iterable[int]) -> str:
    """Numbers in words.

    >>> ranges([0, 3, 4, 5, 9])
    '0, 3 to 5, 9'
    """
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    told = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return ", ".join(told[:6]) + (" ..." if len(told) > 6 else "")


def _plain(number: float) -> str:
    """A factor as people write it.

    >>> _plain(0.5), _plain(7.0), _plain(1 / 3), _plain(0.7071067811865476)
    ('1/2', '7', '1/3', '0.707107')
    """
    for value, told in ((number, "{}"), (1 / number, "1/{}")):
        if abs(value - round(value)) < 1e-3 * abs(value) and round(value):
            return told.format(round(value)) if value > 0 else "-" + told.format(-round(value))
    return f"{number:.6g}"
