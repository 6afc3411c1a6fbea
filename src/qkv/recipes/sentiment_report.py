"""The page that tells a run of the recipe sentiment: scores, confusion, calibration, mistakes, how training went."""

from collections.abc import Mapping, Sequence
from typing import Any

from qkv import draw
from qkv.draw import Calibrated, Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.recipes.base import loss_curves
from qkv.recipes.sentiment_show import Answer, blocks
from qkv.types import Run

_MISTAKES = 10


def report(run: Run, example: Answer, command: str) -> str:
    """The report of a finished run; `example` is the answer to one text of the test part."""
    result, config = run.result, run.config
    low, high = (f"{end:.1%}" for end in result["interval"])
    made: list[Block] = [
        Paragraph(
            f"A {_called(run)} tells {_listed(result['labels'])} in {config['data']}. It was chosen on the validation "
            f"part; the scores below are of the test part, which shares no text with the others and was read once."
        ),
        Heading("Scores on the test part"),
        _scores(run),
        Paragraph(
            f"Accuracy of {result['metrics']['accuracy']:.1%}, between {low} and {high} with other texts of the same "
            "kind (95 % interval). That of other seeds takes several runs: --seeds 3."
        ),
        Heading("What was taken for what"),
        _confusion(result),
        Heading("How far to believe it"),
        Figure(
            draw.svg(draw.calibration([Calibrated(**one) for one in result["calibration"]])),
            "Answers by their confidence. On the dashed line as many are right as the confidence says; below it the "
            f"model is too sure. They lie {result['metrics']['calibration_error']:.1%} apart in the mean.",
        ),
        Heading("One text"),
        *blocks(example),
        Heading("The surest mistakes"),
        _mistakes(result["mistakes"][:_MISTAKES]),
    ]
    if run.history:
        made += [
            Heading("How training went"),
            Figure(
                draw.svg(draw.curves(loss_curves(run))),
                "Loss a text. While training, dropout raises it; the validation loss has none.",
            ),
        ]
    made += [Heading("What was trained on what"), Facts(facts(run)), Preformatted(command)]
    return draw.report_page(f"Sentiment: {config['model']} on {config['data']}", made)


def _called(run: Run) -> str:
    names = {
        "bag-of-words": "bag of words",
        "lstm": "bidirectional LSTM",
        "transformer": "Transformer",
        "pretrained": "published encoder",
        "blend": f"blend of {len(run.result['weights'])} readers",
    }
    return names[run.config["model"]]


def _listed(labels: list[str]) -> str:
    return f"{', '.join(labels[:-1])} from {labels[-1]}"


def _scores(run: Run) -> Table:
    result = run.result
    rows: Mapping[str, Mapping[str, Any]] = {run.config["model"]: result["metrics"]} | result["baselines"]
    groups = [name for name in result["metrics"] if name.startswith("accuracy_")]
    shares = ["accuracy", *groups, "macro_f1"]
    header = ["", "accuracy", *(name.removeprefix("accuracy_").replace("_", " ") for name in groups), "macro F1"]
    return Table(
        [*header, "cross-entropy", "calibration error"],
        [
            [
                name,
                *(f"{100 * scores[share]:.2f}%" for share in shares),
                f"{scores['cross_entropy']:.4f}",
                f"{scores['calibration_error']:.4f}",
            ]
            for name, scores in rows.items()
        ],
        best={"accuracy": "highest", "macro F1": "highest", "cross-entropy": "lowest"},
    )


def _confusion(result: Mapping[str, Any]) -> Table:
    labels, counts = result["labels"], result["confusion"]
    return Table(
        ["label", *(f"answered {label}" for label in labels), "right"],
        [
            [label, *row, f"{100 * row[place] / max(sum(row), 1):.1f}%"]
            for place, (label, row) in enumerate(zip(labels, counts, strict=True))
        ],
        caption="Test texts by their label and the answer.",
    )


def _mistakes(mistakes: Sequence[Mapping[str, Any]]) -> Block:
    if not mistakes:
        return Paragraph("There are none.")
    header = ["text", "label", "answer", "probability"]
    rows = [[one[name] for name in header] for one in mistakes]
    return Table(header, rows, digits=3, caption="Of the test part. Some are the labels' own.")


def facts(run: Run) -> dict[str, str]:
    """What a reader needs to know to judge the scores."""
    result, texts, left = run.result, run.result["texts"], run.result["left_out"]
    found = {
        "data": run.config["data"],
        "texts": f"{texts['train']:,} to train on, {texts['valid']:,} to choose by, {texts['test']:,} to judge by",
        "left out": f"{left['repeated']:,} that repeat others, {left['contradicted']:,} with several labels",
        "cleaning": ", ".join(run.config["cleaning"]) or "none",
        "parameters trained": f"{result['parameters']:,}",
    }
    if "steps" in result:
        found |= {
            "training": f"{result['steps']:,} steps, {result['epochs']:.1f} epochs, {result['seconds']:,.0f} seconds",
            "speed": f"{result['texts_per_second']:,.0f} texts a second",
            "weights taken from": f"step {result['best_step']:,}, validation loss {result['valid_loss']:.4f}",
        }
    if run.config["teacher"]:
        found["teacher"] = f"{run.config['teacher']}, {run.config['teacher_share']:.0%} of what was learned"
    if "adapted" in result:
        read = result["adapted"]
        took = f"{read['epochs']} epochs, {read['seconds']:,.0f} seconds"
        found["read without labels"] = f"{took}; validation loss {read['valid_loss']:.4f} a hidden token"
    if len(result["weights"]) > 1:
        found["weights"] = ", ".join(f"{name} {weight:.2f}" for name, weight in result["weights"].items())
    if "coverage" in result:
        found["pretrained vectors"] = f"{run.config['embeddings']}, {result['coverage']:.0%} of the tokens"
    return found | {"seed": str(run.seed)}
