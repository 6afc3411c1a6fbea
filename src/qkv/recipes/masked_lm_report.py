"""The page that tells a masked language model's run: how training went, what it costs by place, what it has learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qkv import draw
from qkv.data import NGrams
from qkv.draw import Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.recipes.base import Shown, loss_curves
from qkv.recipes.masked_lm_data import MASK, UNKNOWN
from qkv.recipes.masked_lm_show import LanguageModel, Sampling, predictions
from qkv.types import Run
from qkv.vectors import WordVectors
from qkv.vectors.layout import word_map

_MAPPED = 300
_ASKED, _NEAR, _LETTERS = 10, 6, 3
_FEWEST = 3


def report(run: Run, known: LanguageModel, grams: NGrams, vectors: WordVectors | None, command: str) -> str:
    """The report of a finished run; `vectors` are those of its embedding, the most frequent words first."""
    config, result = run.config, run.result
    model = config["model"]
    blocks: list[Block] = [
        Paragraph(f"{result['data']}. {_told(run)}"),
        Heading("Cross-entropy"),
        _scores(model, result),
        Paragraph(_overlap(result)),
        Heading("By place"),
        _by_place(model, config["task"], result),
    ]
    if known.is_causal:
        blocks.append(
            Paragraph(
                "The causal model reads only the words before: what it is asked in a place is another task than a "
                "masked model's, and the easier the more words stand there. The numbers of the baselines, which read "
                "both sides, are no measure for it but in the last place."
            )
        )
    if run.history:
        blocks += [
            Heading("How training went"),
            Figure(draw.svg(draw.curves(loss_curves(run, "step"), x="batches")), _training(config)),
            Figure(draw.svg(draw.curves(loss_curves(run, "seconds"), x="seconds")), "The same against time."),
        ]
    blocks += _example(known, grams)
    if known.is_causal:
        blocks += [
            Heading("Drawn from it"),
            Preformatted("\n".join(known.continued([], Sampling(samples=10)))),
        ]
    if vectors is not None:
        blocks += _words(vectors, run)
    blocks += [Heading("How this was made"), Facts(facts(run)), Preformatted(command)]
    return draw.report_page(f"Masked language model: {model} on {config['data']}", blocks)


def _told(run: Run) -> str:
    """What was predicted from what, and how the model was chosen."""
    asked = (
        "A word of each row is hidden and predicted from the others; to judge, each place is hidden in turn."
        if run.config["task"] == "masked"
        else "The last word of each row is predicted from those before it."
    )
    unknown = f" {UNKNOWN} is to be predicted like any word." if UNKNOWN in run.result["data"] else ""
    return (
        f"{asked}{unknown} The model was chosen on the validation part; the test part was read once. "
        "All numbers are nats a hidden word."
    )


def _scores(model: str, result: Mapping[str, Any]) -> Table:
    rows = {model: result["metrics"]} | result["baselines"]
    return Table(
        ["", "training", "validation", "test", "perplexity, test"],
        [
            [
                name,
                *(float(scores[f"cross_entropy{part}"]) for part in ("_train", "_valid", "")),
                float(scores["perplexity"]),
            ]
            for name, scores in rows.items()
        ],
        digits=3,
        best={"test": "lowest", "perplexity, test": "lowest"},
        caption="counts: smoothed counts of n-grams on both sides; unigram: how often each word stands in its place.",
    )


def _overlap(result: Mapping[str, Any]) -> str:
    """How many test rows are nothing new, and why."""
    why = (
        "texts were dealt out whole, but short phrases repeat"
        if UNKNOWN in result["data"]
        else "phrases repeat, and n-grams that were cut from one sentence share words but were dealt out one by one"
    )
    return (
        f"{result['seen']:.0%} of the test rows stand in training too, word for word: {why}. A model that remembers "
        "does well on them, as counts do."
    )


def _by_place(model: str, task: str, result: Mapping[str, Any]) -> Table:
    rows = {model: result["metrics"]} | result["baselines"]
    places = [str(place) for place in range(1, len(result["metrics"]["cross_entropy_by_place"]) + 1)]
    header = ["", *(places if task == "masked" else ["last"])]
    table = [[name, *map(float, scores["cross_entropy_by_place"])] for name, scores in rows.items()]
    best = dict.fromkeys(header[1:], "lowest")
    caption = "Cross-entropy on the test part where the word of this place is hidden."
    return Table(header, table, digits=3, best=best, caption=caption)  # pyright: ignore[reportArgumentType]


def _training(config: Mapping[str, Any]) -> str:
    """What the two curves are means over."""
    fit = config["fit"]
    return (
        f"Training: means over {fit['log_every']:,} batches of {config['batch_size']:,} rows, words hidden at random, "
        "with dropout where the model has it. Validation: each place of each row in turn."
    )


def _example(known: LanguageModel, grams: NGrams) -> list[Block]:
    """A row of the test part with a hidden word: what was expected there, and what was attended to."""
    if known.is_causal:
        return []
    row = _telling(grams)
    place = known.length - 1 if known.task == "next" else known.length // 2
    said = [known.words[word] for word in row]
    phrase = " ".join([*said[:place], MASK, *said[place + 1 :]])
    found = known.expected(row, place, 8)
    blocks: list[Block] = [
        Heading("A hidden word"),
        Paragraph(f"“{phrase}”, of the test part, where “{said[place]}” stood:"),
        Table(["word", "probability"], [[one.word, one.probability] for one in found], digits=4),
    ]
    shown = predictions(known, phrase, layer=None, head=None)
    if isinstance(shown, Shown):
        blocks += [
            Figure(draw.attention_svg(shown.figure), "What each word attended to: the mean over layers and heads."),
            *(Figure(draw.attention_svg(one.mean()), f"Layer {number}, the mean over its heads.")
              for number, one in enumerate(shown.maps)),
        ]  # fmt: skip
    return blocks


def _telling(grams: NGrams) -> list[int]:
    """The row of the test part with the longest words, of those whose words are known and different."""
    letters = np.array([0 if word in (MASK, UNKNOWN) else len(word) for word in grams.words])
    lengths = letters[grams.test].min(axis=1)
    return grams.test[int(lengths.argmax())].tolist()


def _words(vectors: WordVectors, run: Run) -> list[Block]:
    """Nearest words, a map, and how to ask for more."""
    often = [word for word in vectors.words if len(word) >= _LETTERS][:_ASKED]
    near = [[word, ", ".join(one.word for one in vectors.nearest(word, top=_NEAR))] for word in often]
    blocks: list[Block] = [
        Heading("What words are near"),
        Table(["word", "nearest in the embedding, by the cosine"], near),
    ]
    drawn = vectors.subset(vectors.words[:_MAPPED])
    if len(drawn) >= _FEWEST and drawn.dim > 1:
        laid_out = word_map(drawn, title=f"{len(drawn)} words", seed=run.seed)
        blocks.append(Figure(draw.word_map_svg([laid_out]), "The most frequent words of the embedding."))
    blocks += [
        Paragraph("The embedding is a file of word vectors beside this page:"),
        Preformatted(
            f"qkv vectors nearest {run.path / 'vectors.npz'} {often[0] if often else vectors.words[0]}\n"
            f"qkv vectors map {run.path / 'vectors.npz'}"
        ),
    ]
    return blocks


def facts(run: Run) -> dict[str, str]:
    """What a reader needs to know to judge the scores."""
    result, rows = run.result, run.result["rows"]
    found = {
        "data": run.config["data"],
        "rows": f"{rows['train']:,} to train on, {rows['valid']:,} to choose by, {rows['test']:,} to judge by",
        "numbers fitted": f"{result['parameters']:,}",
    }
    if "steps" in result:
        found |= {
            "training": f"{result['steps']:,} batches, {result['epochs']:.1f} epochs, {result['seconds']:,.0f} seconds",
            "weights taken from": f"batch {result['best_step']:,}, validation {result['valid_loss']:.4f}",
        }
    return found | {"seed": str(run.seed)}
