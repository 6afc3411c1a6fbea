import base64
import json
import re
import struct
import warnings
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.draw import attention_page, attention_png, attention_svg
from qkv.draw.colour import BLUES, ORANGES
from qkv.draw.label import visible
from qkv.draw.page import static
from qkv.draw.viewer import Rounding, quantise
from qkv.errors import InputError
from qkv.trace import record, scope, step
from qkv.types import AttentionMap, Trace

SVG = "{http://www.w3.org/2000/svg}"
HAND = [0.3, 0.25, 0.23, 0.15, 0.07]


def made(rows, queries=None, keys=None, *, signed=False) -> AttentionMap:
    weights = torch.tensor(rows, dtype=torch.float64)
    weights = weights if weights.dim() == 3 else weights[None]
    queries = queries or [f"q{index}" for index in range(weights.shape[1])]
    keys = keys or [f"k{index}" for index in range(weights.shape[2])]
    return AttentionMap(weights, queries, keys, "decoder.layers.1", "cross", "captured", "softmax", signed)


def random_map(heads: int, queries: int, keys: int) -> AttentionMap:
    generator = torch.Generator().manual_seed(7)
    return made(torch.randn(heads, queries, keys, generator=generator, dtype=torch.float64).softmax(-1).tolist())


def texts(svg: str) -> list[str]:
    return ["".join(part.itertext()) for part in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def drawn_lines(svg: str) -> list[tuple[bool, str]]:
    """For each line, the legend's left out: whether it is dashed, and at which height it ends."""
    found = [line for line in ElementTree.fromstring(svg).iter(f"{SVG}line") if line.get("x1") != "0"]
    return [("stroke-dasharray" in line.attrib, line.get("y2", "")) for line in found]


class TestLines:
    def test_by_hand(self):
        # The row's largest is 0.3: solid from 0.24, dashed from 0.075, nothing below.
        svg = attention_svg(made([HAND]), style="lines")
        # Five keys, 24 apart: their middles are at 12, 36, 60, 84, 108.
        assert drawn_lines(svg) == [(False, "12"), (False, "36"), (True, "60"), (True, "84")]

    def test_thresholds_can_be_set_and_the_legend_says_so(self):
        svg = attention_svg(made([HAND]), style="lines", solid=1, dashed=0.8)
        assert drawn_lines(svg) == [(False, "12"), (True, "36")]
        assert "at least 0.8 of it" in texts(svg)

    def test_thresholds_may_be_weights_themselves(self):
        svg = attention_svg(
            made([HAND, [0.0, 0.04, 0.0, 0.96, 0.0]]), style="lines", solid=1.2, dashed=0.25, absolute=True
        )
        assert drawn_lines(svg) == [(True, "12"), (True, "36"), (True, "84")]
        assert {"a weight of at least 1.2", "of at least 0.25"} <= set(texts(svg))

    def test_a_row_that_attends_to_nothing_has_no_line(self):
        assert len(drawn_lines(attention_svg(made([[0.0, 0.0], [1.0, 0.0]]), style="lines"))) == 1

    def test_the_shorter_side_is_spread_over_the_longer(self):
        svg = attention_svg(made([[1.0], [1.0], [1.0]]), style="lines")
        assert drawn_lines(svg) == [(False, "36")] * 3  # the only key stands in the middle of 72

    def test_a_negative_weight_counts_by_its_size_and_shows_its_sign(self):
        svg = attention_svg(made([[-0.5, 0.4, 0.1]], signed=True), style="lines")
        assert drawn_lines(svg) == [(False, "12"), (False, "36")]
        assert "negative" in texts(svg)


class TestMatrix:
    def test_by_hand(self):
        svg = attention_svg(made([[1.0, 0.0], [0.5, 0.5]]))
        cells = [
            part for part in ElementTree.fromstring(svg).iter(f"{SVG}rect") if part.find(f"{SVG}title") is not None
        ]
        assert [cell.get("fill") for cell in cells] == [BLUES[-1], BLUES[0], BLUES[2], BLUES[2]]
        assert [cell.findtext(f"{SVG}title") for cell in cells][2] == "q1 → k0: 0.5000"
        assert [text for text in texts(svg) if re.fullmatch(r"[01]\.\d\d", text)] == ["1.00", "0.00", "0.50", "0.50"]

    def test_negative_weights_have_the_other_colour(self):
        svg = attention_svg(made([[-1.0, 0.5]], signed=True))
        assert f'fill="{ORANGES[-1]}"' in svg
        assert f'fill="{BLUES[2]}"' in svg

    def test_numbers_only_where_they_fit(self):
        count = lambda keys: len(re.findall(r">0\.\d\d</text>", attention_svg(random_map(1, 5, keys))))  # noqa: E731
        assert (count(11), count(13)) == (55, 0)

    def test_numbers_as_they_are_asked_for(self):
        count = lambda **options: len(re.findall(r">0\.\d\d</text>", attention_svg(random_map(2, 5, 13), **options)))  # noqa: E731
        assert (count(), count(numbers=True), count(numbers=False)) == (0, 130, 0)

    def test_all_heads_side_by_side(self):
        svg = attention_svg(random_map(3, 5, 2))
        assert [text for text in texts(svg) if text.startswith("head")] == ["head 0", "head 1", "head 2"]
        assert texts(svg).count("q4") == 3

    def test_monochrome_is_grey(self):
        colours = set(re.findall(r'fill="#(\w{6})"', attention_svg(random_map(1, 3, 5), monochrome=True)))
        shades = colours - {"1b1f24", "5b6470"}
        assert all(colour[:2] == colour[2:4] == colour[4:] for colour in shades)


@pytest.mark.parametrize("style", ["matrix", "lines"])
class TestBothStyles:
    @settings(max_examples=60, deadline=None)
    @given(labels=st.lists(st.text(max_size=30), min_size=5, max_size=5))
    def test_every_label_is_text_of_the_figure(self, style: str, labels: list[str]):
        svg = attention_svg(made(torch.eye(2, 3).tolist(), labels[:2], labels[2:]), style=style)
        whole = texts(svg)  # a shortened label carries the whole one as its title
        for label in map(visible, labels):
            assert any(text == label or (text.endswith(label) and "…" in text) for text in whole)

    def test_the_same_map_gives_the_same_bytes(self, style: str):
        assert attention_svg(random_map(2, 3, 5), style=style) == attention_svg(random_map(2, 3, 5), style=style)

    def test_a_title_is_printed_and_escaped(self, style: str):
        assert "R < D" in texts(attention_svg(random_map(1, 3, 5), style=style, title="R < D"))

    def test_a_title_is_cut_before_it_is_far_wider_than_the_figure(self, style: str):
        svg = attention_svg(random_map(1, 3, 5), style=style, title=200 * "word ")
        assert float(ElementTree.fromstring(svg).get("width", "")) < 1000
        assert any(text.startswith("word word") and text.endswith("…") for text in texts(svg))
        assert f"<title>{200 * 'word '}</title>" in svg  # for readers of screens

    def test_nothing_is_fetched(self, style: str):
        svg = attention_svg(random_map(1, 3, 5), style=style)
        assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]

    def test_half_precision_with_a_gradient_is_drawn(self, style: str):
        weights = torch.full((1, 3, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
        map_ = AttentionMap(weights, list("abc"), list("de"), "decoder", "self", "recomputed", "softmax")
        assert "<text" in attention_svg(map_, style=style)
        assert attention_page([map_], title="t")

    def test_a_png_has_the_figure_s_size_times_its_scale(self, style: str):
        map_ = random_map(1, 3, 5)
        root = ElementTree.fromstring(attention_svg(map_, style=style))
        width, height = struct.unpack(">II", attention_png(map_, style=style, scale=3)[16:24])
        assert (width, height) == (3 * int(root.get("width", "")), 3 * int(root.get("height", "")))


def test_a_notebook_draws_blocks_of_a_long_map_in_which_some_ask_nothing():
    weights = torch.eye(131)[None].clone()
    weights[0, ::2] = 0
    labels = [f"t{place}" for place in range(131)]
    svg = AttentionMap(weights, labels, labels, "enc", "self", "captured", "softmax")._repr_svg_()
    assert "t0 ... t2" in texts(svg)
    assert svg.count("<rect") < 64**2


class TestPage:
    def data(self, page: str) -> dict:
        found = re.search(r'<script type="application/json" id="maps">(.*?)</script>', page, re.DOTALL)
        assert found
        return json.loads(found[1])

    def unpacked(self, fields: dict) -> torch.Tensor:
        """The weights as the page's script reads them: steps of all rows, then counts of them."""
        raw = zlib.decompress(base64.b64decode(fields["packed"]))
        heads, queries, keys = fields["heads"], len(fields["queries"]), len(fields["keys"])
        steps = np.frombuffer(raw, "<f4", heads * queries).reshape(heads, queries, 1)
        counts = np.frombuffer(raw, f"<{fields['form']}", offset=steps.nbytes).reshape(heads, queries, keys)
        return torch.from_numpy(counts.astype(np.float64) * steps.astype(np.float64))

    def test_weights_come_back_within_the_stated_error(self):
        maps = [random_map(2, 3, 5), made([[-0.3, 0.7], [0.0, 0.0]], signed=True)]
        data = self.data(attention_page(maps, title="t"))
        worst = max(
            float((self.unpacked(fields) - map_.weights).abs().max())
            for map_, fields in zip(maps, data["maps"], strict=True)
        )
        assert worst == pytest.approx(data["error"], rel=0.1)
        assert 0 < data["error"] < 0.7 / 2 / 32767 * 1.01
        assert [fields["form"] for fields in data["maps"]] == ["i2", "i2"]
        assert data["coarser"] is False

    def test_larger_pages_are_rounded_to_bytes(self):
        # 5 x 233 x 229 weights are more than 2^18. A row of its own largest 1 has steps of 1 / 255.
        weights = torch.eye(233, 229, dtype=torch.float64) * torch.ones(5, 1, 1, dtype=torch.float64)
        weights[:, 0, :2] = torch.tensor([0.75, 0.25])
        data = self.data(attention_page([made(weights.tolist())], title="t"))
        (fields,) = data["maps"]
        assert fields["form"] == "u1"
        # 0.75 has steps of 0.75 / 255, of which 0.25 is 85: nothing moves.
        assert torch.allclose(self.unpacked(fields), weights, atol=1e-7)
        assert data["rowSum"] == pytest.approx([1.0, 1.0])

    def test_weights_of_either_sign_are_rounded_to_signed_bytes(self):
        weights = torch.linspace(-1, 1, 3 * 307 * 293, dtype=torch.float64).reshape(3, 307, 293)
        data = self.data(attention_page([made(weights.tolist(), signed=True)], title="t"))
        assert data["maps"][0]["form"] == "i1"
        off = (self.unpacked(data["maps"][0]) - weights).abs().max()
        assert float(off) == pytest.approx(data["error"], rel=1e-3)

    def test_a_page_that_would_be_too_large_is_coarser_and_says_so(self, monkeypatch: pytest.MonkeyPatch):
        map_ = random_map(2, 103, 101)
        sizes = {}
        for limit in (100_000, 25_000, 14_000):
            monkeypatch.setattr("qkv.draw.viewer._LIMIT", limit)
            data = self.data(attention_page([map_], title="t"))
            sizes[limit] = (data["maps"][0]["form"], data["coarser"], data["error"])
            assert len(json.dumps(data["maps"], ensure_ascii=False).encode()) <= limit
        assert [form for form, _, _ in sizes.values()] == ["i2", "u1", "u1"]
        assert [coarser for _, coarser, _ in sizes.values()] == [False, False, True]
        errors = [error for _, _, error in sizes.values()]
        assert errors == sorted(errors)

    def test_a_page_that_no_rounding_makes_small_enough_is_an_overview_and_says_so(self, monkeypatch):
        map_ = random_map(2, 103, 101)
        monkeypatch.setattr("qkv.draw.viewer._LIMIT", 5_000)
        data = self.data(attention_page([map_], title="t"))
        (fields,) = data["maps"]
        assert (len(fields["queries"]), len(fields["keys"])) == (52, 51)  # blocks of two, so that no side is above 64
        assert fields["facts"].endswith("of 103 × 101 by blocks (a mean over their queries of the sum over their keys)")
        assert data["caption"] == "An overview: its cells are blocks of tokens."
        off = (self.unpacked(fields) - map_.pooled(2).weights).abs().max()
        assert float(off) == pytest.approx(data["error"], rel=1e-3)
        monkeypatch.setattr("qkv.draw.viewer._LIMIT", 500)
        with pytest.raises(InputError, match=r"do not go into one page.*2 heads of 1 maps. Try: fewer layers"):
            attention_page([map_], title="t")

    def test_the_largest_weights_of_a_map_too_long_to_draw_are_an_overview(self):
        # Each of 4,099 queries kept the weight on itself: in blocks of three, each block has all of it on itself.
        labels, itself = [str(place) for place in range(4099)], torch.arange(4099)[None, :, None]
        facts = ("enc", "self", "recomputed", "scaled_dot_product_attention")
        dropped = torch.zeros(1, 4099)
        dropped[0, :3] = torch.tensor([0.003, 0.0, 0.012])
        map_ = AttentionMap(torch.ones(1, 4099, 1), labels, labels, *facts, False, itself, dropped)
        (fields,) = self.data(attention_page([map_], title="t"))["maps"]
        assert fields["queries"][:2] == ["0 ... 2", "3 ... 5"]
        torch.testing.assert_close(self.unpacked(fields)[0], torch.eye(1367, dtype=torch.float64))
        assert "without the smallest weights (at most 0.012 of a row), of 4,099 × 4,099 by blocks" in fields["facts"]

    def test_rows_chosen_of_a_long_map_stay_rows(self):
        weights = torch.full((1, 3, 4099), 1 / 4099)
        words = [str(place) for place in range(4099)]
        (fields,) = self.data(
            attention_page([AttentionMap(weights, list("abc"), words, "e", "self", "captured", "")], title="t")
        )["maps"]
        assert fields["queries"] == ["a", "b", "c"]
        assert len(fields["keys"]) == 1367

    @settings(max_examples=60, deadline=None)
    @given(
        row=st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3),
        rounding=st.sampled_from([Rounding(32767), Rounding(255, 1 / 2048), Rounding(127, 1 / 64)]),
    )
    def test_a_weight_is_off_by_half_a_step_at_most(self, row: list[float], rounding: Rounding):
        weights = torch.tensor([[row]])
        steps, counts = quantise(weights, rounding)
        off = (counts.double() * steps.double()[..., None] - weights.double()).abs()
        assert (
            float(off.max()) <= float(steps.double().max()) * 0.51 + 1e-35
        )  # far below any weight, where steps are no normal numbers
        assert float(counts.abs().max()) <= rounding.levels

    def test_a_table_of_heads(self):
        maps = [random_map(2, 3, 5), random_map(1, 2, 2)]
        heads = [
            {"layer": 1, "head": 0, "entropy": float("nan"), "kind": "</script>"},
            {"layer": "decoder.layers.1", "head": 1, "entropy": 0.5, "distance": 2},
        ]
        table = self.data(attention_page(maps, title="t", heads=heads))["table"]
        assert table["columns"] == ["layer", "head", "entropy", "kind", "distance"]
        assert table["rows"] == [
            {"layer": 1, "head": 0, "cells": [1, 0, None, "</script>", None]},
            {"layer": 0, "head": 1, "cells": ["decoder.layers.1", 1, 0.5, None, 2]},
        ]

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (
                {"layer": 2, "head": 0},
                r"row 0 of `heads` names no layer of these maps. Expected `layer` from 0 to 0, or",
            ),
            ({"head": 0}, "names no layer of these maps"),
            (
                {"layer": 0, "head": 2},
                r"row 0 of `heads` names no head of decoder.layers.1. Expected `head` from 0 to 1",
            ),
            ({"layer": 0}, "names no head"),
            (
                {"layer": 0, "head": 0, "x": [1]},
                r"'x' in row 0 of `heads` cannot be written. Expected a number or a text",
            ),
        ],
    )
    def test_a_table_of_what_is_not_there_is_refused(self, row: dict, message: str):
        with pytest.raises(InputError, match=message):
            attention_page([random_map(2, 3, 5)], title="t", heads=[row])

    def test_readers_without_scripts_see_a_figure(self):
        assert "<svg" in attention_page([random_map(2, 3, 5)], title="t")
        assert "<svg" not in attention_page([random_map(2, 3, 29)], title="t")

    def test_nothing_in_a_label_can_end_the_script(self):
        page = attention_page([made([[1.0]], ["</script><b>"], ["<!--"])], title="</title><i>")
        assert "<b>" not in page
        assert "<!--" not in page
        assert "<i>" not in page
        assert self.data(page)["maps"][0]["queries"] == ["</script><b>"]

    def test_it_is_the_same_every_time_and_links_nowhere(self):
        page = attention_page([random_map(2, 3, 5)], title="t", caption="c")
        assert page == attention_page([random_map(2, 3, 5)], title="t", caption="c")
        assert not re.search(r"https?:|//cdn|<link|@import", page)
        assert "default-src 'none'" in page

    def test_a_notebook_shows_it_in_a_frame_of_its_own(self):
        shown = random_map(2, 3, 5)._repr_html_()
        assert shown.startswith("<iframe srcdoc=")
        assert "<main" not in shown  # escaped: the cell's own document gets no element but the frame

    def test_paper_and_page_share_their_scale(self):
        css = static("viewer.css")
        for name, stops in (("high", BLUES), ("below", ORANGES)):
            light = [re.search(rf"--{name}-{step}: light-dark\((#\w+)", css) for step in (1, 2, 3, 4)]
            assert tuple(found[1] for found in light if found) == stops[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "line"}, r"unknown style 'line'. Expected one of matrix, lines. Try: lines"),
        ({"solid": 0.2, "dashed": 0.3}, r"out of order. Expected 0 < dashed <= solid <= 1; got dashed=0.3, solid=0.2"),
        ({"solid": 0.2, "dashed": 0.3, "absolute": True}, r"out of order. Expected 0 < dashed <= solid; got"),
        ({"dashed": 0.0}, "out of order"),
        ({"solid": 1.5}, "out of order"),
    ],
)
def test_options_that_cannot_be_drawn_are_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        attention_svg(random_map(1, 3, 5), **options)
    with pytest.raises(InputError, match=message):
        attention_png(random_map(1, 3, 5), **options)


@pytest.mark.parametrize("shape", [(1, 0, 5), (1, 3, 0), (0, 3, 5)])
def test_a_map_without_cells_is_refused(shape: tuple[int, int, int]):
    empty = AttentionMap(torch.zeros(shape), ["q"] * shape[1], ["k"] * shape[2], "enc", "self", "captured", "softmax")
    for draw in (attention_svg, lambda map_: attention_page([map_], title="t")):
        with pytest.raises(InputError, match=r"map of enc has nothing to draw.*at least one head"):
            draw(empty)


def test_rows_that_are_no_shares_are_refused():
    with pytest.raises(
        InputError, match=r"do not sum to one. Expected .*; got 1.5 in head 0, query 1 \('q1'\). Try: .*eval"
    ):
        attention_svg(made([[0.5, 0.5], [1.0, 0.5], [0.0, 0.0]]))
    with pytest.raises(InputError, match=r"got 0.9 in head 1, query 0"):
        attention_page([made([[[1.0]], [[0.9]]])], title="t")
    assert attention_svg(made([[1.0, 0.5]], signed=True))
    assert attention_svg(made([[0.995, 0.0], [0.0, 0.0]]))  # rounded, and nothing to attend to


def test_what_was_dropped_counts_and_is_drawn_as_nothing():
    kept = made([[0.1, 0.6, 0.3]]).top(1)  # 0.4 of the row is dropped
    cells = [text for text in texts(attention_svg(kept)) if re.fullmatch(r"[01]\.\d\d", text)]
    assert cells == ["0.00", "0.60", "0.00"]
    assert attention_page([kept], title="t")
    with pytest.raises(InputError, match=r"got 0\.6 in head 0"):
        attention_svg(made([[0.0, 0.6, 0.0]]))


class TestNotebook:
    def trace(self, length: int = 3) -> Trace:
        with record() as trace, scope("encoder"):
            step("weights", torch.eye(length)[None, None], kind="self", obtained="captured", backend="softmax")
        return trace

    def test_a_map_and_a_trace_show_themselves_without_scripts(self):
        for shown in (random_map(2, 3, 5), self.trace()):
            assert "<script" not in shown._repr_svg_()
            assert ElementTree.fromstring(shown._repr_svg_()).tag == f"{SVG}svg"
        assert "encoder, mean of heads" in texts(self.trace()._repr_svg_())
        assert "encoder" in self.trace()._repr_html_()

    def test_long_maps_are_drawn_by_blocks(self):
        assert "0 ... 1" in texts(self.trace(127)._repr_svg_())
        assert "q0 ... q1" in texts(random_map(1, 67, 5)._repr_svg_())

    def test_a_trace_without_attention_names_its_steps(self):
        with record() as trace:
            step("<sum>", torch.ones(3))
        assert "<sum>" in texts(trace._repr_svg_())
        assert "<li>&lt;sum&gt;</li>" in trace._repr_html_()


def test_a_png_warns_of_letters_that_no_font_has():
    # A letter of private use stands for a letter that this machine has no font for.
    private = AttentionMap(torch.ones(1, 1, 1), ["\U0010abcd"], ["é…␣"], "enc", "self", "captured", "softmax")
    with pytest.warns(UserWarning, match=r"no font of this machine has .*\(U\+10ABCD\): the PNG shows an empty box"):
        attention_png(private)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attention_png(made([[1.0]], ["Ärger"], ["straße"]))


def test_other_refusals():
    with pytest.raises(InputError, match=r"no attention map to show. Expected at least one map"):
        attention_page([], title="t")
    with pytest.raises(InputError, match="greys cannot tell negative weights"):
        attention_svg(made([[-1.0]], signed=True), monochrome=True)
    with pytest.raises(InputError, match=r"query labels of decoder.layers.1 do not fit"):
        made([[1.0, 0.0]], ["one", "two"], ["a", "b"])
    for scale in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="a figure needs a scale"):
            attention_png(random_map(1, 3, 5), scale=scale)
