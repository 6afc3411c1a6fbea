"""Values in, figures out: attention maps, charts and reports as strings and bytes."""

from qkv.draw.answers import Calibrated, WordEffect, calibration, word_effects
from qkv.draw.attention import attention_png, attention_svg
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
    points,
    svg,
)
from qkv.draw.checked import check_page, check_text, error_map_svg
from qkv.draw.graph import DrawnGraph, graph_svg, matrix_svg
from qkv.draw.heard import heard_png, heard_svg
from qkv.draw.parity import parity_page, parity_text
from qkv.draw.picture import figure_png, image_matrix_svg, image_weights_svg, images_svg
from qkv.draw.recurrence import gates_over_time
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
from qkv.draw.solution import Solution, solution_latex, solution_markdown, solution_page
from qkv.draw.steps import (
    Observation,
    Worked,
    WorkedStep,
    worked_latex,
    worked_markdown,
    worked_page,
    worked_text,
)
from qkv.draw.viewer import attention_page
from qkv.draw.word_map import word_map_facts, word_map_page, word_map_png, word_map_svg
from qkv.draw.worksheet import (
    MarkedLine,
    MarkedSheet,
    MarkedText,
    worksheet_page,
    worksheet_svg,
    worksheet_text,
    worksheets_page,
)

__all__ = [
    "Bar",
    "Calibrated",
    "Curve",
    "DrawnGraph",
    "Facts",
    "Figure",
    "Heading",
    "LengthScore",
    "Line",
    "MarkedLine",
    "MarkedSheet",
    "MarkedText",
    "Observation",
    "Panel",
    "Paragraph",
    "PowerLaw",
    "Preformatted",
    "Solution",
    "Table",
    "WordEffect",
    "Worked",
    "WorkedStep",
    "attention_page",
    "attention_png",
    "attention_svg",
    "bars",
    "by_length",
    "calibration",
    "check_page",
    "check_text",
    "curves",
    "error_map_svg",
    "figure_png",
    "gates_over_time",
    "graph_svg",
    "heard_png",
    "heard_svg",
    "image_matrix_svg",
    "image_weights_svg",
    "images_svg",
    "matrix_svg",
    "panels",
    "parity_page",
    "parity_text",
    "png",
    "points",
    "report_page",
    "solution_latex",
    "solution_markdown",
    "solution_page",
    "svg",
    "table_markdown",
    "word_effects",
    "word_map_facts",
    "word_map_page",
    "word_map_png",
    "word_map_svg",
    "worked_latex",
    "worked_markdown",
    "worked_page",
    "worked_text",
    "worksheet_page",
    "worksheet_svg",
    "worksheet_text",
    "worksheets_page",
]
