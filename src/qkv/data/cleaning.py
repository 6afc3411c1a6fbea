"""Cleaning of short, informal texts such as tweets: steps by name, each of which can be left out."""

import html
import re
from collections.abc import Callable, Iterable

from qkv.errors import unknown_name

_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@])@\w+")
_HASHTAG = re.compile(r"(?<!\w)#(\w*[^\W\d_]\w*)")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|_+")
_ELONGATED = re.compile(r"([^\W\d_]|[!?.])\1{2,}")

# Eyes, a nose or none, a mouth; or the other way round. A letter or digit before it makes it something else: "10:30".
_EMOTICON = re.compile(
    r"(?<![\w:;=])(?:(?P<eyes>[:;=8])[-'^o]?(?P<mouth>[)\](\[DPp/\\|*Oo]+)|(?P<first>[(\[)\]]+)[-'^o]?[:;=])(?!\w)"
    r"|(?P<heart><3+)"
)
_MOUTHS = {")": ":)", "]": ":)", "D": ":D", "(": ":(", "[": ":(", "P": ":P", "p": ":P", "*": ":*", "O": ":o", "o": ":o"}


def _spread(match: re.Match[str]) -> str:
    """A hashtag's words: `#SoHappy` and `#so_happy` as `So Happy` and `so happy`."""
    return _HUMP.sub(" ", match[1])


def _unified(match: re.Match[str]) -> str:
    """One spelling for each face."""
    if match["heart"]:
        return " <3 "
    if match["first"]:  # `(:` is `:)` from the other side
        return " :) " if match["first"][0] in "([" else " :( "
    face = _MOUTHS.get(match["mouth"][0], ":/")
    return f" {';)' if match['eyes'] == ';' and face == ':)' else face} "


_STEPS: dict[str, Callable[[str], str]] = {
    "entities": lambda text: html.unescape(html.unescape(text)),
    "addresses": lambda text: _ADDRESS.sub(" http ", text),
    "mentions": lambda text: _MENTION.sub(" @user ", text),
    "hashtags": lambda text: _HASHTAG.sub(_spread, text),
    "emoticons": lambda text: _EMOTICON.sub(_unified, text),
    "elongated": lambda text: _ELONGATED.sub(r"\1\1", text),
}

CLEANING = tuple(_STEPS)
"""The steps, in the order in which they are taken:

- `entities`: `&quot;` and `&amp;lt;` (published files have some twice) become the characters they stand for.
- `addresses`: every web address becomes `http`: that there is one tells, which one does not.
- `mentions`: every `@name` becomes `@user`: a model that knew the names would know people, not words.
- `hashtags`: `#SoHappy` becomes `So Happy`, words like any.
- `emoticons`: faces stay, in one spelling: `:-)`, `=)` and `(:` as `:)`.
- `elongated`: a letter or mark that stands more than twice stands twice: `soooo` as `soo`, which still is no `so`.
"""


def clean_text(text: str, steps: Iterable[str] = CLEANING) -> str:
    """`text` after the named steps, in the order of `CLEANING` whatever that of `steps`; its blanks are squeezed.

    Raises:
        InputError: there is no such step.

    >>> clean_text("@ann I loooove it &lt;3 #SoHappy =) http://t.co/x")
    '@user I loove it <3 So Happy :) http'
    >>> clean_text("soooo  good", steps=[])
    'soooo good'
    """
    chosen = set(steps)
    for name in chosen - _STEPS.keys():
        raise unknown_name("cleaning step", name, _STEPS)
    for name, step in _STEPS.items():
        if name in chosen:
            text = step(text)
    return " ".join(text.split())
