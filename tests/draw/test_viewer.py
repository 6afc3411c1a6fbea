"""The attention page in a browser: offline, quiet, and worked by pointer and keys."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from playwright.sync_api import Page

from qkv.draw import attention_page
from qkv.types import AttentionMap

QUERIES, KEYS = ["two", "hundred", "שלום"], ["deux", "cent", "<i>", "anticonstitutionnellement-et-encore", "\n"]
WEIGHTS = torch.tensor(
    [
        [[0.5, 0.25, 0.125, 0.0625, 0.0625], [0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.25, 0.75]],
        [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]],
    ]
)
CROSS = AttentionMap(WEIGHTS, QUERIES, KEYS, "decoder.layers.0.multihead_attn", "cross", "captured", "softmax")
SIGNED = torch.tensor([[[-0.5, 0.25], [0.0, 0.0]]])
SELF = AttentionMap(SIGNED, ["a", "b"], ["c", "d"], "decoder.layers.1.self_attn", "self", "implied", "linear", True)
HEADS = [
    {"layer": 0, "head": 0, "entropy": 0.5},
    {"layer": 0, "head": 1, "entropy": None},
    {"layer": 1, "head": 0, "entropy": 0.25},
]


class Opened:
    """A page, once every layer is unpacked."""

    def __init__(self, page: Page, *, wait: bool = True):
        self.page = page
        if wait:
            self.page.wait_for_selector("main[data-ready]")

    def readout(self) -> str:
        return self.page.locator(".readout").inner_text()


@pytest.fixture
def opened(browse: Callable[..., Page]) -> Opened:
    return Opened(browse(attention_page([CROSS, SELF], title="An alignment", caption="of a <number>", heads=HEADS)))


def test_it_says_what_it_shows(opened: Opened):
    words = opened.page.locator("main").inner_text()
    assert "An alignment" in words
    assert "of a <number>" in words
    assert "cross-attention, captured, softmax; queries × keys: 3 × 5." in words
    stated = re.search(r"the largest error is (\S+e-\d+), and the row whose sum moves most sums to", words)
    assert stated
    assert 0 < float(stated[1]) <= 1.6e-5  # half a step of a row whose largest weight is 1: 1 / 65534
    assert opened.page.title() == "An alignment"


def test_the_pointer_reads_every_weight(opened: Opened):
    opened.page.locator("select.head").select_option("0")
    box = opened.page.locator(".plot").bounding_box()
    assert box
    read = set()
    for y in range(3, int(box["height"]), 30):
        for x in range(3, int(box["width"]), 30):
            opened.page.mouse.move(box["x"] + x, box["y"] + y)
            read.add(opened.readout())
    keys = [*KEYS[:-1], "␊"]
    expected = {
        f"“{query}” attends to “{key}”: {WEIGHTS[0, row, column]:.4f}"
        for row, query in enumerate(QUERIES)
        for column, key in enumerate(keys)
    }
    assert expected <= read
    opened.page.mouse.move(0, 0)
    assert opened.readout().startswith("Point at a weight")


def test_the_row_is_listed_from_its_largest(opened: Opened):
    opened.page.locator("select.head").select_option("0")
    opened.page.locator(".plot").focus()
    opened.page.keyboard.press("ArrowDown")
    assert opened.readout() == "“two” attends to"
    assert opened.page.locator(".row bdi").all_inner_texts() == ["deux", "cent", "<i>", KEYS[3], "␊"]
    assert opened.page.locator(".row .amount").all_inner_texts() == ["0.5000", "0.2500", "0.1250", "0.0625", "0.0625"]


def test_keys_work_everything(opened: Opened):
    press = opened.page.keyboard.press
    layer, head = opened.page.locator("select.layer"), opened.page.locator("select.head")
    opened.page.locator(".plot").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    assert opened.readout() == "“hundred” attends to “cent”: 0.7500"  # (1 + 0.5) / 2: the mean of the heads
    press("]")
    assert (head.input_value(), opened.readout()[-6:]) == ("0", "1.0000")
    press("[")
    press("[")
    assert (head.input_value(), opened.readout()[-6:]) == ("1", "0.5000")
    press("v")
    assert opened.page.get_by_role("button", name="Lines").get_attribute("aria-pressed") == "true"
    press(".")
    assert (layer.input_value(), head.input_value()) == ("1", "0")  # a layer of one head has no mean
    assert opened.readout() == "“b” attends to “d”: 0.0000"
    press("ArrowUp")
    press("ArrowLeft")
    assert opened.readout() == "“a” attends to “c”: -0.5000"
    press(",")
    press("Escape")
    assert opened.readout().startswith("Point at a weight")
    press("ArrowLeft")
    assert opened.readout() == "“␊” is attended to by"
    press("t")
    assert opened.page.locator("html").get_attribute("data-theme") == "dark"


def test_lines_are_read_from_either_side(opened: Opened):
    opened.page.get_by_role("button", name="Lines").click()
    box = opened.page.locator(".plot").bounding_box()
    assert box
    opened.page.mouse.move(box["x"] + 5, box["y"] + 12)
    assert opened.readout() == "“two” attends to"
    opened.page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 12)
    assert opened.readout() == "“␊” is attended to by"
    assert opened.page.locator(".row bdi").all_inner_texts()[0] == "שלום"


def test_a_cursor_outside_the_next_layer_is_dropped(opened: Opened):
    opened.page.locator(".plot").focus()
    for _ in range(3):
        opened.page.keyboard.press("ArrowDown")
    opened.page.locator("select.layer").select_option("1")
    assert opened.readout().startswith("Point at a weight")


def test_small_pictures_show_and_choose_every_head(opened: Opened):
    thumbs = opened.page.locator(".thumb")
    assert [thumb.get_attribute("aria-label") for thumb in thumbs.all()] == [
        "decoder.layers.0.multihead_attn, head 0",
        "decoder.layers.0.multihead_attn, head 1",
        "decoder.layers.1.self_attn, head 0",
    ]
    assert opened.page.locator(".thumb[aria-pressed=true]").count() == 2  # the mean is of both
    thumbs.nth(2).click()
    assert opened.page.locator("select.layer").input_value() == "1"
    assert [thumb.get_attribute("aria-pressed") for thumb in thumbs.all()] == ["false", "false", "true"]
    thumbs.nth(1).click()
    assert opened.page.locator("select.head").input_value() == "1"
    # The first row of that head is 1 0 0 0 0.
    colours = thumbs.nth(1).evaluate("""({ firstChild: canvas }) =>
        [canvas.width, canvas.height, ...canvas.getContext("2d").getImageData(0, 0, 2, 1).data]""")
    assert colours == [5, 3, 8, 48, 107, 255, 255, 255, 255, 255]


def test_layers_are_counted_from_0_and_a_mean_over_them_is_none(browse: Callable[..., Page]):
    other = replace(CROSS, layer="decoder.layers.1.multihead_attn")
    mean = replace(AttentionMap.mean_of([CROSS, other]), layer="the mean of 2 layers")
    opened = Opened(browse(attention_page([CROSS, other], title="t", heads=HEADS, figure=mean)))
    lines = opened.page.locator(".heads .line > span")
    assert lines.all_inner_texts() == ["0", "1", ""]
    assert lines.nth(2).get_attribute("title") == "the mean of 2 layers"
    layer = opened.page.locator("select.layer")
    assert layer.evaluate("select => select.selectedOptions[0].text") == "the mean of 2 layers"
    assert opened.page.locator(".table tr[aria-current=true]").count() == 0
    opened.page.locator(".table tbody tr").nth(2).click()
    assert layer.evaluate("select => select.selectedOptions[0].text") == "decoder.layers.1.multihead_attn"


def test_the_layer_of_the_figure_is_shown_first(browse: Callable[..., Page]):
    opened = Opened(browse(attention_page([CROSS, SELF], title="t", figure=SELF.mean())))
    assert opened.page.locator("select.layer").input_value() == "1"
    assert opened.page.locator(".heads .line > span").all_inner_texts() == ["0", "1"]


def test_a_click_sorts_the_table_and_chooses_a_head(opened: Opened):
    cells = lambda: [row.split("\t") for row in opened.page.locator(".table tbody tr").all_inner_texts()]  # noqa: E731
    assert cells() == [["0", "0", "0.500"], ["0", "1", "–"], ["1", "0", "0.250"]]
    entropy = opened.page.get_by_role("button", name="entropy")
    entropy.click()
    assert [row[2] for row in cells()] == ["0.250", "0.500", "–"]
    entropy.click()
    assert [row[2] for row in cells()] == ["0.500", "0.250", "–"]
    assert opened.page.locator(".table th").nth(2).get_attribute("aria-sort") == "descending"
    opened.page.locator(".table tbody tr").nth(1).click()
    assert opened.page.locator("select.layer").input_value() == "1"
    assert opened.page.locator(".table tr[aria-current=true] td").all_inner_texts() == ["1", "0", "0.250"]


def test_the_threshold_hides_weights_and_says_which(opened: Opened):
    opened.page.locator("select.head").select_option("0")
    inked = lambda: opened.page.evaluate("""() => {
        const { width, height } = document.querySelector(".base");
        const copy = new OffscreenCanvas(width, height).getContext("2d");
        copy.drawImage(document.querySelector(".base"), 0, 0);
        const { data } = copy.getImageData(0, 0, width, height);
        let marks = 0;
        for (let index = 0; index < data.length; index += 4) marks += data[index + 3] > 0 && data[index] < 250;
        return marks;
    }""")  # noqa: E731
    whole = inked()
    opened.page.locator(".threshold").fill("0.3")
    assert inked() < whole
    assert "30 % of the row’s largest" in opened.page.locator(".controls").inner_text()
    opened.page.get_by_role("button", name="Lines").click()
    assert "at least 0.25 of it" in opened.page.locator(".legend").inner_text()
    few = inked()
    opened.page.locator(".threshold").focus()
    opened.page.keyboard.press("End")  # the slider's own key, not the plot's
    assert inked() < few
    assert "at least 1 of the row’s largest" in opened.page.locator(".legend").inner_text()
    assert opened.readout().startswith("Point at a weight")


def test_what_a_large_page_rounds_is_read_within_its_step(browse: Callable[..., Page]):
    generator = torch.Generator().manual_seed(7)
    weights = (4 * torch.randn(5, 233, 229, generator=generator)).softmax(-1)
    words = [f"w{index}" for index in range(233)]
    map_ = AttentionMap(weights, words, words[:229], "enc", "cross", "captured", "softmax")
    opened = Opened(browse(attention_page([map_], title="t")))
    opened.page.locator("select.head").select_option("3")
    opened.page.locator(".plot").focus()
    for key in ("ArrowUp", "ArrowLeft"):  # from the end
        opened.page.keyboard.press(key)
    read = float(opened.readout().split()[-1])
    stated = re.search(r"the largest error is (\S+),", opened.page.locator(".error").inner_text())
    assert stated
    assert abs(read - float(weights[3, -1, -1])) <= float(stated[1]) * 1.05 + 5e-5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("turned", [False, True])
def test_both_schemes(browse: Callable[..., Page], scheme: str, turned: bool):
    # One query, two keys: the first cell has the largest weight, the second none.
    one = AttentionMap(torch.tensor([[[1.0, 0.0]]]), ["q"], ["a", "b"], "enc", "self", "captured", "softmax")
    opened = Opened(browse(attention_page([one], title="t"), scheme=scheme))
    if turned:
        opened.page.get_by_role("button", name="Light / dark").click()
    # Cells are 40 wide and end 4 before the right edge of the plot and 2 before its lower one.
    body, most, none = opened.page.evaluate("""() => {
        const canvas = document.querySelector(".base");
        const { data } = canvas.getContext("2d").getImageData(0, canvas.height - 38, canvas.width, 1);
        const at = (x) => [...data.slice(4 * x, 4 * x + 3)];
        return [getComputedStyle(document.body).backgroundColor, at(canvas.width - 80), at(canvas.width - 40)];
    }""")
    if (scheme == "dark") == turned:
        assert (body, most, none) == ("rgb(255, 255, 255)", [8, 48, 107], [255, 255, 255])
    else:
        assert (body, most, none) == ("rgb(21, 24, 28)", [227, 242, 255], [21, 24, 28])


def test_a_narrow_screen_scrolls_the_plot_and_not_the_page(browse: Callable[..., Page]):
    words = [f"word{index}" for index in range(31)]
    wide = AttentionMap(torch.eye(31)[None], words, words, "enc", "self", "captured", "softmax")
    opened = Opened(browse(attention_page([wide], title="t"), width=390))
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.page.evaluate("(box => box.scrollWidth > box.clientWidth)(document.querySelector('.scroll'))")


def test_two_cells_of_a_notebook_do_not_meet(browse: Callable[..., Page]):
    cells = CROSS._repr_html_(), SELF._repr_html_()
    opened = Opened(browse("<!doctype html><meta charset=utf-8>" + "".join(cells)), wait=False)
    first, second = (opened.page.frame_locator("iframe").nth(index) for index in (0, 1))
    second.locator("main[data-ready]").wait_for()
    first.locator("main[data-ready]").wait_for()
    first.locator(".plot").focus()
    opened.page.keyboard.press("ArrowDown")
    assert first.locator(".readout").inner_text() == "“two” attends to"
    assert second.locator(".readout").inner_text().startswith("Point at a weight")
