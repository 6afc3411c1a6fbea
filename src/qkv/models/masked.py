"""What networks share that read hidden words as the mask and tell them from what stands around."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import tied_embedding
from qkv.types import NGramBatch


class MaskedLM(nn.Module):
    """An embedding that the output layer shares (Press and Wolf 2017), around the `encode` of a network."""

    def __init__(self, vocab: int, width: int):
        super().__init__()
        self.embedding, self.scale = tied_embedding(vocab, width)
        self.output_bias = nn.Parameter(self.embedding.weight.new_zeros(vocab))

    def encode(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees at each place."""
        raise NotImplementedError

    def forward(
        self, ids: Int64[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "predictions vocab"]:
        """Logits of each hidden word, row by row."""
        return F.linear(self.encode(ids, hidden)[hidden], self.embedding.weight, self.output_bias)

    def loss(self, batch: NGramBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the hidden words."""
        states = self.encode(batch.ids, batch.hidden)
        return linear_cross_entropy(states, self.embedding.weight, self.output_bias, batch.ids, batch.hidden)

    def log_probabilities(self, batch: NGramBatch) -> Float[Tensor, "predictions vocab"]:
        """The logarithm of each word's probability in each hidden place, row by row."""
        return self(batch.ids, batch.hidden).log_softmax(dim=-1)
