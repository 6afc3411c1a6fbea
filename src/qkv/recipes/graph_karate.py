"""Zachary's karate club: who is whose neighbour, one convolution by hand, and classes told from four members."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from qkv import files
from qkv.data import Graph, karate
from qkv.errors import InputError, RunError
from qkv.functional import (
    Adjacency,
    degrees,
    gcn_conv,
    graph_conv,
    largest_component,
    neighbour_mean,
    neighbours,
)
from qkv.models import GraphBatch, GraphNetwork, NodeClassifier
from qkv.recipes.base import Reporter, Shown, attended, validated
from qkv.recipes.graph_config import GraphConfig
from qkv.trace import record
from qkv.train import RunFolder, fit
from qkv.types import Json, Run, Trace

DIRECTIONS = ("in", "out", "both")


@dataclass(frozen=True)
class Batches:
    """The same batches in every epoch, in their order."""

    each: Sequence[GraphBatch]

    def __len__(self) -> int:
        return len(self.each)

    def epoch(self, number: int, start: int = 0) -> Iterator[GraphBatch]:  # noqa: ARG002 - all epochs are alike
        """The batches from `start` on."""
        yield from self.each[start:]


@dataclass(frozen=True)
class Club:
    """What was found, as the report shows it: the graph, classes told and true, and what weighs each edge."""

    graph: Graph
    classes: Int64[np.ndarray, " nodes"]
    labelled: Int64[np.ndarray, " labelled"]
    answers: Int64[np.ndarray, " nodes"]
    taken: Float[Tensor, "nodes nodes"]
    convolved: Float[Tensor, "nodes nodes"]
    xy: Float[Tensor, "nodes 2"]


def study(config: GraphConfig, folder: RunFolder, reporter: Reporter, *, other_threads: bool) -> tuple[Club, Json]:
    """Does all of the task; returns what the report shows, and the result of the run."""
    began = time.monotonic()
    graph, classes, labelled = karate()
    if config.node >= graph.nodes:
        raise InputError(
            "there is no such member", expected=f"--node from 0 to {graph.nodes - 1}", got=str(config.node)
        )
    one = torch.eye(graph.nodes)
    convolved = graph_conv(one, graph.edge_index, one, one)
    reporter.say(f"{config.model}: classes of {graph.nodes} members from {len(labelled)} that are given")
    edges = ways(graph, config)
    torch.manual_seed(folder.seed)
    model = _build(config, graph, classes, edges)
    given = torch.from_numpy(labelled)
    batch = GraphBatch(one, edges, given, torch.from_numpy(classes)[given], torch.ones(len(given)))
    at = fit(
        model,
        Batches([batch]),
        Batches([batch]),
        config.fit,
        folder,
        other_threads=other_threads,
        on_progress=reporter.progress,
    )
    answers, trace = _told(model, graph, edges)
    weights = [step.value[0].mean(dim=0) for step in trace.attention()[: len(edges)]]
    taken = torch.stack(weights).mean(dim=0) if weights else _taken(config, graph)
    asked = np.setdiff1d(np.arange(graph.nodes), labelled)
    right = answers == classes
    nearest = _nearest(graph, classes, labelled)
    frequent = np.bincount(classes[labelled]).argmax()
    result = {
        "metrics": {"accuracy": float(right[asked].mean())},
        "baselines": {
            "the class of the nearest given member": {"accuracy": float((nearest == classes)[asked].mean())},
            "one class for all": {"accuracy": float((classes == frequent)[asked].mean())},
        },
        "counts": graph.counts(),
        "degrees": _degree_statistics(graph),
        "neighbours": _neighbours(graph, config.node),
        "component": {
            kind: largest_component(graph.edge_index, graph.nodes, strong=kind == "strong").tolist()
            for kind in ("weak", "strong")
        },
        "convolution": convolved.int().tolist(),
        "answers": answers.tolist(),
        "classes": classes.tolist(),
        "labelled": labelled.tolist(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": at.step,
        "seconds": time.monotonic() - began,
    }
    return Club(graph, classes, labelled, answers, taken, convolved, _layout(graph)), result


def ways(graph: Graph, config: GraphConfig) -> list[Adjacency]:
    """The graph as a layer looks along it: along edges and against them, or both ways at once."""
    edge_index, back = graph.edge_index, graph.edge_index.flip(0)
    if config.network.directions == "apart":
        return [Adjacency.of(edge_index, graph.nodes), Adjacency.of(back, graph.nodes)]
    both = torch.cat([edge_index, back], dim=1).unique(dim=1)
    return [Adjacency.of(both, graph.nodes)]


def _taken(config: GraphConfig, graph: Graph) -> Tensor:
    """How much each node takes from each, targets by sources, where that does not hang on what was learned."""
    one = torch.eye(graph.nodes)
    if config.model == "gcn":
        return gcn_conv(one, graph.edge_index, one)
    return neighbour_mean(one, graph.edge_index)


def _neighbours(graph: Graph, node: int) -> Json:
    """Those of one member at each distance, by direction."""
    found: Json = {"node": node}
    for direction in DIRECTIONS:
        found[direction] = {
            str(distance): neighbours(
                graph.edge_index,
                node,
                graph.nodes,
                distance=distance,
                direction=direction,  # pyright: ignore
            ).tolist()
            for distance in (1, 2, 3)
        }
    return found


def _degree_statistics(graph: Graph) -> Json:
    into, out = (one.double() for one in degrees(graph.edge_index, graph.nodes))
    return {
        name: {"mean": one.mean().item(), "median": one.median().item(), "most": one.max().item()}
        for name, one in (("in", into), ("out", out))
    }


def _nearest(graph: Graph, classes: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """For each node the class of the given one that is fewest steps away, the first of several."""
    away = torch.full((len(labelled), graph.nodes), graph.nodes)
    for row, node in enumerate(labelled.tolist()):
        for distance in range(graph.nodes):
            found = neighbours(graph.edge_index, node, graph.nodes, distance=distance, direction="both")
            away[row, found] = distance
            if not len(found):
                break
    return classes[labelled[away.argmin(dim=0).numpy()]]


def _layout(graph: Graph) -> Tensor:
    import networkx

    drawn = networkx.Graph(graph.edge_index.T.tolist())
    places = networkx.kamada_kawai_layout(drawn)
    return torch.tensor(np.array([places[node] for node in range(graph.nodes)]), dtype=torch.float32)


def show(run: Run, text: str, *, layer: int | None, head: int | None) -> Shown:
    """Whom a member attends to, and the map of all.

    Args:
        text: the number of a member.

    Raises:
        InputError: no such member, layer or head, or a network that attends to nobody.
    """
    config = validated(GraphConfig, run.config)
    graph, classes, _ = karate()
    if config.model != "gat":
        raise InputError(
            f"{config.model} takes by fixed shares: nobody is attended to", expected="a run of --model gat"
        )
    if not (text.isdecimal() and int(text) < graph.nodes):
        raise InputError("there is no such member", expected=f"0 to {graph.nodes - 1}", got=repr(text[:30]))
    edges = ways(graph, config)
    model = _build(config, graph, classes, edges)
    try:
        model.load_state_dict(RunFolder.open(run.path).load_weights())
    except RuntimeError as error:
        raise RunError("the weights are not those of this configuration", path=run.path) from error
    answers, trace = _told(model, graph, edges)
    maps = trace.maps(graph.names, graph.names)
    figure = attended(maps, layer=layer, head=head)
    row = figure.weights[0, int(text)]
    shares = {graph.names[node]: row[node].item() for node in row.argsort(descending=True).tolist() if row[node] > 0}
    said = ", ".join(f"{share:.2f} of {name}" for name, share in shares.items())
    return Shown(
        text=f"{text}, told class {answers[int(text)]}, takes {said}",
        maps=maps,
        figure=figure,
        caption="Rows are members, columns those whom they attend to: neighbours and themselves.",
        document={"node": int(text), "prediction": int(answers[int(text)]), "attends": shares},
        title=f"Whom members of the karate club attend to ({config.model})",
    )


def _build(
    config: GraphConfig, graph: Graph, classes: Int64[np.ndarray, " nodes"], edges: Sequence[Adjacency]
) -> NodeClassifier:
    count = len(set(classes.tolist()))
    network = GraphNetwork(config.network, graph.nodes, count, config.model, ways=len(edges))  # pyright: ignore
    return NodeClassifier(network)


def _told(model: NodeClassifier, graph: Graph, edges: Sequence[Adjacency]) -> tuple[Int64[np.ndarray, " nodes"], Trace]:
    """The class that each member is told, and what was recorded on the way."""
    model.eval()
    with torch.inference_mode(), record() as trace:
        logits = model(torch.eye(graph.nodes), edges)
    return logits.argmax(dim=1).numpy(), trace


def write_tables(folder: RunFolder, result: Json) -> None:
    """Writes the convolution's features as a table that other programs read."""
    lines = [",".join(map(str, row)) for row in result["convolution"]]
    files.write_text(folder.path / "convolution.csv", "\n".join(lines) + "\n")
