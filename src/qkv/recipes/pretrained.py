"""A published encoder, looked into: what its heads attend to in a text, and what each of them does."""

from pathlib import Path

import torch

from qkv import files
from qkv.models import BertEncoder, BertTokens
from qkv.models.bert import CONFIG, TOKENS, WEIGHTS
from qkv.recipes.base import Shown, attended, head_table
from qkv.trace import record


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
    special = {token for token, apart in zip(read, batch.special[0].tolist(), strict=True) if apart}
    caption = f"{path.resolve().name}: what each token attends to, in {len(maps)} layers of {maps[0].heads} heads"
    return Shown(
        text=" ".join(read),
        maps=maps,
        figure=attended(maps, layer=layer, head=head),
        caption=caption,
        document={"tokens": list(read)},
        heads=head_table(maps, special),
    )
