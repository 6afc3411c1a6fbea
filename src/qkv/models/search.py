"""Greedy and beam search over any model that decodes a token at a time, in batches, with its caches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from qkv.errors import InputError


@runtime_checkable
class DecodingState(Protocol):
    """What a model carries from one token to the next, a row for each sentence."""

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        ...

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keeps these rows, in this order; a row may be taken twice."""
        ...


@runtime_checkable
class StepDecoder(Protocol):
    """A model that can be searched."""

    def start(
        self, source: Shaped[Tensor, "batch length *width"], source_mask: Bool[Tensor, "batch length"], max_length: int
    ) -> Any:
        """Reads the source; returns a `DecodingState` with a row a sentence."""
        ...

    def step(self, tokens: Int[Tensor, " rows"], state: Any) -> Float[Tensor, "rows vocab"]:
        """The logits of the next token after `tokens`, the last ones of each row; moves `state` on."""
        ...


@dataclass(frozen=True)
class Hypothesis:
    """Token ids without start and end, and their log probability divided by the length penalty, if it was asked for."""

    ids: list[int]
    score: float | None


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        beam_size: 1 is greedy.
        length_penalty: alpha of Wu et al. (2016), eq. 14; 0 does not normalise.
        max_length: tokens after which a sentence is cut.
        forbidden: ids never to be chosen.
        scored: whether a greedy search is to say its scores, for which it must normalise every distribution.
    """

    bos_id: int
    eos_id: int
    beam_size: int = 1
    length_penalty: float = 0.6
    max_length: int = 200
    forbidden: Sequence[int] = ()
    scored: bool = True

    def __post_init__(self) -> None:
        for name in ("beam_size", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is too small", expected="at least 1", got=str(getattr(self, name)))


@torch.inference_mode()
def search(
    model: StepDecoder,
    source: Shaped[Tensor, "batch length *width"],
    source_mask: Bool[Tensor, "batch length"],
    options: SearchOptions,
) -> list[Hypothesis]:
    """The best translation found for each row of `source`: greedy for a beam of 1, else by beam search."""
    return (_greedy if options.beam_size == 1 else _beam)(model, source, source_mask, options)


def length_penalty(length: int, alpha: float) -> float:
    """`((5 + length) / 6) ** alpha`: Wu et al. (2016), eq. 14, without their coverage term.

    >>> length_penalty(7, 1.0)
    2.0
    """
    return ((5 + length) / 6) ** alpha


def _greedy(model: StepDecoder, source: Tensor, source_mask: Tensor, options: SearchOptions) -> list[Hypothesis]:
    state = model.start(source, source_mask, options.max_length)
    sentences = source.shape[0]
    output = torch.full((sentences, options.max_length), options.eos_id, device=source.device)
    scores = torch.zeros(sentences, device=source.device)
    rows = torch.arange(sentences, device=source.device)  # the sentence that each live row of the state decodes
    tokens = torch.full_like(rows, options.bos_id)
    live = torch.ones_like(rows, dtype=torch.bool)
    for position in range(options.max_length):
        logits = _allowed(model.step(tokens, state), options)
        best, tokens = logits.max(dim=-1)  # half the time of argmax on a processor
        if options.scored:
            scores[rows] += torch.where(live, best - logits.logsumexp(dim=-1), 0)
        output[rows, position] = torch.where(live, tokens, options.eos_id)
        live = live & (tokens != options.eos_id)
        count = int(live.sum())
        if count == 0:
            break
        if count <= 0.8 * len(live):  # dropping rows copies the caches: worth it for several at once
            kept = live.nonzero().squeeze(1)
            rows, tokens, live = rows[kept], tokens[kept], live[kept]
            state.select(kept)
    lengths = (output != options.eos_id).sum(dim=1)
    # the end counts as a token, where it came
    penalties = [
        length_penalty(min(length + 1, options.max_length), options.length_penalty) for length in lengths.tolist()
    ]
    return [
        Hypothesis(ids[:length], score / penalty if options.scored else None)
        for ids, length, score, penalty in zip(
            output.tolist(), lengths.tolist(), scores.tolist(), penalties, strict=True
        )
    ]


def _beam(model: StepDecoder, source: Tensor, source_mask: Tensor, options: SearchOptions) -> list[Hypothesis]:
    """Each sentence keeps its `beam_size` best unfinished prefixes, and ends when as many have finished.

    A finished prefix counts only if it was among the best `beam_size` candidates of its step; the candidates are
    twice as many, so that enough unfinished ones remain whatever ends.
    """
    beam, device = options.beam_size, source.device
    state = model.start(source, source_mask, options.max_length)
    sentences = list(range(source.shape[0]))  # those not decided yet, in the order of the state's groups of rows
    finished: list[list[Hypothesis]] = [[] for _ in sentences]
    state.select(torch.arange(len(sentences), device=device).repeat_interleave(beam))
    prefixes = torch.full((len(sentences) * beam, 1), options.bos_id, device=device)
    # All rows of a group start equal: only its first may be continued at the first step.
    scores = torch.tensor([0.0] + [-torch.inf] * (beam - 1), device=device).repeat(len(sentences), 1)
    for position in range(1, options.max_length + 1):
        log_probabilities = _allowed(model.step(prefixes[:, -1], state), options).log_softmax(dim=-1)
        vocabulary = log_probabilities.shape[-1]
        totals = (scores.reshape(-1, 1) + log_probabilities).reshape(len(sentences), beam * vocabulary)
        candidates, places = totals.topk(2 * beam, dim=1)
        groups = torch.arange(len(sentences), device=device)[:, None] * beam
        parents, tokens = groups + places // vocabulary, places % vocabulary
        ends = tokens == options.eos_id

        penalty = length_penalty(position, options.length_penalty)
        ended = ends[:, :beam] & candidates[:, :beam].isfinite()
        for group, rank in ended.nonzero().tolist():
            ids = prefixes[parents[group, rank], 1:].tolist()
            finished[sentences[group]].append(Hypothesis(ids, float(candidates[group, rank]) / penalty))

        scores, order = candidates.masked_fill(ends, -torch.inf).topk(beam, dim=1)
        rows = parents.gather(1, order)
        tokens = tokens.gather(1, order)
        undecided = [group for group, sentence in enumerate(sentences) if len(finished[sentence]) < beam]
        if position == options.max_length:
            for group in undecided:  # cut at the greatest length: the best prefix counts where none has ended
                if not finished[sentences[group]]:
                    ids = [*prefixes[rows[group, 0], 1:].tolist(), int(tokens[group, 0])]
                    finished[sentences[group]].append(Hypothesis(ids, float(scores[group, 0]) / penalty))
            break
        if not undecided:
            break
        kept = torch.tensor(undecided, device=device)
        sentences = [sentences[group] for group in undecided]
        scores, rows, tokens = scores[kept], rows[kept].flatten(), tokens[kept].flatten()
        prefixes = torch.cat([prefixes[rows], tokens[:, None]], dim=1)
        state.select(rows)
    return [max(hypotheses, key=lambda found: found.score or 0.0) for hypotheses in finished]


def _allowed(logits: Tensor, options: SearchOptions) -> Tensor:
    if not options.forbidden:
        return logits
    return logits.index_fill_(-1, torch.tensor(options.forbidden, device=logits.device), -torch.inf)
