from hypothesis import given
from hypothesis import strategies as st

from qkv.draw.label import ems, shorten, visible


def test_what_has_no_look_of_its_own_gets_one():
    assert visible("  ") == "␣␣"
    assert visible("two words") == "two words"
    assert visible("\t\x00\x7f\ud800\ufffe") == "␉␀\ufffd\ufffd\ufffd"
    assert visible("שלום 你好") == "שלום 你好"


def test_widths_by_hand():
    # "iWa你": narrow 0.36, wide 0.9, plain 0.58, full width 1; the accent of "é", apart, takes no room of its own.
    assert ems("iWa你") == 0.36 + 0.9 + 0.58 + 1.0
    assert ems("e\u0301") == ems("e")


def test_a_letter_is_not_cut_from_its_accent():
    assert shorten("e\u0301" * 20, 2.9) == "e\u0301" * 3 + "…"


def test_right_to_left_text_keeps_its_ellipsis_at_its_end():
    assert shorten("والمستشفيات", 4.0).endswith("…\u200f")
    assert shorten("universities", 4.0).endswith("…")


@given(st.text(max_size=60), st.floats(2.0, 12.0))
def test_a_shortened_label_fits_and_begins_as_the_whole(label: str, limit: float):
    short = shorten(label, limit)
    assert ems(short) <= limit
    assert label.startswith(short.rstrip("\u200f").removesuffix("…"))
