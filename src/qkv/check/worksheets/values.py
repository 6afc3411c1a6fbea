"""Numbers of a worksheet: rational ones exactly, as whole numerators over one denominator, others in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from qkv.errors import InputError

_BITS = 1024  # of a numerator or the denominator; beyond, float64 takes over


class UnusableError(InputError):
    """A claim that cannot be judged as it stands: an unknown name, shapes that do not fit, no number."""

    @classmethod
    def of(cls, error: InputError) -> "UnusableError":
        """What cannot be used, as what is to be said of a claim."""
        return cls(error.problem, expected=error.expected, got=error.got, hint=error.hint)


@dataclass(frozen=True, eq=False)
class Exact:
    """An array of rational numbers.

    Attributes:
        numerators: Python's integers in an array of objects.
        denominator: one for all, positive.

    >>> third = Exact.of([[Fraction(1, 3), Fraction(1, 2)]])
    >>> third.numerators.tolist(), third.denominator, third.shape
    ([[2, 3]], 6, (1, 2))
    """

    numerators: np.ndarray
    denominator: int = 1

    @classmethod
    def of(cls, numbers: Sequence | Fraction | int) -> "Exact":
        """From numbers, or nested lists of them."""
        array = np.array(numbers, dtype=object)
        denominator = math.lcm(*(number.denominator for number in array.flat))
        return cls(objects([int(number * denominator) for number in array.flat], array.shape), denominator)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numerators.shape

    @property
    def ndim(self) -> int:
        return self.numerators.ndim

    def fractions(self) -> list[Fraction]:
        """The numbers one after the other."""
        return [Fraction(number, self.denominator) for number in self.numerators.flat]

    def floats(self) -> np.ndarray:
        """The nearest numbers of float64.

        Raises:
            UnusableError: a number past their range.
        """
        try:
            values = [number / self.denominator for number in self.numerators.flat]
        except OverflowError as error:
            raise UnusableError("a number past the range of floating point", hint="smaller numbers") from error
        return np.array(values, dtype=float).reshape(self.shape)


Value = Exact | np.ndarray
"""An array without axes, with one or two: exact, or of float64."""


def floats(value: Value) -> np.ndarray:
    """`value` in float64."""
    return value.floats() if isinstance(value, Exact) else value


def numbers(value: Value) -> list[Fraction] | list[float]:
    """The entries of `value` one after the other."""
    return value.fractions() if isinstance(value, Exact) else value.ravel().tolist()


def kept(value: Exact) -> Value:
    """`value` while its numbers are short, else in float64."""
    flat = value.numerators.ravel().tolist()
    largest = max(map(abs, flat), default=0)
    if max(largest.bit_length(), value.denominator.bit_length()) <= _BITS:
        return value
    divisor = math.gcd(value.denominator, *flat)
    short = Exact(np.asarray(value.numerators // divisor, dtype=object), value.denominator // divisor)
    if max((largest // divisor).bit_length(), short.denominator.bit_length()) <= _BITS:
        return short
    return short.floats()


def objects(items: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """An array of Python's integers, whatever their size."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)
