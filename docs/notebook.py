# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Looking at attention in a notebook
#
# `jupytext --to notebook docs/notebook.py` makes a notebook of this page. Nothing in it needs a network.

# %%
import torch

import qkv
from qkv import draw
from qkv.nn import TransformerEncoderLayer

# %% [markdown]
# Whatever runs inside `qkv.record()` leaves its attention weights in a trace. A trace shows itself: every layer and
# head to choose from where scripts run, a figure where they do not.

# %%
torch.manual_seed(0)
words = ["i", "swam", "quickly", "across", "the", "river"]
layer = TransformerEncoderLayer(16, 4, dim_feedforward=32).eval()
with qkv.record() as trace, torch.no_grad():
    layer(torch.randn(1, len(words), 16))
trace  # noqa: B018

# %% [markdown]
# With the words as labels, a map is what the figures and pages of `qkv.draw` take.

# %%
attention = trace.maps(words)[0]
attention  # noqa: B018

# %% [markdown]
# The figure for a paper: solid lines from 0.8 of a row's largest weight, dashed ones from 0.25 of it.

# %%
figure = draw.attention_svg(attention.head(0), style="lines", title="Head 0", monochrome=True)
overview = draw.attention_svg(attention, title="All heads")

# %% [markdown]
# Images may be the tokens. Each query's output is the sum of all key images by its weights.

# %%
images = torch.rand(len(words), 8, 8)
weights = attention.mean().weights
pictures = draw.image_matrix_svg(attention, images, images, title="Images that attend to images")
sums = draw.images_svg(torch.einsum("hqk,kyx->qyx", weights, images), labels=words, title="Their weighted sums")

# %% [markdown]
# `IPython.display.SVG(figure)` shows a figure in a cell; `Path("figure.svg").write_text(figure)` keeps it.
# So with a page:

# %%
page = draw.attention_page([attention], title="A layer before training", caption="four heads over six words")
