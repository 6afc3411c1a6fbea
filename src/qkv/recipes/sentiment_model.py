"""Classifiers of texts as the recipe sentiment has them: text in, probabilities out."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from qkv import files
from qkv.data import TextBatches, Vocabulary
from qkv.models import BertClassifier, BertTokens, LSTMClassifier, TransformerClassifier
from qkv.models.bert import CONFIG, TOKENS
from qkv.trace import record
from qkv.train import RunFolder, autocast
from qkv.types import AttentionMap

VOCABULARY, ENCODER = "vocabulary.json", "encoder"
"""Where a run keeps its tokens: a vocabulary of its own, or the folder of a published encoder without its weights."""

BLENDED = "blended"
"""Where a blend keeps the runs that it joins."""

ADAPTED = "adapted"
"""Where a run keeps how a network was trained before it was told labels."""

TAUGHT = "taught.safetensors"
"""Where a run that is not finished keeps the answers of its teacher."""

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
        self,
        texts: Sequence[str],
        labels: Sequence[int] | Float32[np.ndarray, "texts classes"],
        positions: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
    ) -> TextBatches:
        """Texts with the numbers of their labels, or with the probabilities of all labels, in batches of so many
        positions."""
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


@runtime_checkable
class Reader(Protocol):
    """Whoever answers texts."""

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """How likely each text has each label."""
        ...


@dataclass(frozen=True)
class Classifier:
    """Readers of texts, one of which answers, or several together.

    Attributes:
        readers: by their names; those that do not answer are there to be compared with.
        weights: of the readers that answer; 1 of one alone.
    """

    labels: Sequence[str]
    readers: Mapping[str, Reader]
    weights: Mapping[str, float]

    @property
    def network(self) -> Network | None:
        """The network that answers, where one alone does."""
        alone = self.readers[next(iter(self.weights))] if len(self.weights) == 1 else None
        return alone if isinstance(alone, Network) else None

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """How likely each text has each label."""
        if not texts:
            return np.empty((0, len(self.labels)))
        return pooled({name: self.readers[name].probabilities(texts) for name in self.weights}, self.weights)

    def answers(self, texts: Sequence[str]) -> dict[str, Probabilities]:
        """The probabilities of every reader."""
        return {name: reader.probabilities(texts) for name, reader in self.readers.items()}

    def label(self, probabilities: Sequence[float]) -> str:
        """The most probable label."""
        return self.labels[int(np.argmax(probabilities))]


def pooled(answers: Mapping[str, Probabilities], weights: Mapping[str, float]) -> Probabilities:
    """The logarithmic opinion pool, `p` proportional to the product of `p_i ** w_i` (Genest and Zidek 1986).

    >>> pooled({"a": np.array([[0.5, 0.5]]), "b": np.array([[0.9, 0.1]])}, {"a": 1.0, "b": 0.5})  # odds of 3 = sqrt(9)
    array([[0.75, 0.25]])
    """
    if len(weights) == 1:
        return answers[next(iter(weights))]
    return softmax(sum(weight * _logs(answers[name]) for name, weight in weights.items()), axis=1)


def pool_weights(answers: Mapping[str, Probabilities], targets: Int64[np.ndarray, " texts"]) -> dict[str, float]:
    """The weights, none below zero, with which the pool of these answers has the least cross-entropy (convex)."""
    logs = np.stack([_logs(one) for one in answers.values()])
    true = logs[:, np.arange(len(targets)), targets]

    def cross_entropy(weights: Float[np.ndarray, " readers"]) -> tuple[float, Float[np.ndarray, " readers"]]:
        joined = np.einsum("i,itc->tc", weights, logs)
        expected = np.einsum("tc,itc->it", softmax(joined, axis=1), logs)
        return float((logsumexp(joined, axis=1) - weights @ true).mean()), (expected - true).mean(axis=1)

    start = np.full(len(logs), 1 / len(logs))
    found = minimize(cross_entropy, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(logs))
    return dict(zip(answers, found.x.tolist(), strict=True))


def _logs(probabilities: Probabilities) -> Probabilities:
    return np.log(np.maximum(probabilities, 1e-12))


def keep_encoder(published: Path, folder: Path) -> None:
    """Keeps of a published encoder what reads texts for it: its sizes and its tokens."""
    for name in (CONFIG, TOKENS):
        files.write_bytes(folder / ENCODER / name, files.require_file(published / name).read_bytes())


def keep_run(finished: Path, folder: Path) -> None:
    """Keeps a copy of a finished run: what it answers by, without how it came about."""
    leave = shutil.ignore_patterns("state", "metrics.jsonl", "report.html")
    shutil.copytree(finished, folder, ignore=leave, dirs_exist_ok=True)


def forget_beginnings(folder: Path) -> None:
    """Removes what a finished run needs no longer: its teacher's answers, and the weights that it went on from."""
    (folder / TAUGHT).unlink(missing_ok=True)
    if (folder / ADAPTED).is_dir():
        adapted = RunFolder.open(folder / ADAPTED)
        adapted.drop_state()
        adapted.drop_weights()


def tokens_in(folder: Path) -> Vocabulary | BertTokens:
    """The tokens of a run."""
    if (folder / ENCODER).is_dir():
        return BertTokens.from_folder(folder / ENCODER)
    return Vocabulary.from_json(files.require_file(folder / VOCABULARY).read_text(encoding="utf-8"))
