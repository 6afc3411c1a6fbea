"""Judged worksheets as text, page and drawing; whatever stands in them is escaped."""

import xml.etree.ElementTree as ET

from qkv.draw import MarkedLine, MarkedSheet, MarkedText, Table, worksheet_page, worksheet_svg, worksheet_text

LINES = [
    MarkedLine(1, [MarkedText("# Sums")], prose=True),
    MarkedLine(2, [MarkedText("A < `B` & C.")], prose=True),
    MarkedLine(3, [MarkedText("given X = 1")]),
    MarkedLine(
        4,
        [MarkedText("claim Y = X\n  = ["), MarkedText("<1>", "wrong"), MarkedText(", "), MarkedText("2", "correct")],
        verdict="wrong",
        said="refuted",
        notes=["It is <2>, and " + "further " * 30 + "on."],
        figures=['<svg xmlns="http://www.w3.org/2000/svg" width="3" height="3"/>'],
    ),
]
SHEET = MarkedSheet("R & D", "1 claim, 1 wrong", LINES, Table(["claim", "points"], [["Y", "0"]]), ["Seed 0."])


def test_a_page_has_all_of_it_escaped():
    page = worksheet_page(SHEET)
    assert "<h1>R &amp; D</h1>" in page
    assert "<h2>Sums</h2>" in page
    assert "<p>A &lt; <code>B</code> &amp; C.</p>" in page
    assert '<mark class="wrong">&lt;1&gt;</mark>, <mark class="correct">2</mark>' in page
    assert "<strong>refuted</strong><p>It is &lt;2&gt;, and " in page
    assert 'width="3"' in page
    assert "<p>1 claim, 1 wrong.</p>" in page
    assert "<p>Seed 0.</p>" in page


def test_text_names_line_and_verdict():
    text = worksheet_text(SHEET)
    assert text.startswith("R & D: 1 claim, 1 wrong\n")
    assert "line 4, refuted: claim Y = X\n  It is <2>, and" in text
    assert text.endswith("Seed 0.")


def test_a_drawing_is_svg_wide_enough_for_its_notes():
    root = ET.fromstring(worksheet_svg(SHEET))
    texts = root.findall(".//{http://www.w3.org/2000/svg}text")
    said = ["".join(text.itertext()) for text in texts]
    assert "<1>" in said
    assert "refuted" in said
    assert not [text for text in said if "A <" in text]  # prose is left out
    notes = [text for text in texts if "further" in "".join(text.itertext())]
    assert len(notes) >= 3  # in rows
    assert max(float(text.get("x") or 0) for text in notes) < float(root.get("width") or 0)
