import re
from collections import Counter, defaultdict
from datetime import date, timedelta

import numpy as np
import pytest
from babel.dates import format_date
from num2words import num2words

from qkv.data.generated import DAY_FORMATS, Pair, date_pair, number_pair, numbers_and_dates
from qkv.errors import InputError


@pytest.fixture(scope="module")
def split():
    return numbers_and_dates(0)


@pytest.fixture(scope="module")
def numbers():
    return [number_pair(number) for number in range(100_000)]


def parts(split):
    return split.train, split.valid, split.test


def is_number(pair: Pair) -> bool:
    return not any(character.isdigit() for character in pair.source)


# Around every place where one of the two languages changes its rule, and a sample of the rest.
NUMBERS = sorted(
    {
        0,
        1,
        16,
        17,
        20,
        21,
        60,
        61,
        70,
        71,
        80,
        81,
        91,
        99,
        100,
        101,
        180,
        200,
        201,
        280,
        300,
        999,
        1000,
        1001,
        1080,
        1100,
    }
    | {2000, 2001, 2100, 16_071, 20_099, 21_000, 21_021, 71_200, 80_000, 80_080, 80_200, 81_000, 99_100, 99_999}
    | set(range(0, 100_000, 1009))
)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_numbers_are_spelt_as_num2words_spells_them(language):
    side = "source" if language == "fr" else "target"
    wrong = [n for n in NUMBERS if getattr(number_pair(n), side) != num2words(n, lang=language)]
    assert wrong == []


def test_dates_by_hand():
    day = date(1987, 8, 1)
    assert date_pair(day, "full") == Pair("samedi 1 août 1987", "Saturday, August 1, 1987")
    assert date_pair(day, "long") == Pair("1 août 1987", "August 1, 1987")
    assert date_pair(day, "short") == Pair("01/08/1987", "8/1/87")
    assert date_pair(day, "month") == Pair("août 1987", "August 1987")


def english_forms(pairs) -> dict[str, set[str]]:
    forms = defaultdict(set)
    for pair in pairs:
        forms[pair.source].add(pair.target)
    return forms


def ambiguous(pairs) -> list[str]:
    return [source for source, targets in english_forms(pairs).items() if len(targets) > 1]


def test_each_french_form_has_one_english_form(split):
    everything = [pair for part in parts(split) for pair in part]
    assert ambiguous(everything) == []
    # Nor is any form generated twice, so that no pair of the test part can have been trained on.
    assert len(english_forms(everything)) == len(everything) == 27_000


def test_each_french_form_has_one_english_form_over_all_that_could_be_generated(numbers):
    # Four years hold every day and a leap day.
    days = [date(1999, 1, 1) + timedelta(days) for days in range(4 * 365 + 1)]
    dates = [date_pair(day, form) for day in days for form in DAY_FORMATS]
    months = [date_pair(date(year, month, 1), "month") for year in (1900, 1999, 2099) for month in range(1, 13)]
    assert ambiguous([*numbers, *dates, *months]) == []
    assert len(english_forms([*numbers, *dates])) == len(numbers) + len(dates)


def test_the_format_left_out_would_have_been_ambiguous():
    day = date(2014, 3, 5)
    medium = Pair(format_date(day, "medium", locale="fr"), format_date(day, "medium", locale="en"))
    assert ambiguous([date_pair(day, "long"), medium]) == ["5 mars 2014"]


MONTHS = [date_pair(date(1900, month, 1), "month").source.split()[0] for month in range(1, 13)]


def day_of(french: str) -> date | None:
    """The day that a French form names; None for numbers and months."""
    if numeric := re.fullmatch(r"(\d\d)/(\d\d)/(\d{4})", french):
        day, month, year = map(int, numeric.groups())
        return date(year, month, day)
    if spelt := re.fullmatch(r"(?:\w+ )?(\d{1,2}) (\w+) (\d{4})", french):
        return date(int(spelt[3]), MONTHS.index(spelt[2]) + 1, int(spelt[1]))
    return None


def test_days_of_one_part_stand_in_no_other_in_any_format(split):
    train, valid, test = ([day for pair in part if (day := day_of(pair.source))] for part in parts(split))
    # 4 of 16 pairs are dates, 1 of 16 a month.
    assert (len(train), len(valid), len(test)) == (4_500, 188, 375)
    assert len({*train, *valid, *test}) == 4_500 + 188 + 375


def test_sizes_and_shares(split):
    assert [len(part) for part in parts(split)] == [24_000, 1_000, 2_000]
    for part in parts(split):
        assert sum(map(is_number, part)) == len(part) * 3 // 4
        dated = Counter(
            "month" if len(words) == 2 else "short" if len(words) == 1 else "long" if len(words) == 3 else "full"
            for words in (pair.source.split() for pair in part if not is_number(pair))
        )
        assert set(dated) == {"full", "long", "short", "month"}
        assert min(dated.values()) / max(dated.values()) > 0.9


def test_test_numbers_cover_the_range_evenly(split, numbers):
    value = {pair.source: number for number, pair in enumerate(numbers)}
    test = np.sort([value[pair.source] for pair in split.test if is_number(pair)])
    # One from each of 1,500 equal stretches: none is off its place by more than a stretch.
    assert np.abs(test - (np.arange(1500) + 0.5) * 100_000 / 1500).max() <= 100_000 / 1500
    train = [value[pair.source] for pair in split.train if is_number(pair)]
    assert sum(number < 1000 for number in train) > 900


def test_the_seed_decides():
    small = {"train": 160, "valid": 16, "test": 32}
    assert numbers_and_dates(1, **small) == numbers_and_dates(1, **small)
    assert numbers_and_dates(1, **small).test != numbers_and_dates(2, **small).test


def test_refusals():
    with pytest.raises(InputError, match="at least 16 pairs in each part and at most 38,400 together; got train=40000"):
        numbers_and_dates(train=40_000)
    with pytest.raises(InputError, match="got train=100, valid=15, test=20"):
        numbers_and_dates(train=100, valid=15, test=20)
