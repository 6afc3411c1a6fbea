"""Classifiers of texts as the recipe sentiment has them: text in, probabilities out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import softmax

from qkv import files
from qkv.data import TextBatches, Vocabulary
from qkv.models import BagOfWords, BertClassifier, BertTokens, LSTMClassifier, TransformerClassifier
from qkv.models.bert import CONFIG, TOKENS
from qkv.trace import record
from qkv.train import autocast
from qkv.types import AttentionMap

VOCABULARY, ENCODER = "vocabulary.json", "encoder"
"""Where a run keeps its tokens: a vocabulary of its own, or the folder of a published encoder without its weights."""

BAG = "bag-of-words"
_POSITIONS = 8192  # in a batch that is read without gradients

Probabilities = Float[np.ndarray, "texts classes"]


@dataclass(frozen=True)
class Network:
    """A network with its tokens.

    Attributes:
        name: what the recipe calls it.
        max_length: so many tokens of a text are read.
        precision: what answers are computed in.
    """

    name: str
    model: LSTMClassifier | TransformerClassifier | BertClassifier
    tokens: Vocabulary | BertTokens
    max_length: int
    precision: Literal["auto", "float32", "bfloat16"]

    @property
    def device(self) -> torch.device:
        return self.model.output.weight.device

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, at least one and at most `max_length`."""
        if isinstance(self.tokens, BertTokens):
            return self.tokens.ids(texts, self.max_length)
        return [ids[: self.max_length] or [self.tokens.unk_id] for ids in self.tokens.encode_many(texts)]

    def batches(
        self, texts: Sequence[str], labels: Sequence[int], positions: int, *, seed: int = 0, shuffle: bool = False
    ) -> TextBatches:
        """Texts with the numbers of their labels, in batches of so many positions."""
        pad_id = self.tokens.pad_id
        return TextBatches(
            self.ids(texts), labels, tokens_per_batch=positions, seed=seed, pad_id=pad_id, shuffle=shuffle
        )

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """How likely each text has each label."""
        # In place of its label each text carries its place, as batches come in the order of lengths.
        batches = self.batches(texts, range(len(texts)), max(_POSITIONS, self.max_length))
        found = np.empty((len(texts), self.model.output.out_features))
        self.model.eval()
        with torch.inference_mode(), autocast(self.precision, self.device)():
            for batch in batches.epoch(0):
                read = batch.to(self.device)
                logits = self.model(read.ids, read.real)
                found[batch.label.numpy()] = logits.double().softmax(dim=1).cpu().numpy()
        return found

    def maps(self, text: str) -> list[AttentionMap]:
        """What each token of a text attends to, layer by layer; nothing of an LSTM."""
        ids = self.ids([text])
        read = torch.tensor(ids, device=self.device)
        self.model.eval()
        with record() as trace, torch.inference_mode():
            self.model(read, torch.ones_like(read, dtype=torch.bool))
        return trace.maps(self.tokens.tokens(ids[0]))


@dataclass(frozen=True)
class Classifier:
    """A bag of words, and a network where there is one; `bag_share` tells how far the first counts beside the other."""

    labels: Sequence[str]
    bag: BagOfWords
    network: Network | None
    bag_share: float

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """How likely each text has each label."""
        if not texts:
            return np.empty((0, len(self.labels)))
        if self.network is not None and self.bag_share == 0:
            return self.network.probabilities(texts)
        return self.joined(self.answers(texts))

    def answers(self, texts: Sequence[str]) -> dict[str, Probabilities]:
        """The probabilities of the network, if there is one, and of the bag of words, by their names."""
        own = {} if self.network is None else {self.network.name: self.network.probabilities(texts)}
        return own | {BAG: self.bag.probabilities(texts)}

    def joined(self, answers: Mapping[str, Probabilities]) -> Probabilities:
        """The probabilities of both as one: `softmax((1 - s) log p + s log q)`, `s` the share of the bag of words."""
        if self.network is None:
            return answers[BAG]
        p, q = (np.log(np.maximum(answers[name], 1e-12)) for name in (self.network.name, BAG))
        return softmax((1 - self.bag_share) * p + self.bag_share * q, axis=1)

    def label(self, probabilities: Sequence[float]) -> str:
        """The most probable label."""
        return self.labels[int(np.argmax(probabilities))]


def keep_encoder(published: Path, folder: Path) -> None:
    """Keeps of a published encoder what reads texts for it: its sizes and its tokens."""
    for name in (CONFIG, TOKENS):
        files.write_bytes(folder / ENCODER / name, files.require_file(published / name).read_bytes())


def tokens_in(folder: Path) -> Vocabulary | BertTokens:
    """The tokens of a run."""
    if (folder / ENCODER).is_dir():
        return BertTokens.from_folder(folder / ENCODER)
    return Vocabulary.from_json(files.require_file(folder / VOCABULARY).read_text(encoding="utf-8"))
