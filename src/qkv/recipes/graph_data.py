"""What the recipe graph reads, which node falls to which part, and what each may know of the others."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from qkv.data import SETS, Graph, Structure, find, folds, read_graph, read_masks, sha256_of, shares, verify
from qkv.errors import DataError, InputError
from qkv.recipes.graph_config import GraphConfig

LEAST = 20
"""Of so many known targets at least can parts be made."""

Nodes = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Parts:
    """Nodes to train on, to choose by, and to judge by."""

    train: Nodes
    valid: Nodes
    test: Nodes


@dataclass(frozen=True)
class Table:
    """Rows of inputs that nodes were asked with, what they should say, and how much each counts."""

    x: Float32[np.ndarray, "rows inputs"]
    y: Float[np.ndarray, " rows"]
    importance: Float[np.ndarray, " rows"]


@dataclass(frozen=True)
class Task:
    """A graph whose nodes have numbers: the natural logarithm of the target, NaN where it is not known."""

    structure: Structure
    target: Float[np.ndarray, " nodes"]

    @property
    def graph(self) -> Graph:
        return self.structure.graph

    @property
    def known(self) -> Bool[np.ndarray, " nodes"]:
        return np.isfinite(self.target)

    def only(self, *parts: Nodes) -> Bool[np.ndarray, " nodes"]:
        """True at the nodes of these parts."""
        chosen = np.zeros(len(self.target), bool)
        chosen[np.concatenate(parts)] = True
        return chosen

    def inputs(self, known: Bool[np.ndarray, " nodes"]) -> Float32[np.ndarray, "nodes inputs"]:
        """All that may be known of each node where these targets are."""
        around = self.structure.around(known, self.target)
        return np.concatenate([self.structure.inputs, around], axis=1).astype(np.float32)

    def turns(
        self, known: Bool[np.ndarray, " nodes"], count: int, seed: int
    ) -> Iterator[tuple[Nodes, Float32[np.ndarray, "nodes inputs"]]]:
        """Asks the known nodes in turns: who is asked, and the inputs of all nodes where no target of theirs is known.

        Nodes whose edges lead to the same nodes are asked together.
        """
        turn = folds(self.structure.followers, count, np.random.default_rng(seed))
        for number in range(count):
            asked = np.flatnonzero(known & (turn == number))
            if len(asked):
                yield asked, self.inputs(known & (turn != number))

    def table(self, known: Bool[np.ndarray, " nodes"], count: int, seed: int) -> Table:
        """The known nodes, each with the inputs that it is asked with."""
        asked = [(nodes, inputs[nodes]) for nodes, inputs in self.turns(known, count, seed)]
        nodes = np.concatenate([nodes for nodes, _ in asked])
        importance = shares(self.structure.followers, known)[nodes]
        return Table(np.concatenate([rows for _, rows in asked]), self.target[nodes], importance)


def load(
    config: GraphConfig, say: Callable[[str], None], *, data: str | None = None, basis: np.ndarray | None = None
) -> Task:
    """The graph of a configuration, or of other `data`, with the logarithms of its targets; says what is odd of it.

    Raises:
        DataError: files that cannot be read, or a target that has no logarithm.
    """
    edges, features, target = _files(config, data or config.data, own=data is None)
    graph = read_graph(edges, features=features, target=target, nodes=config.nodes if data is None else None)
    say(f"{data or config.data}: " + ", ".join(f"{count:,} {what}" for what, count in graph.counts().items()))
    numbers = np.full(graph.nodes, np.nan) if graph.target is None else graph.target
    if (numbers <= 0).any():
        node = int(np.flatnonzero(numbers <= 0)[0])
        raise DataError(
            "a target has no logarithm",
            expected="numbers above 0",
            got=f"{numbers[node]:g} of node {graph.names[node]}",
            path=target,
        )
    return Task(Structure(graph, config.components, basis), np.log(numbers))


def _files(config: GraphConfig, data: str, *, own: bool) -> tuple[Path, Path | None, Path | None]:
    """Edges, features and targets: as asked for, or what lies beside the edges."""
    given = {"features": config.features if own else None, "target": config.target if own else None}
    if data in SETS:
        edges, beside = verify(data), {what: beside_set(data, what) for what in given}
    else:
        edges = find(data)
        beside = {what: _beside(edges, what) for what in given}
    chosen = {what: Path(path) if path is not None else beside[what] for what, path in given.items()}
    return edges, chosen["features"], chosen["target"]


def beside_set(name: str, what: str) -> Path | None:
    """What lies beside the edges of a named set, if it is as published.

    Raises:
        DataError: it is absent, or has another SHA-256.
    """
    if what not in SETS[name].options:
        return None
    file, expected = SETS[name].options[what]
    path = find(name).with_name(file)
    if (got := sha256_of(path)) != expected:
        raise DataError("not the published file", expected=f"SHA-256 {expected}", got=got, path=path)
    return path


def _beside(edges: Path, what: str) -> Path | None:
    """`musae_x_target.csv` beside `musae_x_edges.csv`, of whatever ending, if there is one."""
    if "edges" not in edges.name:
        return None
    stem = edges.name[: edges.name.rindex("edges")] + what
    return next((path for path in sorted(edges.parent.glob(f"{stem}.*")) if path.is_file()), None)


def parts(config: GraphConfig, task: Task, say: Callable[[str], None]) -> tuple[Task, Parts]:
    """Which node falls to which part; with `distinct`, only the first known of those alike keeps its target.

    Raises:
        DataError: too few known targets, or all of them equal.
        InputError: a part that is left empty, or a split that is not there.
    """
    if config.distinct:
        first = np.unique(np.where(task.known, task.structure.followers, -1), return_index=True)
        kept = task.only(first[1][first[0] >= 0])
        say(f"{int(task.known.sum() - kept.sum()):,} targets of nodes like others are left out")
        task = replace(task, target=np.where(kept, task.target, np.nan))
    known = np.flatnonzero(task.known)
    path = task.graph.source
    if len(known) < LEAST:
        raise DataError("too few targets", expected=f"{LEAST} or more", got=str(len(known)), hint="--target", path=path)
    if np.ptp(task.target[known]) == 0:
        raise DataError("all targets are equal: there is nothing to tell apart", path=path)
    made = _random(config, known) if config.masks is None else _published(config, task, say)
    for name in ("train", "valid", "test"):
        if not len(getattr(made, name)):
            raise InputError(f"no node falls to the part {name!r}", expected="other shares, or more targets")
    return task, made


def _random(config: GraphConfig, known: Nodes) -> Parts:
    order = np.random.default_rng(config.split).permutation(known)
    judged = round(config.test_share * len(known))
    chosen = judged + round(config.valid_share * (len(known) - judged))
    return Parts(np.sort(order[chosen:]), np.sort(order[judged:chosen]), np.sort(order[:judged]))


def _published(config: GraphConfig, task: Task, say: Callable[[str], None]) -> Parts:
    path = beside_set(config.data, "masks") if config.masks == "geom-gcn" and config.data in SETS else config.masks
    if path is None or path == "geom-gcn":
        raise InputError("there are no published splits beside this graph", expected="--masks FILE, an npz file")
    masks = read_masks(path, task.graph.nodes)
    count = len(masks["train"])
    if config.split >= count:
        raise InputError("there is no such split", expected=f"--split from 0 to {count - 1}", got=str(config.split))
    each = {part: mask[config.split] for part, mask in masks.items()}
    unknown = int(sum((mask & ~task.known).sum() for mask in each.values()))
    if unknown:
        say(f"{unknown:,} nodes of the split have no known target and are left out")
    return Parts(*(np.flatnonzero(each[part] & task.known) for part in ("train", "val", "test")))


def fingerprint(task: Task) -> str:
    """A short name for exactly these edges and targets."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(task.graph.edge_index.numpy().tobytes())
    digest.update(np.nan_to_num(task.target, nan=-1.0).tobytes())
    return digest.hexdigest()
