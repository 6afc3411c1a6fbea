"""The page that tells a speech run, and the page of one recording: what was heard, and where."""

from collections.abc import Mapping, Sequence
from typing import Any

from qkv import draw
from qkv.draw import Curve, Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.recipes.base import Drawn, attended, loss_curves
from qkv.recipes.speech_model import Heard
from qkv.types import AttentionMap, Run

_SHOWN = 10
_MEASURES = {"jaccard": "Jaccard", "cosine": "cosine", "damerau_levenshtein": "Damerau-Levenshtein"}


def report(run: Run, shown: Heard, command: str) -> str:
    """The report of a finished run; `shown` is a recording of its test part."""
    result, config = run.result, run.config
    figure = alignment(shown)
    blocks: list[Block] = [
        Paragraph(
            f"An encoder under a decoder of kind {config['model']}, trained to write down {config['data']}. It was "
            "chosen by its loss on the validation part; the scores below are of the test part, which was read once."
        ),
        Heading("Scores on the test part"),
        scores(config["model"], result),
        Paragraph(
            "Jaccard compares the sets of tokens, cosine their counts, Damerau-Levenshtein the lists: it alone sees "
            "order. Error rates are edits over tokens of the references."
        ),
        Heading("What it listened to"),
        Figure(
            draw.heard_svg(shown.log_mel, figure, seconds=shown.seconds, title=shown.text),
            "Each token over the log-mel picture where the middle of its attention lies, and its weights below.",
        ),
        Heading("How training went"),
        Figure(
            draw.svg(draw.curves(loss_curves(run))),
            "Loss a token. While training, variation, dropout and smoothed labels raise it.",
        ),
        *similarity_figures(run),
        Heading("The measures beside one another"),
        correlations(result["rank_correlations"]),
    ]
    if result["disputed"]:
        blocks += [Heading("Where measures disagree most", 3), transcripts(result["disputed"][:_SHOWN], result["unit"])]
    blocks += [
        Heading("Some transcripts"),
        transcripts(result["examples"][:_SHOWN], result["unit"]),
        Heading("What was trained on what"),
        Facts(facts(run)),
        Preformatted(command),
    ]
    return draw.report_page(f"Speech: {config['model']} on {config['data']}", blocks)


def scores(model: str, result: Mapping[str, Any]) -> Table:
    """Scores of the model, of the same on a speaker that it never heard, and of baselines."""
    systems = {model: result["metrics"]}
    systems |= {f"{model}, on {name}": metrics for name, metrics in result["elsewhere"].items()} | result["baselines"]
    units = ("words", "characters")
    names = {f"{measure}_{unit}": f"{name}, {unit}" for unit in units for measure, name in _MEASURES.items()}
    names |= {"word_error_rate": "word errors", "character_error_rate": "character errors", "loss": "loss"}
    return Table(
        ["", *systems],
        [[name, *(one.get(metric) for one in systems.values())] for metric, name in names.items()],
        digits=3,
    )


def similarity_figures(run: Run) -> list[Block]:
    """The three measures after each epoch, on words and on characters."""
    valid = [line for line in run.history if line["part"] == "valid"]
    return [
        Figure(
            draw.svg(draw.curves(similarity_curves(valid, unit), y=f"similarity, {unit}")),
            f"The three measures on {unit} of validation recordings, after each epoch.",
        )
        for unit in ("words", "characters")
    ]


def similarity_curves(valid: Sequence[Mapping[str, Any]], unit: str) -> list[Curve]:
    steps = [line["step"] for line in valid]
    return [
        Curve(name, steps, [line[f"{measure}_{unit}"] for line in valid], "validation")
        for measure, name in _MEASURES.items()
    ]


def correlations(found: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Spearman's rank correlation over transcripts of each two measures."""
    pairs = [("jaccard", "cosine"), ("jaccard", "damerau_levenshtein"), ("cosine", "damerau_levenshtein")]
    return Table(
        ["rank correlation over transcripts", *found],
        [
            [
                f"{_MEASURES[first]} and {_MEASURES[second]}",
                *(each[f"{first}_{unit}, {second}_{unit}"] for unit, each in found.items()),
            ]
            for first, second in pairs
        ],
    )


def transcripts(some: Sequence[Mapping[str, Any]], unit: str) -> Table:
    """What was said, what was understood, and how alike they are on words or on characters."""
    return Table(
        ["said", "understood", *_MEASURES.values()],
        [
            [one["reference"], one["text"], *(one["similarities"][f"{measure}_{unit}"] for measure in _MEASURES)]
            for one in some
        ],
        caption=f"Similarities are on {unit}.",
    )


def facts(run: Run) -> dict[str, str]:
    """What a reader needs to know to judge the scores."""
    result, parts = run.result, run.result["recordings"]
    return {
        "data": run.config["data"],
        "recordings": f"{parts['train']:,} an epoch to train on, {parts['valid']:,} to choose by, "
        f"{parts['test']:,} to judge by",
        "parameters": f"encoder {result['parts']['encoder']:,}, decoder {result['parts']['decoder']:,}",
        "symbols": str(result["symbols"]),
        "training": f"{result['steps']:,} steps, {result['epochs']:.1f} epochs, {result['seconds'] / 60:.1f} minutes",
        "speed": f"{result['audio_seconds_per_second']:,.0f} seconds of audio a second in training, "
        f"{result['decoding_audio_seconds_per_second']:,.0f} in decoding",
        "weights taken from": f"step {result['best_step']:,}, validation loss {result['valid_loss']:.4f}",
        "seed": str(run.seed),
    }


def alignment(heard: Heard, *, layer: int | None = None, head: int | None = None) -> AttentionMap:
    """The attention from tokens to the recording: the mean over heads, unless one is named.

    Raises:
        InputError: no such layer or head.
    """
    return attended([one for one in heard.maps if one.kind == "cross"], layer=layer, head=head)


def drawn(heard: Heard, changed: str, *, layer: int | None = None, head: int | None = None) -> Drawn:
    """The transcript of a recording with the picture of where its tokens were heard; `changed` is what had to be done
    to read it."""
    figure = alignment(heard, layer=layer, head=head)
    title = heard.text or "nothing was heard"
    look: Any = {"seconds": heard.seconds, "title": title}
    svg = draw.heard_svg(heard.log_mel, figure, **look)
    page = draw.report_page(
        title,
        [
            Paragraph(
                f"{heard.seconds:.2f} seconds{changed}. Each token stands over the log-mel picture where the middle of "
                "its attention lies; its weights are below, darkest where its largest is."
            ),
            Figure(svg, f"Attention of {figure.layer}."),
        ],
    )
    png = draw.heard_png(heard.log_mel, figure, **look)
    return Drawn(heard.text, page, svg, png, {"prediction": heard.text, "seconds": heard.seconds})
