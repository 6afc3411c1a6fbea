"""Learning from texts without their labels: to tell hidden tokens from what stands around them."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional.loss import linear_cross_entropy
from qkv.nn import TokenEmbedding
from qkv.types import TextBatch


@runtime_checkable
class TextModel(Protocol):
    """A network that tells something of every token."""

    @property
    def embedding(self) -> TokenEmbedding:
        """That of the tokens it reads."""
        ...

    def states(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length width"]:
        """What it tells of each token."""
        ...


class MaskedText(nn.Module):
    """A network for texts, trained to tell tokens that it is not shown (Devlin et al. 2019, section 3.1); what is
    trained so on the texts of a task learns that task better (Gururangan et al. 2020, section 4).

    Of the tokens a `share` is to be told. Four in five of them are shown as the mask, one in ten as any other token,
    one in ten as they are, so that what is told of a token that is shown as it is counts too. The output layer is the
    embedding, after a map of the states, `norm(gelu(W h + b))`. While training, tokens are drawn anew in each batch;
    in evaluation mode a batch is always asked the same.

    Args:
        model: the network. It is trained in place.
        mask_id: which token stands for a hidden one.
        share: of the tokens.
        spared: tokens that are never to be told, such as those that only mark where a text begins.

    Raises:
        InputError: a share of none or all, or a mask that is no token.

    >>> from qkv.models import LSTMClassifier, LSTMClassifierConfig
    >>> model = LSTMClassifier(LSTMClassifierConfig(embed_dim=3, hidden_size=5), vocab=7, classes=2)
    >>> batch = TextBatch(torch.tensor([[4, 5, 6]]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]))
    >>> MaskedText(model, mask_id=3).loss(batch).shape
    torch.Size([])
    """

    spared: Tensor

    def __init__(self, model: nn.Module, mask_id: int, share: float = 0.15, *, spared: Collection[int] = ()):
        super().__init__()
        if not 0 < share < 1:
            raise InputError("no such share of tokens can be hidden", expected="between 0 and 1", got=str(share))
        if not isinstance(model, TextModel):
            raise InputError("the network tells nothing of single tokens", expected="one with `states`")
        vocab, width = model.embedding.weight.shape
        if not 0 <= mask_id < vocab:
            raise InputError("the mask is no token", expected=f"an id from 0 to {vocab - 1}", got=str(mask_id))
        self.model, self.mask_id, self.share = model, mask_id, share
        self.transform, self.norm = nn.Linear(_width(model), width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.register_buffer("spared", torch.tensor(sorted(spared), dtype=torch.long), persistent=False)

    def loss(self, batch: TextBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy of the tokens that are to be told."""
        shown, asked = self.hidden(batch.ids, batch.real)
        states = self.norm(F.gelu(self.transform(self.model.states(shown, batch.real))))
        return linear_cross_entropy(states, self.model.embedding.weight, self.bias, batch.ids, asked)

    def hidden(
        self, ids: Int[Tensor, "batch length"], real: Bool[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """The tokens as they are shown, and which of them are to be told: at least one."""
        generator = None
        if not self.training:
            generator = torch.Generator(ids.device).manual_seed(0)
        drawn, how = torch.rand(2, *ids.shape, generator=generator, device=ids.device)
        drawn = drawn.masked_fill(~real | torch.isin(ids, self.spared), 1.0)
        asked = drawn <= max(self.share, float(drawn.min()))
        other = torch.randint(len(self.bias), ids.shape, generator=generator, device=ids.device)
        shown = ids.masked_fill(asked & (how < 0.8), self.mask_id)
        return torch.where(asked & (how >= 0.9), other, shown), asked


def _width(model: TextModel) -> int:
    """How many numbers the network tells of a token."""
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.embedding.weight.device)
    with torch.no_grad():
        return model.states(ids, torch.ones_like(ids, dtype=torch.bool)).shape[-1]
