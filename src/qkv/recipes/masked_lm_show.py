"""What a masked language model says: words in the place of a mask, words after a context, texts drawn word by word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from qkv import draw
from qkv.draw import Bar, Figure, Paragraph, Preformatted, Table
from qkv.draw.chart import Chart
from qkv.draw.report import Block
from qkv.errors import InputError
from qkv.models import CausalLM
from qkv.recipes.base import Drawn, Shown, attended, head_table
from qkv.recipes.masked_lm_data import MASK, read_words, require_one_mask
from qkv.trace import record
from qkv.types import MASK_ID, AttentionMap, Json, NGramBatch

TOP = 10
_DRAWN = 5  # words of each kind, where a figure has two bars for each


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn: see `CausalLM.sample`."""

    samples: int = 5
    temperature: float = 1.0
    top_k: int | None = None
    length: int = 12
    seed: int = 0


@dataclass(frozen=True)
class Expected:
    """A word, and how likely it is."""

    word: str
    probability: float


@dataclass(frozen=True)
class LanguageModel:
    """A trained model with its words, and the rows that it was trained on."""

    model: nn.Module
    words: list[str]
    rows: Int64[np.ndarray, "rows n"]
    task: Literal["masked", "next"]

    @property
    def length(self) -> int:
        return self.rows.shape[1]

    @property
    def is_causal(self) -> bool:
        """Whether it reads only what stands before a word."""
        return isinstance(self.model, CausalLM)

    def expected(self, ids: Sequence[int], place: int, top: int = TOP) -> list[Expected]:
        """The likeliest words in `place` of a row, the others given."""
        hidden = torch.arange(self.length)[None] == place
        batch = NGramBatch(torch.tensor([ids]), hidden)
        with torch.inference_mode():
            found = self.model.log_probabilities(batch)[0].exp()  # pyright: ignore[reportCallIssue]
        best = found.topk(min(top, len(found)))
        return [Expected(self.words[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def attention(self, ids: Sequence[int], place: int) -> list[AttentionMap]:
        """Every attention map of one row with its `place` hidden; none of models that do not attend."""
        labels = [MASK if at == place else self.words[word] for at, word in enumerate(ids)]
        hidden = torch.arange(self.length)[None] == place
        with record() as trace, torch.inference_mode():
            self.model.log_probabilities(NGramBatch(torch.tensor([ids]), hidden))  # pyright: ignore[reportCallIssue]
        return trace.maps(labels)

    def followed(self, ids: Sequence[int]) -> list[tuple[str, int]]:
        """The words that came next in rows of training which begin with `ids`, and how often, the most frequent first.

        A row that begins so stands for one place of the text.
        """
        if len(ids) >= self.length:
            raise InputError(
                "the context is too long", expected=f"at most {self.length - 1} words", got=str(len(ids)),
                hint="its last words alone",
            )  # fmt: skip
        rows = self.rows[(self.rows[:, : len(ids)] == list(ids)).all(axis=1)]
        counts = np.bincount(rows[:, len(ids)], minlength=len(self.words))
        order = np.argsort(-counts, kind="stable")
        return [(self.words[place], int(counts[place])) for place in order if counts[place]]

    def continued(self, ids: Sequence[int], sampling: Sampling) -> list[str]:
        """Texts that go on from `ids`, up to the end of a sentence where the words have one.

        Raises:
            InputError: settings that nothing can be drawn with.
        """
        assert isinstance(self.model, CausalLM)
        for name, value in (("samples", sampling.samples), ("length", sampling.length)):
            if value < 1:
                raise InputError(f"--{name} is too small", expected="1 or more", got=str(value))
        generator = torch.Generator().manual_seed(sampling.seed)
        texts = []
        for _ in range(sampling.samples):
            drawn = self.model.sample(
                torch.tensor(ids, dtype=torch.int64), sampling.length, generator,
                temperature=sampling.temperature, top_k=sampling.top_k,
            )  # fmt: skip
            said = [self.words[word] for word in [*ids, *drawn.tolist()]]
            end = next((at for at, word in enumerate(said, 1) if at > len(ids) and word in (".", "?", "!")), None)
            texts.append(" ".join(said[:end]))
        return texts


# -- what is shown ---------------------------------------------------------------------------------------------------


def predictions(known: LanguageModel, text: str, *, layer: int | None, head: int | None) -> Shown | Drawn:
    """The likeliest words in the place of the mask; with what was attended to, where the model attends.

    The mask of a model that predicts the last word may be left out.

    Raises:
        InputError: a word that is not in the vocabulary, no mask or several, a phrase that is no row.
    """
    ids = read_words(text, known.words)
    if known.task == "next" and MASK_ID not in ids:
        ids = [*ids, MASK_ID]
    require_one_mask(ids, known.length)
    place = ids.index(MASK_ID)
    if known.task == "next" and place != known.length - 1:
        raise InputError("this run predicts the last word of a row", expected=f"{MASK} at the end", got=repr(text))
    found = known.expected(ids, place)
    phrase = " ".join(known.words[word] for word in ids)
    told = "\n".join(f"{one.word:<16} {one.probability:7.2%}" for one in found)
    document = {"phrase": phrase, "predictions": [vars(one) for one in found]}
    maps = known.attention(ids, place)
    if maps:
        best = ", ".join(f"{one.word} {one.probability:.0%}" for one in found[:3])
        figure = attended(maps, layer=layer, head=head)
        caption = f"What each word of “{phrase}” attended to; in the place of the mask: {best}"
        return Shown(told, maps, figure, caption, document, head_table(maps), f"{phrase}: {best}")
    if layer is not None or head is not None:
        raise InputError("this model has no attention to show", expected="a run of transformer")
    chart = draw.bars([_bar(one) for one in found], x="probability")
    blocks: list[Block] = [
        Table(["word", "probability"], [[one.word, one.probability] for one in found], digits=4),
        Figure(draw.svg(chart), f"The likeliest words in the place of {MASK}."),
    ]
    return _drawn(told, phrase, blocks, chart, document)


def followers(known: LanguageModel, context: str) -> Drawn:
    """The words that followed `context` in training, with counts, beside what the model expects.

    Raises:
        InputError: a word that is not in the vocabulary, a mask, more words than stand before the last of a row.
    """
    ids = read_words(context, known.words)
    if MASK_ID in ids:
        raise InputError("--context with a mask", expected="words alone", hint="the phrase without --context")
    found = known.followed(ids)
    total = sum(count for _, count in found)
    expected = {}
    if len(ids) == known.length - 1:
        row = [*ids, MASK_ID]
        expected = {one.word: one.probability for one in known.expected(row, known.length - 1, len(known.words))}
    # Words that never followed but are expected stand below those that did.
    listed = list(dict.fromkeys([word for word, _ in found[:TOP]] + list(expected)[:TOP]))
    if not listed:
        raise InputError(f"{context!r} stands at the beginning of no row of training", hint="fewer words")
    counts = dict(found)
    listed.sort(key=lambda word: -counts.get(word, 0))
    rows: list[list[str | int | float | None]] = [
        [word, counts.get(word, 0), counts.get(word, 0) / max(total, 1), expected.get(word)] for word in listed
    ]
    table = Table(["word", "times in training", "share", "probability by the model"], rows, digits=4)
    phrase = " ".join(known.words[word] for word in ids)
    document = {
        "context": phrase,
        "total": total,
        "followed": [{"word": word, "count": count} for word, count in found],
        "predictions": [{"word": word, "probability": p} for word, p in list(expected.items())[:TOP]],
    }
    lines = [f"{'word':<16} {'times':>7} {'share':>8} {'model':>8}"]
    for word, count, share, p in rows:
        lines.append(f"{word:<16} {count:>7,} {share:>8.2%} {'' if p is None else f'{p:>8.2%}'}".rstrip())
    told = f"“{phrase}” stood {total:,} times at the beginning of a row of training"
    drawn = dict.fromkeys([word for word, _ in found[:_DRAWN]] + list(expected)[:_DRAWN])
    bars = [bar for word in drawn for bar in _side_by_side(word, counts.get(word, 0) / max(total, 1), expected)]
    chart = draw.bars(bars, x="share in training, and probability" if expected else "share in training")
    blocks: list[Block] = [Paragraph(f"{told}."), table, Figure(draw.svg(chart))]
    return _drawn("\n".join(lines), f"After “{phrase}”", blocks, chart, document)


def _side_by_side(word: str, share: float, expected: Mapping[str, float]) -> list[Bar]:
    """What was counted of a word, and what the model expects."""
    if not expected:
        return [_bar(Expected(word, share))]
    return [_bar(Expected(f"{word}, in training", share)), _bar(Expected(f"{word}, by the model", expected[word]))]


def drawn_texts(known: LanguageModel, text: str, sampling: Sampling) -> Drawn:
    """Texts drawn word by word that go on from `text`, and what is likeliest as the next word.

    Raises:
        InputError: a word that is not in the vocabulary, a mask.
    """
    ids = read_words(text, known.words) if text.strip() else []
    if MASK_ID in ids:
        raise InputError(
            "a causal model reads only what stands before a word", expected=f"words without {MASK}",
            hint="the words before it alone, or a run of another model",
        )  # fmt: skip
    texts = known.continued(ids, sampling)
    read = ids[-(known.length - 1) :]
    row = read + [MASK_ID] * (known.length - len(read))
    found = known.expected(row, len(read))
    chart = draw.bars([_bar(one) for one in found], x="probability")
    title = f"After “{text}”" if text.strip() else "From the beginning"
    blocks: list[Block] = [
        Preformatted("\n".join(texts)),
        Paragraph(
            f"Drawn with temperature {sampling.temperature:g}"
            + ("" if sampling.top_k is None else f" from the {sampling.top_k} likeliest words")
            + f", seed {sampling.seed}; each word knows the {known.length - 1} before it."
        ),
        Table(["next word", "probability"], [[one.word, one.probability] for one in found], digits=4),
        Figure(draw.svg(chart)),
    ]
    document = {"start": text, "samples": texts, "predictions": [vars(one) for one in found]}
    return _drawn("\n".join(texts), title, blocks, chart, document)


def _drawn(text: str, title: str, blocks: Sequence[Block], chart: Chart, document: Json) -> Drawn:
    return Drawn(text, draw.report_page(title, blocks), draw.svg(chart), draw.png(chart), document)


def _bar(one: Expected) -> Bar:
    return Bar(one.word, one.probability, one.probability, one.probability)
