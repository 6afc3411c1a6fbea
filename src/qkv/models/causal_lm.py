"""A causal language model with a Transformer: each word from those before it, and texts drawn word by word."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.functional.loss import linear_cross_entropy
from qkv.models.embed import tied_embedding
from qkv.models.transformer_lm import TransformerLMConfig, transformer_stack
from qkv.nn import Dropout, LearnedPositions
from qkv.trace import scope
from qkv.types import MASK_ID, NGramBatch


class CausalLM(nn.Module):
    """A decoder alone (Radford et al. 2018, section 3.1): the mask stands before the first word, as its start.

    A hidden word is predicted from the words before it, whatever stands after it, so that all words of a row can be
    hidden at once: each is read only by those that come later. This is another task than a masked model's.

    Args:
        config: sizes.
        vocab: how many words there are, the mask at 0 among them.
        length: how many words stand in a row.

    >>> model = CausalLM(TransformerLMConfig(embed_dim=8, num_heads=2, num_layers=1), vocab=7, length=5)
    >>> model.sample(torch.tensor([3, 1]), 4, torch.Generator().manual_seed(0)).shape
    torch.Size([4])
    """

    def __init__(self, config: TransformerLMConfig, vocab: int, length: int):
        super().__init__()
        self.embedding, self.scale = tied_embedding(vocab, config.embed_dim)
        self.output_bias = nn.Parameter(self.embedding.weight.new_zeros(vocab))
        self.positions = LearnedPositions(length, config.embed_dim)
        self.dropout = Dropout(config.dropout)
        self.decoder = transformer_stack(config)
        self.length = length

    def decode(self, ids: Int64[Tensor, "batch length"]) -> Float[Tensor, "batch length embed_dim"]:
        """What the output layer sees at each place, which knows the words before it."""
        read = F.pad(ids[:, :-1], (1, 0), value=MASK_ID)
        with scope("decoder"):
            embedded = self.dropout(self.positions(self.embedding(read) * self.scale))
            return self.decoder(embedded, is_causal=True)

    def forward(self, ids: Int64[Tensor, "batch length"]) -> Float[Tensor, "batch length vocab"]:
        """Logits of the word in each place."""
        return F.linear(self.decode(ids), self.embedding.weight, self.output_bias)

    def loss(self, batch: NGramBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the hidden words, each from those before it."""
        states = self.decode(batch.ids)
        return linear_cross_entropy(states, self.embedding.weight, self.output_bias, batch.ids, batch.hidden)

    def log_probabilities(self, batch: NGramBatch) -> Float[Tensor, "predictions vocab"]:
        """The logarithm of each word's probability in each hidden place, row by row."""
        return self(batch.ids)[batch.hidden].log_softmax(dim=-1)

    @torch.inference_mode()
    def sample(
        self,
        start: Int64[Tensor, " start"],
        count: int,
        generator: torch.Generator,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> Int64[Tensor, " {count}"]:
        """`count` words that go on from `start`, each drawn from what the model expects after the last `length - 1`.

        Args:
            start: the words to go on from; there may be none.
            count: how many are drawn.
            generator: decides them.
            temperature: logits are divided by it: near 0 the likeliest word, above 1 more surprises.
            top_k: draw from so many of the likeliest words alone (Fan et al. 2018, section 5.1).

        Raises:
            InputError: a temperature that is not above 0, a `top_k` below 1.
        """
        if not temperature > 0:
            raise InputError("temperature cannot be used", expected="above 0", got=f"{temperature:g}")
        if top_k is not None and top_k < 1:
            raise InputError("top_k cannot be used", expected="1 or more", got=str(top_k))
        words = start
        for _ in range(count):
            seen = words[max(len(words) - self.length + 1, 0) :]
            # The last place is still empty; nothing reads what stands there.
            logits = self(F.pad(seen, (0, 1))[None])[0, -1] / temperature
            logits[MASK_ID] = -torch.inf
            if top_k is not None and top_k < len(logits):
                logits[logits < logits.topk(top_k).values[-1]] = -torch.inf
            drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
            words = torch.cat((words, drawn))
        return words[len(start) :]
