"""French and English without a download: numbers in words (num2words) and dates in several formats (babel)."""

from datetime import date
from functools import cache
from typing import Literal

import numpy as np
from babel.dates import format_date, format_skeleton
from jaxtyping import Int64
from num2words import num2words

from qkv.data.pairs import Pair, Split
from qkv.errors import InputError

NUMBERS = 100_000
FIRST_YEAR, LAST_YEAR = 1900, 2099

# The format `medium` is left out: its French is that of `long` in the months too short to be cut ("5 mars 2014"), but
# its English is not ("Mar 5, 2014"), so that no model could get both right.
DayFormat = Literal["full", "long", "short"]
DAY_FORMATS: tuple[DayFormat, ...] = ("full", "long", "short")

Items = Int64[np.ndarray, "_"]

# Days as ordinals, months by the ordinal of their first day.
_DAYS: Items = np.arange(date(FIRST_YEAR, 1, 1).toordinal(), date(LAST_YEAR, 12, 31).toordinal() + 1)
_MONTHS: Items = np.array(
    [date(year, month, 1).toordinal() for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in range(1, 13)]
)


def number_pair(number: int) -> Pair:
    """A number from 0 to 99,999 in words.

    >>> number_pair(2381)
    Pair(source='deux mille trois cent quatre-vingt-un', target='two thousand, three hundred and eighty-one')
    """
    thousands, rest = number - number % 1000, number % 1000
    if not thousands or not rest:
        return Pair(_words(number, "fr"), _words(number, "en"))
    # num2words takes 0.2 ms a number. The thousands and the rest are spelt once each and joined as it joins them.
    joint = " and " if rest < 100 else ", "
    return Pair(
        f"{_words(thousands, 'fr')} {_words(rest, 'fr')}", f"{_words(thousands, 'en')}{joint}{_words(rest, 'en')}"
    )


@cache
def _words(number: int, language: str) -> str:
    return num2words(number, lang=language)


def date_pair(day: date, form: DayFormat | Literal["month"]) -> Pair:
    """A date in one of babel's formats `full`, `long` and `short`, or its `month` and year.

    >>> date_pair(date(2014, 3, 5), "full")
    Pair(source='mercredi 5 mars 2014', target='Wednesday, March 5, 2014')
    >>> date_pair(date(2014, 3, 5), "month")
    Pair(source='mars 2014', target='March 2014')
    """
    if form == "month":
        return Pair(format_skeleton("yMMMM", day, locale="fr"), format_skeleton("yMMMM", day, locale="en"))
    return Pair(format_date(day, form, locale="fr"), format_date(day, form, locale="en"))


def numbers_and_dates(seed: int = 0, *, train: int = 24_000, valid: int = 1_000, test: int = 2_000) -> Split:
    """French to English: three quarters numbers from 0 to 99,999, one quarter dates from 1900 to 2099.

    No number, day or month of one part stands in another, a day in no format at all, and each French form has one
    English form. Every part is spread evenly over its range, but that a tenth of the training numbers lies below 1,000,
    where the words of all the others come from.

    Args:
        train, valid, test: how many pairs.

    Raises:
        InputError: there are not that many different pairs, or so few that a kind is missing.

    >>> for pair in numbers_and_dates(seed=1).test[:2]:
    ...     print(pair.source, "->", pair.target)
    cinquante-sept mille huit cent soixante-sept -> fifty-seven thousand, eight hundred and sixty-seven
    février 1951 -> February 1951
    """
    most = 16 * len(_MONTHS)
    if min(train, valid, test) < 16 or train + valid + test > most:
        raise InputError(
            "cannot generate a split of these sizes",
            expected=f"at least 16 pairs in each part and at most {most:,} together",
            got=f"train={train}, valid={valid}, test={test}",
        )
    generator = np.random.default_rng(seed)
    dates, months = [size // 4 for size in (test, valid, train)], [size // 16 for size in (test, valid, train)]

    test_numbers, valid_numbers, free = _spread(np.arange(NUMBERS), [test - dates[0], valid - dates[1]], generator)
    small, large = free[free < 1000], free[free >= 1000]
    few = min(len(small), (train - dates[2]) // 10)
    train_numbers = [_spread(small, [few], generator)[0], _spread(large, [train - dates[2] - few], generator)[0]]
    numbers = [test_numbers, valid_numbers, np.concatenate(train_numbers)]
    day_parts = _spread(_DAYS, [all_dates - some for all_dates, some in zip(dates, months, strict=True)], generator)
    month_parts = _spread(_MONTHS, months, generator)

    parts = [_pairs(*items) for items in zip(numbers, day_parts[:-1], month_parts[:-1], strict=True)]
    test_pairs, valid_pairs, train_pairs = ([part[i] for i in generator.permutation(len(part))] for part in parts)
    return Split(train_pairs, valid_pairs, test_pairs)


def _pairs(numbers: Items, days: Items, months: Items) -> list[Pair]:
    return [
        *(number_pair(number) for number in numbers.tolist()),
        *(date_pair(date.fromordinal(day), DAY_FORMATS[i % 3]) for i, day in enumerate(days.tolist())),
        *(date_pair(date.fromordinal(first), "month") for first in months.tolist()),
    ]


def _spread(items: Items, sizes: list[int], generator: np.random.Generator) -> list[Items]:
    """Disjoint parts of `items` of these sizes, and what is left after them.

    Each part takes one item at random from each of `size` equal stretches of what the parts before it left.
    """
    parts = []
    for size in sizes:
        edges = np.arange(size + 1) * len(items) // size
        part = items[generator.integers(edges[:-1], edges[1:])]
        parts.append(part)
        items = np.setdiff1d(items, part, assume_unique=True)
    return [*parts, items]
