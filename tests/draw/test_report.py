import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkv.draw import Facts, Figure, Heading, Paragraph, Preformatted, Table, report_page, table_markdown
from qkv.errors import InputError

SCORES = Table(
    ["model", "BLEU", "loss", "note"],
    [["rnn", "31.2 ± 1.4", 2.5, None], ["transformer", "47.0 ± 0.9", 1.25, "8 heads"], ["copy", 1, 7.0, "baseline"]],
    {"BLEU": "highest", "loss": "lowest"},
)


class Reader(HTMLParser):
    """The words of a page, and whether its elements nest."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list):  # noqa: ARG002
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        self.words.append(data)


def test_a_table_by_hand():
    assert table_markdown(SCORES) == (
        "| model       |           BLEU |     loss | note     |\n"
        "| :---------- | -------------: | -------: | :------- |\n"
        "| rnn         |     31.2 ± 1.4 |     2.50 | –        |\n"
        "| transformer | **47.0 ± 0.9** | **1.25** | 8 heads  |\n"
        "| copy        |              1 |     7.00 | baseline |"
    )


def test_the_page_has_the_same_table():
    page = report_page("t", [SCORES])
    assert '<td class="number"><strong>47.0 ± 0.9</strong></td><td class="number"><strong>1.25</strong></td>' in page
    assert "<td>rnn</td>" in page
    assert page.count("<strong>") == 2


@pytest.mark.parametrize(
    ("cell", "written"),
    [(1234567, "1,234,567"), (0.125, "0.12"), (True, "yes"), (None, "–"), ("a|b\nc", "a\\|b c"), (1234.5, "1,234.50")],
)
def test_cells_as_they_are_written(cell, written: str):
    assert f"| {written} " in table_markdown(Table(["x"], [[cell], ["filler"]]))


def test_equal_bests_are_both_bold():
    assert table_markdown(Table(["x"], [[2], [3], [3]], {"x": "highest"})).count("**") == 4


def test_a_column_with_a_word_in_it_is_not_of_numbers():
    assert 'class="number"' not in report_page("t", [Table(["x"], [[1], ["none"]])])
    assert 'class="number"' not in report_page("t", [Table(["date"], [["2 May 1990"]])])


def test_a_table_without_rows_is_a_header():
    assert table_markdown(Table(["model", "BLEU"], [])) == "| model | BLEU |\n| :---- | :--- |"


def test_facts_and_blocks_stand_in_their_order():
    blocks = [Heading("Data"), Paragraph("some"), Facts({"pairs": 20000, "compiled": False}), Heading("Deeper", 3)]
    page = report_page("Run", [*blocks, Preformatted("qkv run\n  here"), Figure("<svg></svg>", "what is seen")])
    expected = ["<h1>Run</h1>", "<h2>Data</h2>", "<p>some</p>", "<dt>pairs</dt><dd>20,000</dd>", "<dd>no</dd>"]
    expected += [
        "<h3>Deeper</h3>",
        "<pre>qkv run\n  here</pre>",
        "<svg></svg>",
        "<figcaption>what is seen</figcaption>",
    ]
    places = [page.index(part) for part in expected]
    assert places == sorted(places)


def test_a_page_fetches_nothing_runs_nothing_and_prints():
    page = report_page("t", [SCORES])
    assert not re.search(r"https?:|<script|<link|@import", page)
    assert "@media print" in page
    assert "light-dark(" in page


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_every_text_is_escaped(text: str):
    table = Table([text], [[text]], caption=text)
    blocks = [
        Heading(text),
        Paragraph(text),
        Facts({text: text}),
        table,
        Figure("<svg></svg>", text),
        Preformatted(text),
    ]
    reader = Reader(report_page(text, blocks))
    assert reader.open == []
    assert reader.words.count(text) == 11  # title, h1, h2, p, dt, dd, caption, th, td, figcaption, pre


def test_refusals():
    with pytest.raises(
        InputError, match=r"row 2 of the table does not fit its header. Expected 2 cells \(a, b\); got 1"
    ):
        Table(["a", "b"], [[1, 2], [3]])
    with pytest.raises(InputError, match=r"no column 'c'. Expected one of a, b"):
        Table(["a", "b"], [], {"c": "highest"})
