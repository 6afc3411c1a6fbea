"""Values in, figures out: attention maps, charts and reports as strings and bytes."""

from qkv.draw.attention import attention_page, attention_png, attention_svg
from qkv.draw.chart import Bar, Curve, LengthScore, bars, by_length, curves, png, svg
from qkv.draw.report import (
    Facts,
    Figure,
    Heading,
    Paragraph,
    Preformatted,
    Table,
    report_page,
    table_markdown,
)

__all__ = [
    "Bar",
    "Curve",
    "Facts",
    "Figure",
    "Heading",
    "LengthScore",
    "Paragraph",
    "Preformatted",
    "Table",
    "attention_page",
    "attention_png",
    "attention_svg",
    "bars",
    "by_length",
    "curves",
    "png",
    "report_page",
    "svg",
    "table_markdown",
]
