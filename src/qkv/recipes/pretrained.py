"""A published encoder, looked into: what its heads attend to in a text, and what each of them does."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from qkv import files
from qkv.functional import head_statistics
from qkv.models import BertEncoder, BertTokens
from qkv.models.bert import CONFIG, TOKENS, WEIGHTS
from qkv.recipes.base import Shown, attended
from qkv.trace import record
from qkv.types import AttentionMap, Json


def is_published(path: Path) -> bool:
    """Whether a folder holds a published model, whole or not, rather than a run.

    Raises:
        DataError: its `config.json` cannot be read.
    """
    if any((path / name).exists() for name in (TOKENS, WEIGHTS)):
        return True
    if not (path / CONFIG).is_file():
        return False
    document = files.read_json(path / CONFIG)
    return isinstance(document, dict) and "model_type" in document


def show(
    path: Path, text: str, second: str | None = None, *, layer: int | None = None, head: int | None = None
) -> Shown:
    """What each token of a text, or of a pair, attends to: the figure is of one layer or head, or the mean of all.

    Raises:
        DataError: the folder is not one of a BERT (see `BertEncoder.from_folder`).
        InputError: a text that cannot be read, or no such layer or head.
    """
    encoder, tokens = BertEncoder.from_folder(path), BertTokens.from_folder(path)
    batch = tokens([text if second is None else (text, second)])
    with record() as trace, torch.no_grad():
        encoder(batch.ids, batch.real, batch.types)
    read, maps = batch.tokens[0], trace.maps(batch.tokens[0])
    separators = batch.special[0].clone()
    separators[0] = False  # the first token has a column of its own
    caption = f"{path.resolve().name}: what each token attends to, in {len(maps)} layers of {maps[0].heads} heads"
    return Shown(
        text=" ".join(read),
        maps=maps,
        figure=attended(maps, layer=layer, head=head),
        caption=caption,
        document={"tokens": list(read)},
        heads=head_table(maps, separators),
    )


def head_table(maps: Sequence[AttentionMap], separators: Bool[Tensor, " length"] | None = None) -> list[Json]:
    """A row for each head of each map of self-attention: `layer`, counted in `maps`, `head`, and its statistics.

    >>> one = AttentionMap(torch.eye(2)[None], "ab", "ab", "layers.0", "self", "captured", "softmax")
    >>> head_table([one])[0]["itself"]
    1.0
    """
    rows = []
    for layer, attention in enumerate(maps):
        statistics = head_statistics(attention.weights, separators)
        for head, values in enumerate(zip(*(column.tolist() for column in statistics.values()), strict=True)):
            rows.append({"layer": layer, "head": head, **dict(zip(statistics, values, strict=True))})
    return rows
