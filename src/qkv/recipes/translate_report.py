"""The page that tells a translation run: what was trained on what, how it went, what came out."""

from collections.abc import Mapping
from typing import Any

from qkv import draw
from qkv.draw import Facts, Figure, Heading, LengthScore, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.recipes.base import Shown, loss_curves
from qkv.types import Run

EXAMPLES = 10


def report(run: Run, shown: Shown | None, command: str) -> str:
    """The report of a finished run; `shown` is a sentence with its alignment, where the model has one."""
    result, config = run.result, run.config
    blocks: list[Block] = [
        Paragraph(
            f"A {config['model']} model, trained to translate {config['data']}. It was chosen by its loss on the "
            f"validation part; the scores below are of the test part, which shares no source sentence with the others "
            f"and was read once."
        ),
        Heading("Scores on the test part"),
        _scores(config["model"], result),
        Paragraph("; ".join(f"{name}: {signature}" for name, signature in result["signatures"].items())),
    ]
    if shown is not None:
        blocks += [
            Heading("What it attends to"),
            Figure(draw.attention_svg(shown.figure, style="lines"), shown.caption),
            Figure(draw.attention_svg(shown.figure), "The same weights as a matrix; each row sums to one."),
        ]
    blocks += [
        Heading("How training went"),
        Figure(
            draw.svg(draw.curves(loss_curves(run))),
            "Loss a token. While training, dropout and smoothed labels raise it; the validation loss has neither.",
        ),
        Heading("Score by length"),
        Figure(
            draw.svg(draw.by_length(length_scores(run, config["model"]), y="BLEU")),
            "BLEU of the test sentences by the length of the source in words.",
        ),
        Heading("Ten translations"),
        Table(
            ["source", "translation", "reference"],
            [
                [one["source"], one["translation"], " / ".join(one["references"])]
                for one in result["examples"][:EXAMPLES]
            ],
            caption="Drawn at random from the test part.",
        ),
        Heading("What was trained on what"),
        Facts(facts(run)),
        Preformatted(command),
    ]
    return draw.report_page(f"Translation: {config['model']} on {config['data']}", blocks)


def _scores(model: str, result: Mapping[str, Any]) -> Table:
    unseen = result["unseen_targets"]
    rows = {model: result["metrics"]} | result["baselines"]
    return Table(
        ["", "BLEU", "chrF", "exact match", "loss a token", "BLEU, unseen"],
        [
            [
                name,
                scores["bleu"],
                scores["chrf"],
                f"{scores['exact_match']:.2%}",
                scores.get("loss"),
                unseen.get(name, {}).get("bleu"),
            ]
            for name, scores in rows.items()
        ],
        best=dict.fromkeys(("BLEU", "chrF", "BLEU, unseen"), "highest"),
        caption=(
            f"Unseen: the {unseen[model]['sentences']:,} test sentences none of whose translations stands in training "
            "as the translation of another source."
            if unseen
            else ""
        ),
    )


def length_scores(run: Run, name: str) -> list[LengthScore]:
    return [
        LengthScore(name, bucket["words"], bucket["bleu"], bucket["sentences"]) for bucket in run.result["by_length"]
    ]


def facts(run: Run) -> dict[str, str]:
    """What a reader needs to know to judge the scores."""
    result = run.result
    pairs = result["pairs"]
    return {
        "data": run.config["data"],
        "pairs": f"{pairs['train']:,} to train on, {pairs['valid']:,} to choose by, {pairs['test']:,} to judge by",
        "parameters trained": f"{result['parameters']:,}",
        "pretrained vectors": ", ".join(
            f"{side}, {found['coverage']:.0%} of the tokens" for side, found in result["embeddings"].items()
        )
        or "none",
        "training": f"{result['steps']:,} steps, {result['epochs']:.1f} epochs, {result['seconds'] / 60:.1f} minutes",
        "speed": f"{result['tokens_per_second']:,.0f} tokens a second, both sides counted, padding not",
        "weights taken from": f"step {result['best_step']:,}, validation loss {result['valid_loss']:.4f}",
        "seed": str(run.seed),
    }
