"""Maps of words: as SVG and PNG, and as a page in a browser: offline, quiet, and worked by pointer and keys."""

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Page

from qkv.draw import word_map_page, word_map_png, word_map_svg
from qkv.errors import InputError
from qkv.types import WordMap

SVG = "{http://www.w3.org/2000/svg}"
WORDS = ["king", "queen", "man", "naïve", "<b>", "שלום", "far"]
XY = np.array([[0, 0], [1, 0], [0.5, 1], [8, 8], [9, 8], [8.5, 9], [20, 0]], dtype=np.float32)
NEAR = np.array([[1, 2], [0, 2], [0, 6], [4, 5], [3, 5], [3, 4], [2, 1]])
CLUSTER = np.array([0, 0, 0, 1, 1, 1, 2])
ONE = WordMap(WORDS, XY, CLUSTER, ["people", "others", "alone"], NEAR, 0.75, "first", "drawn directly")
XY_TWO = np.array([[0.5, 1], [5, 0], [0, 0]], dtype=np.float32)
NEAR_TWO = np.array([[1], [0], [1]])
TWO = WordMap(["man", "king", "other"], XY_TWO, np.array([0, 1, 1]), ["a", "b"], NEAR_TWO, 0.5, "second", "t-SNE")


def many(count: int, seed: int = 0) -> WordMap:
    generator = np.random.default_rng(seed)
    xy = generator.normal(size=(count, 2)).astype(np.float32)
    words = [f"word{place}" for place in range(count)]
    near = (np.arange(count)[:, None] + [1, 2, 3]) % count
    names = [f"cluster {number}" for number in range(17)]
    return WordMap(words, xy, np.arange(count) % 17, names, near, 0.25, "many", "made up")


# -- figures ---------------------------------------------------------------------------------------------------------


def texts(svg: str) -> list[tuple[str, float, float, float]]:
    """Each text with the middle of its box and its size."""
    found = []
    for part in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        words = "".join(part.itertext())
        found.append((words, float(part.get("x", 0)), float(part.get("y", 0)), float(part.get("font-size", 0))))
    return found


def test_a_figure_by_hand():
    svg = word_map_svg([ONE], title="Words")
    root = ElementTree.fromstring(svg)
    written = [words for words, *_ in texts(svg)]
    assert {"Words", "first", "man", "people"} <= set(written)
    assert "7 words, drawn directly; keeps 75 % of each word's 2 nearest" in written
    # 20 wide, drawn 568 wide in a frame of 620: 28.4 a unit. Names of clusters, 3 marks, stand below.
    points = {(circle.get("cx"), circle.get("cy")) for circle in root.iter(f"{SVG}circle")}
    assert ("26", "281.6") in points  # king, at 0 0: 26 from the left, 9 units above it the highest, 26 from the top
    assert ("594", "281.6") in points  # far, at 20 0
    assert ("267.4", "26") in points  # at 8.5 9
    assert len(points) == 7 + 3


def test_names_do_not_cover_one_another():
    drawn = [(words, x, y) for words, x, y, size in texts(word_map_svg([many(997)])) if words.startswith("word")]
    assert 50 < len(drawn) < 997
    for place, (words, x, y) in enumerate(drawn):
        for other, x2, y2 in drawn[:place]:
            assert abs(y - y2) >= 11 or abs(x - x2) >= 4 * len("word"), (words, other)


def test_clusters_past_the_colours_have_other_marks():
    root = ElementTree.fromstring(word_map_svg([many(170)]))
    looks = {
        (mark.tag, mark.get("fill")) for kind in ("circle", "rect", "polygon") for mark in root.iter(f"{SVG}{kind}")
    }
    assert len({look for look in looks if look[1] not in ("none", "#ffffff")}) == 17


def test_maps_side_by_side_and_a_png():
    assert word_map_png([ONE, TWO]).startswith(b"\x89PNG")
    root = ElementTree.fromstring(word_map_svg([ONE, TWO]))
    assert float(root.get("width", 0)) == 24 + 2 * 620 + 28
    assert "first: 7 words" in "".join(root.find(f"{SVG}desc").itertext())  # pyright: ignore


def test_a_map_shows_itself():
    assert ONE._repr_svg_() == word_map_svg([ONE])
    assert '<iframe srcdoc="&lt;!doctype html&gt;' in ONE._repr_html_()


def test_all_in_one_place_is_drawn():
    one = replace(ONE, xy=np.zeros_like(XY))
    assert ">people<" in word_map_svg([one])
    assert "NaN" not in word_map_page([one], title="t")


def test_no_map_is_refused():
    for draw in (word_map_svg, word_map_png, lambda maps: word_map_page(maps, title="t")):
        with pytest.raises(InputError, match="there is no map of words to show"):
            draw([])


# -- the page --------------------------------------------------------------------------------------------------------


class Opened:
    """A page, once every label has its place."""

    def __init__(self, page: Page):
        self.page = page
        self.page.wait_for_selector("main[data-ready]")

    def told(self) -> str:
        return self.page.locator(".words").inner_text()

    def view(self, place: int = 0) -> tuple[float, int]:
        """How far a map is enlarged, and how many words are named in view, once it has been painted."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        line = self.page.locator(".zoom").nth(place).inner_text()
        zoom, named = re.match(r"([\d.]+) times enlarged; ([\d,]+) of", line).groups()  # pyright: ignore
        return float(zoom), int(named.replace(",", ""))

    def box(self, place: int = 0) -> dict[str, float]:
        return self.page.locator(".plot").nth(place).bounding_box()  # pyright: ignore


@pytest.fixture
def open_maps(browse: Callable[..., Page]) -> Callable[..., Opened]:
    def opening(*maps: WordMap, **options) -> Opened:
        document = word_map_page(maps, title="Words", caption="of a <map>")
        return Opened(browse(document, **{"width": 1200, "height": 900} | options))

    return opening


def test_it_says_what_it_shows(open_maps):
    opened = open_maps(ONE)
    words = opened.page.locator("main").inner_text()
    assert "of a <map>" in words
    assert "7 words, drawn directly; keeps 75 % of each word's 2 nearest" in words
    assert opened.page.locator(".clusters button").all_inner_texts() == ["people", "others", "alone"]
    assert opened.page.title() == "Words"


def test_pointing_tells_the_nearest_words_on_every_map(open_maps):
    opened = open_maps(ONE, TWO)
    box = opened.box()
    # The map is 20 wide with 45 pixels free on each side; 9 high, in the middle.
    unit = (box["width"] - 2 - 90) / 20
    opened.page.mouse.move(box["x"] + 46 + 0.5 * unit, box["y"] + box["height"] / 2 + (4.5 - 1) * unit)
    told = opened.told()
    assert "man\nfirst: of its 2 nearest words, 1 nearest on the map; cluster people" in told
    assert "man\nsecond: of its 1 nearest words, 0 nearest on the map; cluster a" in told  # `other` is nearer
    assert opened.page.locator(".near").first.locator("li").all_inner_texts() == ["king", "far"]
    assert opened.page.locator(".near .kept").all_inner_texts() == ["king"]
    opened.page.mouse.move(0, 0)
    assert opened.told() == "Point at a word."


def test_a_click_keeps_a_word_and_escape_lets_it_go(open_maps):
    opened = open_maps(ONE)
    box = opened.box()
    opened.page.mouse.click(box["x"] + box["width"] - 46, box["y"] + box["height"] / 2 + 4.5 * (box["width"] - 92) / 20)
    opened.page.mouse.move(0, 0)
    assert opened.told().startswith("far")
    opened.page.keyboard.press("Escape")
    assert opened.told() == "Point at a word."


def test_search_finds_and_centres(open_maps):
    opened = open_maps(many(499), ONE)
    opened.page.keyboard.press("/")
    opened.page.keyboard.type("Word49")
    found = opened.page.locator(".found button")
    assert found.all_inner_texts() == ["word49", *(f"word49{digit}" for digit in range(7))]
    before = opened.view()
    found.nth(3).click()
    assert opened.told().startswith("word492")
    assert "“word492” is not on the map first." in opened.told()
    assert opened.view()[0] > before[0]
    box = opened.box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert opened.told().startswith("word492")
    opened.page.locator(".search").fill("queen")
    opened.page.keyboard.press("Enter")
    assert "queen" in opened.told()
    opened.page.locator(".near button").first.click()
    assert "king\nfirst" in opened.told()
    opened.page.locator(".search").fill("zebra")
    assert opened.page.locator(".found").inner_text() == "no such word"


def test_coming_nearer_names_more_words(open_maps):
    opened = open_maps(many(997))
    box = opened.box()
    far = opened.view()
    assert far[0] == 1
    assert 10 < far[1] < 997
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.mouse.wheel(0, -800)
    opened.page.wait_for_function("!document.querySelector('.zoom').textContent.startsWith('1.0 ')")
    assert opened.view()[0] > 1.5
    share = lambda: opened.page.evaluate("""() => {
        const told = document.querySelector(".zoom").textContent;
        const [, zoom, named] = told.match(/([\\d.]+) times enlarged; ([\\d,]+)/);
        return zoom * zoom * named.replace(",", "");
    }""")  # noqa: E731
    near = share()
    assert near > far[1]  # words a piece of the whole map
    opened.page.get_by_role("button", name="Nearer").click()
    opened.view()
    assert share() > near
    opened.page.get_by_role("button", name="Whole map").click()
    assert opened.view() == far


def test_keys_work_the_map(open_maps):
    opened = open_maps(many(199))
    whole = opened.view()
    opened.page.locator(".plot").focus()
    opened.page.keyboard.press("+")
    assert opened.view()[0] == 1.5
    opened.page.keyboard.press("-")
    assert opened.view() == whole
    for _ in range(9):
        opened.page.keyboard.press("ArrowRight")
    assert opened.view()[1] < whole[1]  # some words have left the view
    opened.page.keyboard.press("0")
    assert opened.view() == whole
    opened.page.keyboard.press("t")
    assert opened.page.locator("html").get_attribute("data-theme") == "dark"


def test_dragging_and_pinching(open_maps):
    opened = open_maps(many(199))
    whole, box = opened.view(), opened.box()
    opened.page.mouse.move(box["x"] + 300, box["y"] + 300)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 300 + box["width"] / 2, box["y"] + 300, steps=3)
    opened.page.mouse.up()
    assert opened.view()[1] < whole[1]
    opened.page.keyboard.press("Escape")
    opened.page.get_by_role("button", name="Whole map").click()
    opened.page.evaluate("""() => {
        const plot = document.querySelector(".plot");
        plot.setPointerCapture = () => {};
        const box = plot.getBoundingClientRect();
        const touch = (type, pointerId, x) => plot.dispatchEvent(
            new PointerEvent(type, { pointerId, clientX: box.left + x, clientY: box.top + 200, bubbles: true }));
        touch("pointerdown", 1, 300); touch("pointerdown", 2, 400);
        touch("pointermove", 1, 250); touch("pointermove", 2, 450);
        touch("pointerup", 1, 250); touch("pointerup", 2, 450);
    }""")
    assert opened.view()[0] == 2  # twice as far apart


def test_a_cluster_stands_out(open_maps):
    opened = open_maps(many(199))
    whole = opened.view()
    button = opened.page.locator(".clusters button").nth(3)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert opened.view()[1] < whole[1]
    button.click()
    assert opened.view() == whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("turned", [False, True])
def test_both_schemes(open_maps, scheme: str, turned: bool):
    opened = open_maps(replace(ONE, xy=np.zeros_like(XY)), scheme=scheme)
    if turned:
        opened.page.get_by_role("button", name="Light / dark").click()
    opened.view()
    body, point = opened.page.evaluate("""() => {
        const canvas = document.querySelector(".mark");
        const { data } = canvas.getContext("2d").getImageData(14, 15, 1, 1);
        return [getComputedStyle(document.body).backgroundColor, [...data]];
    }""")
    if (scheme == "dark") == turned:
        assert (body, point) == ("rgb(255, 255, 255)", [0, 114, 178, 255])
    else:
        assert (body, point) == ("rgb(21, 24, 28)", [74, 168, 224, 255])


def test_points_are_painted_in_the_colours_of_their_clusters(open_maps):
    opened = open_maps(replace(ONE, words=[f"w{place}" for place in range(7)]))
    opened.view()
    colours = opened.page.evaluate("""() => {
        const { width, height } = document.querySelector(".base");
        const copy = new OffscreenCanvas(width, height).getContext("2d");
        copy.drawImage(document.querySelector(".base"), 0, 0);
        const { data } = copy.getImageData(0, 0, width, height);
        const seen = {};
        for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) seen[data.slice(at, at + 3).join()] = true;
        return Object.keys(seen).map((colour) => colour.split(",").map(Number));
    }""")
    for wanted in ([0, 114, 178], [192, 79, 0], [0, 131, 95]):
        assert np.abs(np.array(colours) - wanted).max(axis=1).min() <= 2


def test_a_narrow_screen_holds_the_page(open_maps):
    opened = open_maps(ONE, TWO, width=390)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.box(1)["y"] > opened.box(0)["y"] + opened.box(0)["height"]
