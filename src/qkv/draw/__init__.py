"""Values in, figures out: attention maps, charts and reports as strings and bytes."""

from qkv.draw.attention import attention_page, attention_png, attention_svg
from qkv.draw.chart import (
    Bar,
    Curve,
    LengthScore,
    Line,
    Panel,
    PowerLaw,
    bars,
    by_length,
    curves,
    panels,
    png,
    svg,
)
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
    "Line",
    "Panel",
    "Paragraph",
    "PowerLaw",
    "Preformatted",
    "Table",
    "attention_page",
    "attention_png",
    "attention_svg",
    "bars",
    "by_length",
    "curves",
    "panels",
    "png",
    "report_page",
    "svg",
    "table_markdown",
]
