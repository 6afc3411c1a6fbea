"""The rows of text and binary files of word vectors, in compiled loops over their bytes."""

from functools import partial
from typing import no_type_check

import numpy as np

from qkv.compiled import compiled

exactly = partial(compiled, fastmath=False)

_POWERS = np.array([float(f"1e{power}") for power in range(-330, 309)])
_ZERO_POWER = 330
_EXACT, _EXACT_POWER = np.uint64(2**53), 22
_MOST_DIGITS = np.uint64((2**64 - 10) // 10)
_SURE = 2.0**-50
_BLANK, _TAB, _BREAK, _RETURN = ord(" "), ord("\t"), ord("\n"), ord("\r")
_PLUS, _MINUS, _POINT, _DIGIT = ord("+"), ord("-"), ord("."), ord("0")
_SMALL_E, _LARGE_E = ord("e"), ord("E")


@no_type_check
@exactly
def parse_text(text, matrix, letters, plain):
    """Reads lines of a word, blanks and as many decimal numbers as `matrix` is wide.

    Writes words with a line break after each into `letters` and returns how many bytes that are. Where a line is
    anything else, or rounding one of its numbers is a close call, `plain` is False and its word empty.
    """
    at, used = 0, 0
    for row in range(len(matrix)):
        begin = used
        while not _parts(text[at]):
            letters[used] = text[at]
            used, at = used + 1, at + 1
        good = used > begin
        for column in range(matrix.shape[1]):
            if not good or text[at] == _BREAK:
                good = False
                break
            while text[at] == _BLANK or text[at] == _TAB:
                at += 1
            matrix[row, column], at, good = _number(text, at)
        while text[at] == _BLANK or text[at] == _TAB or text[at] == _RETURN:
            at += 1
        plain[row] = good and text[at] == _BREAK
        if not plain[row]:
            used = begin
            while text[at] != _BREAK:
                at += 1
        at += 1
        letters[used] = _BREAK
        used += 1
    return used


@no_type_check
@exactly
def _parts(letter):
    return letter in (_BLANK, _TAB, _BREAK, _RETURN)


@no_type_check
@exactly
def _number(text, at):
    """The number at a place, where it ends, and whether it is one that is sure to be what Python's `float` says.

    `m 10^e` with `m < 2^53` and `|e| <= 22` is one correctly rounded operation of two exact numbers (Clinger 1990).
    Otherwise three roundings leave a relative error below 2^-50, and rounding to single precision is certain where
    both ends of that interval round alike.
    """
    negative = text[at] == _MINUS
    if negative or text[at] == _PLUS:
        at += 1
    digits, power, seen = np.uint64(0), 0, False
    exact = True
    point = False
    while True:
        letter = text[at]
        if letter == _POINT and not point:
            point = True
        elif _DIGIT <= letter <= _DIGIT + 9:
            seen = True
            if digits <= _MOST_DIGITS:
                digits = digits * np.uint64(10) + np.uint64(letter - _DIGIT)
                power -= point
            else:
                exact = False
                power += not point
        else:
            break
        at += 1
    if seen and letter in (_SMALL_E, _LARGE_E):
        at += 1
        below = text[at] == _MINUS
        if below or text[at] == _PLUS:
            at += 1
        written, seen = 0, False
        while _DIGIT <= text[at] <= _DIGIT + 9:
            written, seen = min(written * 10 + (text[at] - _DIGIT), 10_000), True
            at += 1
        power += -written if below else written
    value = np.float64(digits)
    if digits == 0:
        sure = exact
    elif not -_ZERO_POWER <= power < len(_POWERS) - _ZERO_POWER:
        return np.float32(0), at, False
    elif exact and digits <= _EXACT and -_EXACT_POWER <= power <= _EXACT_POWER:
        value = value * _POWERS[_ZERO_POWER + power] if power >= 0 else value / _POWERS[_ZERO_POWER - power]
        sure = True
    else:
        value *= _POWERS[_ZERO_POWER + power]
        sure = np.float32(value * (1 - _SURE)) == np.float32(value * (1 + _SURE))
    single = np.float32(-value if negative else value)
    return single, at, seen and sure and np.isfinite(single) and _parts(text[at])


@no_type_check
@exactly
def split_binary(data, rows, letters):
    """Reads rows of a word, a blank and raw bytes, as many as `rows` has; line breaks before a word are passed over.

    Writes words as `parse_text` does. Returns how many whole rows there were, where they end, and the bytes written.
    """
    at, used, width = 0, 0, rows.shape[1]
    for row in range(len(rows)):
        begin = at
        while begin < len(data) and data[begin] == _BREAK:
            begin += 1
        blank = begin
        while blank < len(data) and data[blank] != _BLANK:
            blank += 1
        if blank + 1 + width > len(data):
            return row, at, used
        for place in range(begin, blank):
            letters[used] = data[place]
            used += 1
        letters[used] = _BREAK
        used += 1
        for place in range(width):
            rows[row, place] = data[blank + 1 + place]
        at = blank + 1 + width
    return len(rows), at, used
