"""Colours that colour-blind readers tell apart, and scales that get steadily darker."""

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#d9dee3", "#ffffff"

# Okabe and Ito, "Color Universal Design" (2008), in the order in which series take them; yellow is too pale for lines.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

BLUES = ("#ffffff", "#cfe1f2", "#7fb5da", "#2f7ebc", "#08306b")
ORANGES = ("#ffffff", "#fddbb4", "#f5a35c", "#d5651a", "#7a2f04")
GREYS = ("#ffffff", "#d4d4d4", "#9a9a9a", "#575757", "#111111")


def shade(stops: tuple[str, ...], amount: float) -> str:
    """The colour at `amount`, between 0 and 1, of the way through `stops`.

    >>> shade(("#000000", "#ffffff"), 0.2)
    '#333333'
    """
    place = min(max(amount, 0.0), 1.0) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    low, high = _channels(stops[index]), _channels(stops[index + 1])
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def text_on(background: str) -> str:
    """Ink or paper, whichever is read more easily on `background`."""
    red, green, blue = _channels(background)
    return PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else INK


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
