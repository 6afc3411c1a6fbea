"""Slopes of a loss, measured: differences with a step chosen by their own error, or the complex step.

A difference over a step is wrong by what it cuts off, which falls with the step, and by the loss's rounding divided by
the step, which grows as it falls. Differences over falling steps, extrapolated to none (Ridders 1982; Richardson
1911), say where both are least and how much is left. Where the loss is analytic and takes complex numbers, the
imaginary part at a tiny imaginary step has neither error (Squire and Trapp 1998).
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

Parameters = Mapping[str, np.ndarray]
_LEVELS, _SHRINK = 11, 4.0
_STEP = 2.0**-9
_IMAGINARY = 1e-30
_SINGLE = 1e-10  # rounding above it is that of float32
_NARROW = 0.02
_DISAGREE = 2e-5  # what two steps may disagree by where a loss is smooth: the square of their size, and some


@dataclass(frozen=True)
class Slope:
    """A derivative, how far it may be off, and whether the loss has a kink there instead: two slopes, none.

    Attributes:
        apart: how far differences over two steps disagree, where no more than these were taken.
    """

    value: float
    error: float
    kink: bool = False
    apart: float = 0.0


class Point:
    """A point in the space of parameters, and slopes of the loss there.

    Args:
        loss: a number for parameters of the shapes given; it may take complex ones.
        parameters: where to stand.
        complex_step: whether `loss` is analytic in complex parameters; `takes_complex` finds out.
        eps: what the loss rounds to, relative to its numbers: steps stay far above it.
    """

    def __init__(
        self,
        loss: Callable[[Parameters], float | complex],
        parameters: Parameters,
        *,
        complex_step: bool = False,
        eps: float = float(np.finfo(np.float64).eps),
    ):
        self.loss, self.parameters, self.complex_step, self.eps = loss, parameters, complex_step, eps
        self.value = float(np.real(loss(parameters)))
        self.scales = {name: _scale(value) for name, value in parameters.items()}
        self.noise = self._noise()

    def entry(self, name: str, index: tuple[int, ...]) -> Slope:
        """The slope by one entry: cheap, and right wherever the loss is smooth on the scale of the parameter."""
        if self.complex_step:
            moved = self.parameters[name].astype(np.complex128)
            moved[index] += 1j * _IMAGINARY
            return Slope(float(np.imag(self.loss({**self.parameters, name: moved}))) / _IMAGINARY, 0.0)
        along, scale = self._along_entry(name, index)
        step = max(_STEP, 4 * self.eps ** (1 / 3)) * scale
        wide, narrow = ((along(h) - along(-h)) / (2 * h) for h in (step, step / 2))
        value = (4 * narrow - wide) / 3
        return Slope(value, 3 * self.noise / step, apart=abs(wide - narrow))

    def entry_beside_kinks(self, name: str, index: tuple[int, ...]) -> Slope:
        """The slope by one entry with its step chosen there where two steps disagree: a kink between them and it."""
        slope = self.entry(name, index)
        if slope.apart <= max(_DISAGREE * abs(slope.value), 2 * slope.error):
            return slope
        careful = self.entry_carefully(name, index)
        return slope if careful.kink else careful

    def entry_carefully(self, name: str, index: tuple[int, ...]) -> Slope:
        """The slope by one entry with its step chosen there, or the finding that it has none."""
        return self._carefully(*self._along_entry(name, index))

    def direction(self, name: str, direction: Float[np.ndarray, "..."]) -> Slope:
        """The slope of the loss along `direction`, a move of one parameter in units of its scale."""
        start, scale = self.parameters[name], self.scales[name]

        def along(t: float) -> float:
            return self._at({name: start + (t * scale) * direction})

        slope = self._carefully(along, 1.0)
        return Slope(slope.value / scale, slope.error / scale, slope.kink)

    def _along_entry(self, name: str, index: tuple[int, ...]) -> tuple[Callable[[float], float], float]:
        start = self.parameters[name]

        def along(t: float) -> float:
            moved = start.copy()
            moved[index] += t
            return self._at({name: moved})

        return along, max(self.scales[name], abs(float(start[index])))

    def _at(self, moved: Parameters) -> float:
        return float(np.real(self.loss({**self.parameters, **moved})))

    def _carefully(self, along: Callable[[float], float], scale: float) -> Slope:
        """Ridders' tableau: central differences over falling steps, extrapolated; the entry of least error."""
        steps = [0.5 * scale * _SHRINK**-level for level in range(_LEVELS)]
        steps = [step for step in steps if step > 8 * self.eps * scale]
        tableau: list[list[float]] = []
        gaps = []
        best = Slope(0.0, math.inf)
        for level, step in enumerate(steps):
            ahead, behind = along(step), along(-step)
            rounding = self.noise / step
            row = [(ahead - behind) / (2 * step)]
            for order in range(level):
                power = _SHRINK ** (2 * (order + 1))
                row.append((power * row[order] - tableau[-1][order]) / (power - 1))
                off = max(abs(row[-1] - row[-2]), abs(row[-1] - tableau[-1][order])) + 2 * rounding
                off += abs(row[-1]) * self.eps * scale / step  # the step itself is rounded
                if off < best.error and math.isfinite(row[-1]):
                    best = Slope(row[-1], off)
            tableau.append(row)
            gaps.append((abs(ahead - 2 * self.value + behind) / step, rounding, abs(row[0])))
        error = best.error
        if self.eps > _SINGLE:
            # Steps are wide here, and where some cross a kink extrapolation from them looks good all the same: what
            # narrow steps tell must agree with it as far as rounding lets them.
            for step, row, (_, rounding, _) in zip(steps, tableau, gaps, strict=True):
                if step < _NARROW * scale:
                    error = max(error, abs(row[0] - best.value) - 4 * rounding)
        return Slope(best.value, error, _is_kink(gaps))

    def _noise(self) -> float:
        """How much of the loss is rounding: high differences of it along a line, where what is smooth vanishes.

        The estimate of Moré and Wild (2011, "Estimating computational noise"), the middle one of three lines.
        """
        generator = np.random.default_rng(0)
        found = []
        for _ in range(3):
            directions = {name: generator.standard_normal(value.shape) for name, value in self.parameters.items()}
            line = np.array([
                self._at({
                    name: value + (1e-6 * k * self.scales[name]) * directions[name]
                    for name, value in self.parameters.items()
                })
                for k in range(7)
            ])  # fmt: skip
            orders = []
            for order in range(1, 6):
                line = np.diff(line)
                if order >= 4:
                    gamma = math.factorial(order) ** 2 / math.factorial(2 * order)
                    orders.append(math.sqrt(gamma * float(np.mean(line**2))))
            found.append(max(orders))
        least = 0.5 * self.eps * abs(self.value)
        finite = [value for value in found if math.isfinite(value)]
        return max(float(np.median(finite)), least) if finite else least


def takes_complex(point: Point, probes: int = 3) -> bool:
    """Whether the imaginary part at a complex step is the slope that differences find, at a few entries of each."""
    imaginary = Point.__new__(Point)
    imaginary.__dict__ = point.__dict__ | {"complex_step": True}
    generator = np.random.default_rng(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where it drops the imaginary part
            for name, value in point.parameters.items():
                for place in generator.integers(0, value.size, probes if value.size else 0):
                    index = tuple(int(i) for i in np.unravel_index(place, value.shape))
                    exact, measured = imaginary.entry(name, index), point.entry(name, index)
                    if not abs(exact.value - measured.value) <= 1e-5 * abs(exact.value) + 10 * measured.error:
                        return False
    except Exception:  # whatever anyone's code says to complex numbers
        return False
    return True


def _scale(value: np.ndarray) -> float:
    """How far a parameter may move so that it is still much the same."""
    size = float(np.sqrt(np.mean(np.square(value)))) if value.size else 0.0
    return max(size, 0.05)


def _is_kink(gaps: list[tuple[float, float, float]]) -> bool:
    """Whether the slopes on both sides stay apart as the step falls, where of a smooth loss they meet.

    Args:
        gaps: how far apart they are, the rounding in it and the slope between, for falling steps.
    """
    visible = [place for place, (gap, rounding, slope) in enumerate(gaps) if gap > max(50 * rounding, 1e-4 * slope)]
    if len(visible) < 4:
        return False
    last = visible[-1]
    if last + 1 < len(gaps) and gaps[last][0] > 60 * gaps[last + 1][1]:  # it would be visible there, had it stayed
        return False
    sizes = [gaps[place][0] for place in visible[-4:]]
    return all(later > 0.6 * earlier for earlier, later in pairwise(sizes))
