"""The pages that tell what was found: in the karate club, and of numbers for the nodes of a graph."""

from collections.abc import Mapping
from typing import Any

import torch

from qkv import draw
from qkv.draw import DrawnGraph, Facts, Figure, Heading, Paragraph, Preformatted, Table
from qkv.draw.report import Block
from qkv.recipes.base import loss_curves
from qkv.recipes.graph_karate import DIRECTIONS, Club
from qkv.recipes.graph_predictor import LOOK_UPS
from qkv.types import Run

_TAKEN = {
    "gcn": "the share that a node takes from each neighbour in a graph convolution, 1 / sqrt(d_i d_j)",
    "conv": "the share that a node takes from each neighbour in a mean, 1 / d_i",
    "gat": "the attention that was learned, a mean over the heads of the first layer",
}


def club_report(run: Run, club: Club, command: str) -> str:
    """The report of a finished run."""
    result, config = run.result, run.config
    node = result["neighbours"]["node"]
    component = result["component"]["weak"]
    blocks: list[Block] = [
        Paragraph(
            f"Members of a karate club, and an edge each way between any two who met outside it (Zachary 1977): "
            f"{club.graph.nodes} nodes, {club.graph.edges} directed edges, no weights. Nodes are counted from 0."
        ),
        Figure(drawn(run, club), "Colour: the class that was told. A thick rim: a member whose class was given. An "
               f"edge is as wide as {_TAKEN[config['model']]}; point at it for the number."),
        Heading("The graph"),
        Facts(result["counts"] | {f"largest {kind}ly connected component": f"{len(nodes)} nodes"
                                  for kind, nodes in result["component"].items()}),
        Paragraph("All nodes are in the largest component." if len(component) == club.graph.nodes
                  else f"In the largest component: {_listed(component)}."),
        _degrees(run),
        Heading(f"Neighbours of node {node}"),
        Table(
            ["distance", *(f"{direction}" for direction in DIRECTIONS)],
            [[distance, *(_listed(result["neighbours"][way][distance]) for way in DIRECTIONS)] for distance in "123"],
            caption="Against edges, along them, and either way. Every edge here is there both ways.",
        ),
        Heading("One plain convolution"),
        Paragraph(
            "Each node has a feature of its own (one-hot), and both matrices are the identity: x'_i = x_i + the sum "
            "over neighbours of x_j. What comes out is I + A: the node itself, and each neighbour once."
        ),
        Figure(draw.matrix_svg(club.convolved), "Features after the convolution, a row a node; blue is 1."),
        Table(
            ["node", "features that are 1", "how many"],
            [[str(one), _listed(row.nonzero().flatten().tolist()), int(row.sum())]
             for one, row in enumerate(club.convolved)],
        ),
        Heading("Classes from four members"),
        Paragraph(
            f"A network of {config['network']['num_layers']} layers ({config['model']}, {result['parameters']:,} "
            f"parameters) is told the classes of {len(club.labelled)} members, {_listed(result['labelled'])}, and "
            "tells those of all. The classes are four groups found by modularity, those of Kipf and Welling (2017)."
        ),
        _scores(run),
        _mistaken(run),
        Heading("How this was made"),
        Facts({"seed": run.seed, "steps": result["steps"], "seconds": f"{result['seconds']:.1f}"}),
        Preformatted(command),
    ]  # fmt: skip
    return draw.report_page("The karate club", blocks)


def drawn(run: Run, club: Club) -> str:
    """The club as SVG: classes told as colours, edges as wide as they weigh."""
    source, target = club.graph.edge_index
    tips = [f"told class {told}, is {true}" for told, true in zip(club.answers, club.classes, strict=True)]
    return draw.graph_svg(
        DrawnGraph(
            club.graph.edge_index,
            club.xy,
            club.graph.names,
            groups=[f"class {told}" for told in club.answers],
            edge_weight=club.taken[target, source].to(torch.float32),
            marked=club.labelled.tolist(),
            tips=tips,
        ),
        title=f"Karate club, {run.config['model']}",
    )


def _degrees(run: Run) -> Table:
    rows = [[f"{way} edges", one["mean"], one["median"], one["most"]] for way, one in run.result["degrees"].items()]
    return Table(["of a node", "mean", "median", "most"], rows, digits=1)


def _scores(run: Run) -> Table:
    rows = {run.config["model"]: run.result["metrics"]} | run.result["baselines"]
    return Table(
        ["", "right, of the members that were not given"],
        [[name, f"{100 * scores['accuracy']:.1f}%"] for name, scores in rows.items()],
        best={"right, of the members that were not given": "highest"},
    )


def _mistaken(run: Run) -> Paragraph:
    wrong = [
        f"{node} (told {told}, is {true})"
        for node, (told, true) in enumerate(zip(run.result["answers"], run.result["classes"], strict=True))
        if told != true
    ]
    return Paragraph(f"Told wrong: {', '.join(wrong)}." if wrong else "All are told right.")


def _listed(nodes: list[int]) -> str:
    return ", ".join(map(str, nodes)) or "none"


# -- a number for each node ------------------------------------------------------------------------------------------

_COLUMNS = {
    "mae": "all",
    "mae_no_twin": "without a twin",
    "mae_new": "led elsewhere than any known",
    "mae_traffic": "on the numbers",
    "r2": "R²",
}


def regression_report(run: Run, command: str) -> str:
    """The report of a finished run."""
    result, config = run.result, run.config
    nodes, kinds = result["nodes"], result["test_nodes"]
    blocks: list[Block] = [
        Paragraph(
            f"A number for each node of {config['data']}, by {_described(run)}. Errors are of natural logarithms: 0.1 "
            "is about a tenth of the number. Everything was chosen on the validation nodes; test nodes were read once."
        ),
        Heading("Scores on the test nodes"),
        _regression_scores(run),
        Paragraph(
            f"Of {kinds['all']:,} test nodes {kinds['no_twin']:,} share their neighbours with no node whose number is "
            f"known, and the edges of {kinds['new']:,} lead to other nodes than those of any known one. A twin tells "
            "the number almost exactly, so errors without one tell what was learned."
        ),
        Heading("Told and true"),
        Figure(
            draw.svg(draw.points(result["points"], x="true, natural logarithm", y="told")),
            "A point a test node. On the line told and true are the same.",
        ),
    ]
    if run.history:
        blocks += [
            Heading("How training went"),
            Figure(
                draw.svg(draw.curves(loss_curves(run), y="mean absolute error")),
                "Of the network alone, each group of twins counted once. While training, dropout raises the error.",
            ),
        ]
    facts: dict[str, Any] = {
        **result["counts"],
        "train, choose by, judge by": f"{nodes['train']:,}, {nodes['valid']:,}, {nodes['test']:,}",
        "not known": nodes["unknown"],
        "looked up": LOOK_UPS[result["look_up"]],
    }
    if result["table_share"] is not None:
        facts["share of the trees"] = f"{result['table_share']:.0%}, chosen on the validation nodes"
    if "parameters" in result:
        facts |= {"parameters": result["parameters"], "steps": result["steps"], "weights of step": result["best_step"]}
    facts |= {"split": config["split"], "seed": run.seed, "seconds": f"{result['seconds']:.0f}"}
    blocks += [Heading("What was trained on what"), Facts(facts), Preformatted(command)]
    return draw.report_page(f"{config['data']}: a number for each node", blocks)


def _described(run: Run) -> str:
    return {
        "blend": "plain convolutions and trees, in shares, behind a look-up of twins",
        "twins": "a look-up of twins with boosting behind it",
        "boosting": "gradient boosting on tables",
        "trees": "extremely randomised trees on tables",
        "ridge": "ridge regression on tables",
        "median": "the median, the same for all",
    }.get(run.config["model"], f"a network of {run.config['model']} layers behind a look-up of twins")


def _regression_scores(run: Run) -> Table:
    rows: Mapping[str, Mapping[str, float]] = {run.config["model"]: run.result["metrics"]} | run.result["baselines"]
    columns = [name for name in _COLUMNS if all(name in scores for scores in rows.values())]
    return Table(
        ["", *(_COLUMNS[name] for name in columns)],
        [
            [
                name,
                *(
                    f"{scores[column]:,.0f}" if column == "mae_traffic" else f"{scores[column]:.3f}"
                    for column in columns
                ),
            ]
            for name, scores in rows.items()
        ],
        best={_COLUMNS[name]: "highest" if name == "r2" else "lowest" for name in columns},
        caption="Mean absolute errors.",
    )
