"""Pages in one file: styles and scripts inside, nothing fetched."""

import html
import json
from importlib.resources import files

from qkv.types import Json

# The browser itself holds the page to its word: it may fetch nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def static(name: str) -> str:
    """The text of one of the styles and scripts that are shipped beside this file."""
    return files("qkv.draw").joinpath("static", name).read_text(encoding="utf-8")


def page(title: str, body: str, styles: str, script: str = "") -> str:
    """A whole HTML document; `body`, `styles` and `script` are taken as they are, `title` is escaped.

    >>> "<title>R &amp; D</title>" in page("R & D", "<p>text</p>", "")
    True
    """
    module = f'<script type="module">\n{script}\n</script>\n' if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>\n{static('page.css')}{styles}</style>\n</head>\n<body>\n{body}\n{module}</body>\n</html>\n"
    )


def mounted(title: str, kind: str, name: str, data: Json, figure: str) -> str:
    """A page whose script makes it from data: `main` of class `kind`, by `mount` of the script `name`, with its styles.

    Args:
        figure: SVG for readers that run no scripts, or nothing.
    """
    # Inside a script element only "<" could end it; JSON may spell it as an escape.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    figure = figure.replace(' xmlns="http://www.w3.org/2000/svg"', "")  # HTML knows what an <svg> is
    body = (
        f'<main class="{kind}"><p>Drawn with JavaScript, in browsers from 2023 on.</p>{figure}</main>\n'
        f'<script type="application/json" id="maps">{text}</script>'
    )
    start = 'mount(document.querySelector("main"), JSON.parse(document.getElementById("maps").textContent));'
    return page(title, body, static(f"{name}.css"), f"{static(f'{name}.js')}\n{start}")


def framed(document: str, title: str, *, height: int) -> str:
    """A page for a notebook's cell, in a frame of its own: nothing in it meets other cells."""
    return (
        f'<iframe srcdoc="{html.escape(document)}" sandbox="allow-scripts" title="{html.escape(title)}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )
