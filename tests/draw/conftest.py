"""A browser without a network, for pages that are worked by pointer and keys."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or playwright.chromium.executable_path
        if not Path(chromium).exists():
            pytest.skip("no Chromium: neither on the path nor installed by `playwright install chromium`")
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def browse(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a document offline; in the end it must have asked for nothing else, and complained of nothing."""
    path, contexts = tmp_path / "page.html", []
    complaints, requests = [], []

    def browsed(document: str, *, scheme: str = "light", width: int = 1000, height: int = 800) -> Page:
        path.write_text(document, encoding="utf-8")
        contexts.append(browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}))  # pyright: ignore
        contexts[-1].set_offline(True)
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield browsed
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests == [path.as_uri()] * len(contexts)
