"""Labels that can be drawn: every character visible, none that XML refuses, short enough for their place.

Nothing here measures a font, since a figure is read with other fonts than those of the machine that made it: widths
are estimates in ems, a little on the wide side.
"""

import html
import unicodedata

_NARROW, _WIDE = set("fijlrtI.,:;'|!()[]{}/- "), set("mwMW@%—…")


def visible(label: str) -> str:
    """`label` with a picture in the place of what has no look of its own: blanks, controls, lone surrogates.

    >>> visible("\\n"), visible(" "), visible("")
    ('␊', '␣', '∅')
    """
    if not label:
        return "∅"
    if label.isspace():
        label = label.replace(" ", "␣")
    return "".join(_picture(character) for character in label)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if 0x7F <= code <= 0x9F or unicodedata.category(character) in ("Cs", "Cn"):
        return "\ufffd"
    return character


def ems(text: str) -> float:
    """About how wide `text` is, in units of its font size."""
    return sum((_ems(character) for character in text), 0.0)


def _ems(character: str) -> float:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in _NARROW:
        return 0.36
    return 0.9 if character in _WIDE else 0.7 if character.isupper() else 0.58


def shorten(text: str, limit: float) -> str:
    """`text`, or as much of its beginning as fits into `limit` ems with an ellipsis at its end.

    >>> shorten("deux", 8.0), shorten("anticonstitutionnellement", 8.0)
    ('deux', 'anticonstituti…')
    """
    if ems(text) <= limit:
        return text
    room, kept = limit - ems("…"), 0
    while kept < len(text) and ems(text[: kept + 1]) <= room:
        kept += 1
    while kept and unicodedata.combining(text[kept]):  # a letter goes with its accents
        kept -= 1
    mark = "\u200f" if unicodedata.bidirectional(text[0]) in ("R", "AL") else ""
    return f"{text[:kept]}…{mark}"  # the mark keeps the ellipsis at the end of right-to-left text, which is its left


def escaped(label: str) -> str:
    """`label` made visible and safe inside XML and HTML."""
    return html.escape(visible(label))
