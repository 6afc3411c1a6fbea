"""Graph layers forward and back on a real network, beside torch-geometric's with the same weights; memory beside time.

    python benchmarks/graph.py [--threads 2] [--rounds 5] [--json]

The network is squirrel's, under the folder that QKV_DATA names; without it, a random one of the same size. Theirs are
called as they usually are, with `edge_index`, and GCN with `cached=True`, which keeps its normalisation from call to
call; ours with an `Adjacency`, laid out once, and with `edge_index`, laid out in each call. A ratio says how many times
as fast as the peer, or how many times as much memory the peer takes. At last a random graph of 10 million edges goes
through GCN, forward and back. Exits with 1 where a bar is missed.
"""

import os
import warnings
from collections.abc import Callable
from functools import partial

import torch
from timing import Finding, extra_bytes, judge, options, ratio, take_turns, timed
from torch import Tensor, nn

from qkv.data import find, read_graph
from qkv.functional import Adjacency
from qkv.nn import GATConv, GCNConv, GraphConv

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch_geometric.nn

OURS, EACH, THEIRS = "qkv, laid out once", "qkv, laid out in each call", "torch-geometric"
HEADS = 8
LARGE_NODES, LARGE_EDGES, LARGE_WIDTH = 1_000_000, 10_000_000, 16


def network() -> tuple[Tensor, int]:
    """Squirrel's edges, or as many at random."""
    if os.environ.get("QKV_DATA"):
        graph = read_graph(find("squirrel"))
        return graph.edge_index, graph.nodes
    return torch.randint(5201, (2, 217_073)), 5201


def layers(width: int) -> dict[str, tuple[nn.Module, nn.Module]]:
    return {
        "GCN": (GCNConv(width, width), torch_geometric.nn.GCNConv(width, width, cached=True)),
        "GAT, 8 heads": (
            GATConv(width, width // HEADS, HEADS),
            torch_geometric.nn.GATConv(width, width // HEADS, HEADS),
        ),
        "plain": (GraphConv(width, width), torch_geometric.nn.GraphConv(width, width)),
    }


def step(layer: nn.Module, x: Tensor, edges: Adjacency | Tensor, upstream: Tensor) -> list[Tensor]:
    output = layer(x, edges)
    return [output, *torch.autograd.grad(output, [x, *layer.parameters()], upstream)]


def beside(width: int, edge_index: Tensor, nodes: int, rounds: int) -> list[Finding]:
    edges, found = Adjacency.of(edge_index, nodes), []
    x, upstream = torch.randn(nodes, width, requires_grad=True), torch.randn(nodes, width)
    for name, (ours, theirs) in layers(width).items():
        ours.load_state_dict(theirs.state_dict())
        runs: dict[str, Callable[[], list[Tensor]]] = {
            OURS: partial(step, ours, x, edges, upstream),
            EACH: partial(step, ours, x, edge_index, upstream),
            THEIRS: partial(step, theirs, x, edge_index, upstream),
        }
        mine, other = runs[OURS](), runs[THEIRS]()
        off = float((mine[0] - other[0]).detach().abs().max() / other[0].detach().abs().max())
        if off > 1e-4:
            raise SystemExit(f"Nothing is timed: {name} differs by a share of {off:.3g} at width {width}")
        times = take_turns({key: timed(run) for key, run in runs.items()}, rounds)
        found += [
            Finding(f"{name}, {key}", ratio(times[THEIRS], times[key]), at_least=1.0 if key == OURS else None,
                    seconds={one: times[one] for one in (key, THEIRS)})
            for key in (OURS, EACH)
        ]  # fmt: skip
        memory = {key: extra_bytes(runs[key]) for key in (OURS, THEIRS)}
        found.append(Finding(f"{name}, memory of theirs by ours", memory[THEIRS] / max(memory[OURS], 1)))
    return found


def large() -> list[Finding]:
    """How far memory rises above the inputs while a large graph goes through GCN and back, in gigabytes."""
    edge_index = torch.randint(LARGE_NODES, (2, LARGE_EDGES))
    x, upstream = torch.randn(LARGE_NODES, LARGE_WIDTH, requires_grad=True), torch.randn(LARGE_NODES, LARGE_WIDTH)
    layer = GCNConv(LARGE_WIDTH, LARGE_WIDTH)
    taken = extra_bytes(lambda: step(layer, x, edge_index, upstream))
    return [Finding("GCN forward and back, gigabytes beyond the inputs", taken / 1e9, at_most=2.0)]


def main() -> None:
    arguments = options("Graph layers beside torch-geometric's.").parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    edge_index, nodes = network()
    topics: dict[str, Callable[[], list[Finding]]] = {
        f"{nodes:,} nodes, {edge_index.shape[1]:,} edges, width {width}, forward and back": partial(
            beside, width, edge_index, nodes, arguments.rounds
        )
        for width in (64, 256)
    }
    topics[f"{LARGE_NODES:,} nodes, {LARGE_EDGES:,} edges, width {LARGE_WIDTH}"] = large
    judge(topics, as_json=arguments.json)


if __name__ == "__main__":
    main()
