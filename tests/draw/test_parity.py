"""Comparisons as text and as a page."""

import numpy as np

from qkv.draw import parity_page, parity_text
from qkv.types import Claim, Entry, Parity

FACTS = {
    "float64": 0.5,
    "float32": 0.5,
    "compared": 6,
    "judged": 6,
    "wrong": 1,
    "trial": "one <step>",
    "sizes": "n=3",
    "precision": "float64",
}
WRONG = Claim("h", "wrong", 0.5, 1e-9, [Entry((0, 1), 0.5, 1.0, 0.5)], facts=FACTS, errors=np.array([[0.0, 0.5, 0.0]]))
RIGHT = Claim("c", "correct", 1e-16, 1e-9, facts=FACTS | {"float64": 1e-16, "wrong": 0})
REPORT = Parity(
    "Mine",
    [WRONG, RIGHT],
    ["Two sizes."],
    reference="LSTMCell",
    mapping={"w": "weight_ih.T", "bias_hh": "bias_hh"},
    cause="gate order",
    explanation="f before i",
    where="the gates",
    line="a = b",
    instead="a = c",
)


def test_text_names_the_cause_the_place_and_the_worst_entry():
    text = parity_text(REPORT)
    assert text.startswith("Mine and LSTMCell: 1 of 2 arrays differ; c agrees")
    assert "It first goes wrong at the gates: gate order: f before i." in text
    assert "reference   a = b\n  ours        a = c" in text
    assert "[0, 1]   0.5       1             0.5" in text
    assert "Parameters: w is weight_ih.T." in text  # one of its own name needs no word


def test_the_page_escapes_and_holds_a_map():
    page = parity_page(REPORT)
    assert "one &lt;step&gt;" in page
    assert page.count("<svg") == 1
    assert "1 of these 3 entries differ" in page
    assert REPORT._repr_html_().startswith("<iframe")


def test_what_agrees_is_short():
    text = parity_text(Parity("Mine", [RIGHT], reference="LSTMCell"))
    assert "all of it agrees" in text
    assert "wrong first" not in text
