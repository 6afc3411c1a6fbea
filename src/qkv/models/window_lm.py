"""A hidden word from the words around it: a network with one hidden layer, whose gradients are derived by hand.

It is the neural language model of Bengio et al. (2003) without direct connections, as Hinton set it for a course: a
row `x` of `N` words, the hidden one replaced by number 0; embeddings `E` side by side, logistic units, and a softmax
over the `V` words for each of the `N` positions. With `m` one where a word is hidden (`M` of them), else zero, and `t`
one at that word:

    e = [E[x_1], ..., E[x_N]]
    a = W1 e + b1,  h = 1 / (1 + exp(-a))
    z_n = W2_n h + b2_n,  y_n = softmax(z_n)
    C = -1/M sum_i sum_n m_in sum_j t_inj log y_inj

Since `log y_nj = z_nj - log sum_k exp z_nk`, and `t_n` sums to one, `dC/dz_n = m_n (y_n - t_n) / M`. The rest is the
chain rule, with `dh/da = h (1 - h)`; sums are over the rows `i` of a batch:

    dC/dW2 = sum_i dC/dz_i h_i^T      dC/db2 = sum_i dC/dz_i
    dC/dh_i = W2^T dC/dz_i            dC/da_i = h_i (1 - h_i) dC/dh_i
    dC/dW1 = sum_i dC/da_i e_i^T      dC/db1 = sum_i dC/da_i
    dC/de_i = W1^T dC/da_i            dC/dE[w] = sum of dC/de_in over all i, n with x_in = w

The older form of the task predicts the last word of a row from those before: nothing is replaced, and `z` has one
position.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from qkv.errors import InputError
from qkv.models import _window_fast
from qkv.types import MASK_ID, Config, NGramBatch

NAMES = ("word_embedding_weights", "embed_to_hid_weights", "hid_bias", "hid_to_output_weights", "output_bias")
"""What the course called `E`, `W1`, `b1`, `W2` and `b2`."""


class WindowConfig(Config):
    """Sizes of the network."""

    embed_dim: PositiveInt = 16
    """Width of the embeddings."""
    hidden_size: PositiveInt = 128
    """Logistic units."""
    deviation: PositiveFloat = 0.01
    """Standard deviation of the initial weights; biases begin at zero."""


def loss_and_gradients(
    parameters: Mapping[str, Shaped[np.ndarray, "..."]],
    ids: Int[np.ndarray, "batch n"],
    hidden: Bool[np.ndarray, "batch n"],
    gradient: Literal["right", "published"] = "right",
) -> tuple[Any, dict[str, np.ndarray]]:
    """The mean cross-entropy over hidden words, and its gradients by the parameters, in the type that these have.

    This is the derivation above, line by line: the outputs of all positions are computed, and where nothing is hidden
    multiplied by zero. In single precision `_window_fast` comes to the same numbers sooner.

    Args:
        parameters: arrays by `NAMES`, whose shapes tell the task.
        ids: words as they stand in the text.
        hidden: which of them are to be predicted.
        gradient: see `WindowLM`.

    >>> shapes = [(5, 2), (7, 6), (7,), (15, 7), (15,)]
    >>> parameters = {name: np.zeros(shape) for name, shape in zip(NAMES, shapes)}
    >>> loss, gradients = loss_and_gradients(parameters, np.array([[3, 1, 4]]), np.array([[False, True, False]]))
    >>> float(loss.round(4)), gradients["output_bias"].reshape(3, 5).round(1)[1]  # log 5, y - t
    (1.6094, array([ 0.2, -0.8,  0.2,  0.2,  0.2]))
    """
    embedding, w1, b1, w2, b2 = (parameters[name] for name in NAMES)
    (batch, _), (vocab, dim) = ids.shape, embedding.shape
    inputs, outputs = w1.shape[1] // dim, len(b2) // vocab
    x = np.where(hidden, MASK_ID, ids)[:, :inputs]
    m = hidden[:, -outputs:, None]
    t = np.eye(vocab, dtype=bool)[ids[:, -outputs:]]
    count = int(m.sum())

    e = embedding[x].reshape(batch, -1)
    h = 1 / (1 + np.exp(-(e @ w1.T + b1)))
    z = (h @ w2.T + b2).reshape(batch, outputs, vocab)
    z = z - z.max(axis=2, keepdims=True)  # the softmax is the same, and nothing overflows
    log_y = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
    loss = -(log_y * (m & t)).sum() / count

    dz = (m * (np.exp(log_y) - t) / count).reshape(batch, -1)
    da = h * (1 - h) * (dz @ w2)
    de = (da @ w1).reshape(batch, inputs, dim)
    d_embedding = np.zeros_like(embedding)
    np.add.at(d_embedding, x if gradient == "right" else ids[:, :inputs], de)
    gradients = (d_embedding, da.T @ e, da.sum(axis=0), dz.T @ h, dz.sum(axis=0))
    return loss, dict(zip(NAMES, gradients, strict=True))


class WindowLM(nn.Module):
    """The network as a module: trained by the gradients derived above, judged by torch.

    Args:
        config: sizes.
        vocab: how many words there are; the masked task has the mask at 0 among them.
        length: how many words stand in a row.
        task: `masked`, a hidden word from those on both sides, or `next`, the last word from those before.
        gradient: `published` has the mistake of a published solution: what belongs to the embedding of the mask is
            added to that of the word behind it.

    Raises:
        InputError: rows of a single word.

    >>> batch = NGramBatch(torch.tensor([[3, 1, 2, 5]]), torch.tensor([[False, True, False, False]]))
    >>> model = WindowLM(WindowConfig(embed_dim=3, hidden_size=11), vocab=7, length=4)
    >>> model.log_probabilities(batch).shape, sorted(model.loss_and_gradients(batch)[1]) == sorted(NAMES)
    (torch.Size([1, 7]), True)
    """

    def __init__(
        self,
        config: WindowConfig,
        vocab: int,
        length: int,
        *,
        task: Literal["masked", "next"] = "masked",
        gradient: Literal["right", "published"] = "right",
    ):
        super().__init__()
        if length < 2:
            raise InputError("length is too small", expected="rows of 2 words or more", got=str(length))
        self.vocab, self.length = vocab, length
        self.gradient: Literal["right", "published"] = gradient
        self.inputs, self.outputs = (length, length) if task == "masked" else (length - 1, 1)

        def drawn(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(config.deviation * torch.randn(rows, columns))

        self.word_embedding_weights = drawn(vocab, config.embed_dim)
        self.embed_to_hid_weights = drawn(config.hidden_size, self.inputs * config.embed_dim)
        self.hid_bias = nn.Parameter(torch.zeros(config.hidden_size))
        self.hid_to_output_weights = drawn(self.outputs * vocab, config.hidden_size)
        self.output_bias = nn.Parameter(torch.zeros(self.outputs * vocab))

    def forward(
        self, ids: Int[Tensor, "batch length"], hidden: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "predictions vocab"]:
        """Logits of each hidden word, row by row; outputs of positions where none is hidden are not computed.

        Raises:
            InputError: rows of another length, numbers without a word, a hidden word that is not among the outputs.
        """
        logits = self.output_bias.new_empty(int(hidden.sum()), self.vocab)
        for here, found in self._places(ids, hidden):
            logits[here] = found
        return logits

    def loss(self, batch: NGramBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the hidden words."""
        target, total = batch.ids[batch.hidden], self.output_bias.new_zeros(())
        for here, logits in self._places(batch.ids, batch.hidden):
            total = total + F.cross_entropy(logits, target[here], reduction="sum")
        return total / len(target)

    def log_probabilities(self, batch: NGramBatch) -> Float[Tensor, "predictions vocab"]:
        """The logarithm of each word's probability in each hidden place, row by row."""
        return self(batch.ids, batch.hidden).log_softmax(dim=-1)

    def loss_and_gradients(self, batch: NGramBatch) -> tuple[float, dict[str, np.ndarray]]:
        """The loss, and its gradients by the names of the parameters, as derived above.

        Raises:
            InputError: as `forward`.
        """
        parameters, rows = self._arrays(), self._rows(batch)
        computed = _window_fast.loss_and_gradients if _window_fast.usable(parameters) else loss_and_gradients
        loss, gradients = computed(parameters, *rows, self.gradient)
        return float(loss), gradients

    def descend(self, batch: NGramBatch, moved: Mapping[str, np.ndarray], *, rate: float, momentum: float) -> float:
        """The loss, and a step of descent: `m <- momentum m + gradient`, `parameter <- parameter - rate m`.

        Args:
            moved: `m` by the names of the parameters, changed in place as these are.

        Raises:
            InputError: as `forward`.
        """
        parameters, rows = self._arrays(), self._rows(batch)
        if rate and _window_fast.usable(parameters):
            return _window_fast.descend(parameters, moved, *rows, self.gradient, rate=rate, momentum=momentum)
        loss, gradients = self.loss_and_gradients(batch)
        for name, parameter in parameters.items():
            moved[name][...] = momentum * moved[name] + gradients[name]
            parameter -= rate * moved[name]
        return loss

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).detach().numpy() for name in NAMES}

    def _rows(self, batch: NGramBatch) -> tuple[np.ndarray, np.ndarray]:
        rows = batch.ids.numpy(), batch.hidden.numpy()
        self._require(*rows)
        return rows

    def _places(self, ids: Tensor, hidden: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each place where words are hidden: which of all hidden ones these are, and their logits."""
        self._require(ids, hidden)
        read = ids.masked_fill(hidden, MASK_ID)[:, : self.inputs]
        e = F.embedding(read, self.word_embedding_weights).flatten(1)
        h = torch.sigmoid(F.linear(e, self.embed_to_hid_weights, self.hid_bias))
        rows, places = hidden.nonzero(as_tuple=True)
        for output, place in enumerate(range(self.length - self.outputs, self.length)):
            here, own = places == place, slice(output * self.vocab, (output + 1) * self.vocab)
            if bool(here.any()):
                yield here, F.linear(h[rows[here]], self.hid_to_output_weights[own], self.output_bias[own])

    def _require(self, ids: Tensor | np.ndarray, hidden: Tensor | np.ndarray) -> None:
        if ids.shape[1] != self.length:
            raise InputError("rows of another length", expected=f"{self.length} words", got=str(ids.shape[1]))
        least, most = int(ids.min()), int(ids.max())
        if least < 0 or most >= self.vocab:
            raise InputError(
                "ids has numbers without a word", expected=f"0 to {self.vocab - 1}", got=f"{least} to {most}"
            )
        if not bool(hidden.any()) or (self.outputs < self.length and bool(hidden[:, : -self.outputs].any())):
            raise InputError(
                "hidden is not what this network predicts",
                expected="the last word of rows alone" if self.outputs == 1 else "a word or more",
            )
