"""The figure of docs/masked_language_models.md: the window network by the right and a wrong gradient.

qkv run masked-lm --data nlm-250 --gradients right,published --fit.steps 16000 --out runs/gradients
python docs/masked_gradients.py runs/gradients/*
"""

import sys
from pathlib import Path

from qkv import draw, files
from qkv.draw import Curve
from qkv.recipes.base import loss_curves
from qkv.train import RunFolder


def figure(paths: list[str]) -> str:
    """The validation losses of runs, named by their gradients."""
    curves = []
    for path in paths:
        run = RunFolder.open(path).finished()
        _, valid = loss_curves(run, "step")
        curves.append(Curve(run.config["gradient"], valid.x, valid.y, "validation"))
    return draw.svg(draw.curves(curves, x="batches", y="cross-entropy on validation"))


if __name__ == "__main__":
    files.write_text(Path(__file__).parent / "figures" / "masked_gradients.svg", figure(sys.argv[1:]))
