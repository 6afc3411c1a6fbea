"""The page that tells what the words of a sentence attend to, and how one word's attention was sent elsewhere."""

from collections.abc import Mapping

from qkv import draw
from qkv.draw import Curve, Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.draw.steps import number
from qkv.recipes.contextualize_search import Trials
from qkv.recipes.explain import attention_map, observations
from qkv.types import Run, Trace
from qkv.vectors import EmbeddedSentence

_ENTRIES = 6


def report(run: Run, sentence: EmbeddedSentence, traces: Mapping[str, Trace], trials: Trials, command: str) -> str:
    """The report of a finished run.

    Args:
        traces: of `raw`, `scaled`, `random` and `found`, as `attend` records them.
    """
    config, metrics = run.config, run.result["metrics"]
    word, aim = (sentence.labels[run.result[end]] for end in ("word", "to"))
    absent = f" No vector for {', '.join(sentence.missing)}." if sentence.missing else ""
    width = sentence.vectors.shape[1]
    blocks: list[Block] = [
        Paragraph(f"“{config['sentence']}”, with vectors of {width} entries ({config['vectors']}).{absent}"),
        Heading(f"What “{word}” is similar to"),
        Paragraph(
            f"Its row of X Xᵀ, and weights in that row: the softmax of the similarities as they are, of those divided "
            f"by √{width}, and of those between queries and keys {config['width']} wide, under "
            f"random matrices and under the ones that were found. Most similar to “{word}” is "
            f"“{run.result['most_similar']}”; the entropy of its row of softmax(X Xᵀ) is {metrics['entropy']:.4f} nats."
        ),
        _row(run, traces),
        Heading("Updated vectors"),
        Paragraph(
            "softmax(X Xᵀ) X: each word becomes a mean of all words, weighted by its row. The cosine says how much of "
            "its own direction a word kept."
        ),
        Figure(draw.attention_svg(attention_map(traces["raw"], sentence)), "softmax(X Xᵀ): rows ask, columns answer."),
        _updated(sentence, traces["raw"]),
        Heading(f"Sending “{word}” to “{aim}”"),
        Paragraph(
            f"Of {len(trials.weights):,} pairs of random query and key matrices {config['width']} wide, a median one "
            f"puts {number(trials.median)} of the weight of “{word}” on “{aim}”, the best {number(trials.best)}; "
            f"{metrics['random_share']:.2%} of them put more than 0.9999 there."
        ),
        Paragraph(
            f"Gradient ascent on the logarithm of that weight reaches {metrics['found_weight']:.6f} in "
            f"{metrics['found_steps']:.0f} steps (read back from matrices.json and recomputed by the definition)."
        ),
        Figure(
            draw.svg(draw.curves([Curve("weight", range(len(run.result["ascent"])), run.result["ascent"])], y="weight"))
        ),
        Heading("What the other words attend to under these matrices"),
        Figure(draw.attention_svg(attention_map(traces["found"], sentence)), "Rows are queries, columns keys."),
        _others(traces["found"], sentence),
        Heading("How this was made"),
        Facts({"seed": run.seed, "seconds": f"{run.result['seconds']:.1f}"}),
        Preformatted(command),
    ]  # fmt: skip
    return draw.report_page(f"What “{word}” attends to", blocks)


def _row(run: Run, traces: Mapping[str, Trace]) -> Table:
    rows = zip(
        run.result["labels"],
        run.result["metrics"]["similarities"],
        *(trace["weights"][0, 0, run.result["word"]].tolist() for trace in traces.values()),
        strict=True,
    )
    names = {"raw": "softmax", "scaled": "scaled", "random": "random matrices", "found": "found matrices"}
    header = ["word", "similarity", *(names[name] for name in traces)]
    return Table(header, [[label, *map(number, values)] for label, *values in rows])


def _updated(sentence: EmbeddedSentence, trace: Trace) -> Table:
    output = trace["output"]
    lengths = (sentence.vectors.norm(dim=1) * output.norm(dim=1)).clamp(min=1e-300)
    cosines = ((sentence.vectors * output).sum(dim=1) / lengths).tolist()
    shown = min(_ENTRIES, output.shape[1])
    rows = [
        [label, number(cosine), *map(number, entries)]
        for label, cosine, entries in zip(sentence.labels, cosines, output[:, :shown].tolist(), strict=True)
    ]
    header = ["word", "cosine", *map(str, range(1, shown + 1))]
    return Table(header, rows, caption=f"The first {shown} of {output.shape[1]} entries; result.json holds all.")


def _others(trace: Trace, sentence: EmbeddedSentence) -> Table:
    rows = []
    for seen in observations(trace, sentence):
        (first, weight), *rest = seen.keys
        second = [rest[0][0], number(rest[0][1])] if rest else [None, None]
        rows.append([seen.query, first, number(weight), *second])
    return Table(["word", "most to", "weight", "then to", "weight "], rows)
