"""The attention page at 12 layers of 12 heads: how large it is, how soon Chromium shows it, how soon it answers.

    python benchmarks/viewer.py [--threads 2] [--rounds 5] [--model FOLDER] [--json]

Maps are a softmax of random projections, from nearly even to nearly all on one key, as heads of trained models are;
with `--model`, those of a published BERT (MiniLM and the like) on a text as long as it reads. Needs Chromium, on the
path or by `playwright install chromium`. Exits with 1 where a bar is missed.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from playwright.sync_api import Browser, Page, sync_playwright
from timing import Finding, judge, options, seconds

from qkv.draw import attention_page
from qkv.types import AttentionMap

LAYERS, HEADS, HEAD_DIM = 12, 12, 32
FRAME = 1 / 60
BYTES = {128: 3e6, 512: 20e6}


def maps(length: int) -> list[AttentionMap]:
    generator = torch.Generator().manual_seed(0)
    tokens = [f"token{position}" for position in range(length)]
    made = []
    for layer in range(LAYERS):
        query, key = torch.randn(2, HEADS, length, HEAD_DIM, generator=generator)
        sharpness = torch.logspace(-0.5, 0.9, HEADS)[torch.randperm(HEADS, generator=generator)]
        scores = query @ key.mT * HEAD_DIM**-0.5 * sharpness[:, None, None]
        name = f"encoder.layers.{layer}.self_attn"
        made.append(AttentionMap(scores.softmax(-1), tokens, tokens, name, "self", "captured", "softmax"))
    return made


def published(folder: Path) -> Sequence[AttentionMap]:
    from qkv.recipes import pretrained

    return pretrained.show(folder, "i swam quickly across the river to get to the other bank . " * 39).maps


def opening(page: Page, path: Path) -> tuple[float, float]:
    """Seconds until the first map is painted, and until all layers are unpacked."""
    began = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("canvas.base")
    # Two frames later, what was drawn is on the screen.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    painted = time.perf_counter() - began
    page.wait_for_selector("main[data-ready]")
    return painted, time.perf_counter() - began


def hovering(page: Page, view: str) -> list[float]:
    """Seconds that the page works on each of 100 moves of the pointer, its layout included."""
    page.click(f"button[data-view={view}]")
    return page.evaluate(
        """() => {
            const plot = document.querySelector(".plot");
            const box = plot.getBoundingClientRect();
            return Array.from({ length: 100 }, (_, index) => {
                const part = (index * 0.618) % 1;
                const [clientX, clientY] = [box.left + box.width * part, box.top + (box.height * (index + 0.5)) / 100];
                const began = performance.now();
                plot.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
                document.body.offsetHeight;
                return (performance.now() - began) / 1000;
            });
        }"""
    )


def in_chromium(browser: Browser, what: str, shown: Sequence[AttentionMap], rounds: int) -> list[Finding]:
    written: list[str] = []
    making = seconds(lambda: written.append(attention_page(shown, title=what)))
    (text,) = written
    length = len(shown[0].query_labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.html")
        path.write_text(text, encoding="utf-8")
        opened, ready = [], []
        for _ in range(rounds):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            painted, whole = opening(page, path)
            opened.append(painted)
            ready.append(whole)
            hovers = {view: hovering(page, view) for view in ("matrix", "lines")}
            page.close()
    size = len(text.encode())
    bar = next(limit for longest, limit in BYTES.items() if length <= longest)
    return [
        Finding(f"{what}, {length} tokens: MB", size / 1e6, at_most=bar / 1e6, seconds={"writing": [making]}),
        Finding(
            f"{what}, {length} tokens: seconds to open",
            statistics.median(opened),
            at_most=3.0,
            seconds={"first map": opened, "all heads": ready},
        ),
        *(
            Finding(
                f"{what}, {length} tokens: frames a move of the pointer takes, {view}, 99 of 100",
                sorted(times)[98] / FRAME,
                at_most=1.0,
                seconds={"a move": times},
            )
            for view, times in hovers.items()
        ),
    ]


if __name__ == "__main__":
    parser = options(__doc__ or "")
    parser.add_argument("--model", type=Path, help="the folder of a published BERT, whose maps are measured too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        topics = {
            f"{LAYERS} layers of {HEADS} heads over {length} tokens": lambda length=length: in_chromium(
                browser, "random projections", maps(length), given.rounds
            )
            for length in BYTES
        }
        if given.model:
            topics[str(given.model.name)] = lambda: in_chromium(
                browser, given.model.name, published(given.model), given.rounds
            )
        judge(topics, as_json=given.json)
