"""Reports as text and page, and maps of where an array is wrong."""

import numpy as np
import pytest

from qkv.draw import check_page, check_text, error_map_svg
from qkv.draw.colour import BLUES, GRID, ORANGES
from qkv.errors import InputError
from qkv.types import Claim, Entry, Report


def claim(errors, name: str = "w<1>") -> Claim:
    errors = np.asarray(errors, np.float64)
    entry = Entry((0, 1), 0.5, 1.0, 0.5)
    return Claim(name, "wrong", 1.0, 1e-6, [entry], "factor", "half of it", {"wrong": 1, "judged": 3}, errors)


REPORT = Report("net", [claim([[0.0, 0.5], [np.nan, 1e-9]]), Claim("b", "correct", 1e-9, 1e-6)], ["Slopes by steps."])


def test_text_names_what_is_wrong():
    text = check_text(REPORT)
    assert text.startswith("net: 1 of 2 wrong (w<1>), 1 right")
    assert "w<1> is wrong. Likely cause: factor: half of it." in text
    assert "w<1>[0, 1]    0.5        1             0.5" in text
    assert text.endswith("Slopes by steps.")


def test_rows_that_got_nothing_are_named():
    wrong = Claim("w", "wrong", 1.0, 1e-6, facts={"rows": "0 to 3", "rows_of_zeros": "0"})
    assert "w is wrong in rows 0 to 3; row 0 has only zeros." in check_text(Report("net", [wrong]))
    wrong.facts["rows_of_zeros"] = "0 to 1"
    assert "<p>Wrong in rows 0 to 3; rows 0 to 1 have only zeros." in check_page(Report("net", [wrong]))


def test_the_page_escapes_and_holds_a_map():
    page = check_page(REPORT)
    assert "w&lt;1&gt;" in page
    assert "w<1>" not in page
    assert page.count("<svg") == 1
    assert REPORT._repr_html_().startswith("<iframe")


def test_a_map_has_a_colour_for_each_kind_of_entry():
    """Agrees, off by all of it, not judged: one row each, so no runs are joined."""
    svg = error_map_svg(claim([[0.0], [1.0], [np.nan]]))
    body = svg.split("<desc>")[1]
    assert body.count(f'fill="{BLUES[1]}"') == 2  # an entry and the legend's
    assert body.count(f'fill="{ORANGES[-1]}"') == 2
    assert body.count(f'fill="{GRID}"') == 2  # the ground, which shows where nothing was judged


def test_a_wrong_entry_of_a_large_array_is_seen():
    errors = np.zeros((1009, 503))
    errors[701, 401] = 1.0
    svg = error_map_svg(claim(errors))
    assert svg.count(f'fill="{ORANGES[-1]}"') == 2
    assert ">1008<" in svg
    assert len(svg) < 40_000


@pytest.mark.parametrize("shape", [(), (7,), (1, 1), (5, 1), (3, 2, 5), (2, 3, 5, 7)])
def test_arrays_of_any_number_of_axes(shape: tuple[int, ...]):
    assert "<svg" in error_map_svg(claim(np.zeros(shape)))


def test_no_array():
    with pytest.raises(InputError, match="no map of b"):
        error_map_svg(Claim("b", "correct", 0.0, 1e-6))
