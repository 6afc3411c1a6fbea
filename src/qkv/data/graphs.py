"""Graphs as data: Zachary's karate club, and readers of edges, features and targets in open formats."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_matrix
from torch import Tensor

from qkv.errors import DataError, InputError
from qkv.files import open_arrays, open_bytes, read_text_lines, require_file

MAX_NODES = 50_000_000
"""A file that numbers its nodes further is refused: every number up to the largest is a node."""
_DIGITS = 12
_SPARSE = 100  # so many times as many numbers as nodes are seen, and they are taken for names

# Found by modularity (Brandes et al. 2008), as Kipf and Welling (2017, appendix A) colour them; as there, one member of
# each class is given.
_KARATE_CLASSES = "1111333101311100310101002200200200"


@dataclass(frozen=True)
class Graph:
    """Nodes and the edges between them, with what is known of the nodes.

    Attributes:
        edge_index: sources above targets, in the order of their file.
        names: what each node is called; its number, counted from 0, where it has no name.
        features: a row a node, dense or sparse; None where there are none.
        target: a number a node, NaN where it is not known; None where none is.
        source: what the graph was read from.
    """

    edge_index: Int64[Tensor, "2 edges"]
    names: Sequence[str]
    features: Float[np.ndarray, "nodes features"] | csr_matrix | None = None
    target: Float[np.ndarray, " nodes"] | None = None
    source: str = ""

    @property
    def nodes(self) -> int:
        return len(self.names)

    @property
    def edges(self) -> int:
        return self.edge_index.shape[1]

    @property
    def numbered(self) -> bool:
        """Whether nodes have no names but their numbers."""
        return self.nodes > 0 and self.names[-1] == str(self.nodes - 1)

    def counts(self) -> dict[str, int]:
        """What there is to know before anything is computed: of edges that are odd, too, and of what is missing."""
        source, target = self.edge_index
        pairs = (source * self.nodes + target).unique()
        touched = torch.zeros(self.nodes, dtype=torch.bool)
        touched[self.edge_index.flatten()] = True
        return {
            "nodes": self.nodes,
            "edges": self.edges,
            "edges to themselves": int((source == target).sum()),
            "edges that repeat others": self.edges - len(pairs),
            "nodes without edges": self.nodes - int(touched.sum()),
        } | ({} if self.features is None else {"nodes without features": self._featureless()})

    def _featureless(self) -> int:
        return int((np.asarray(abs(csr_matrix(self.features)).sum(axis=1)).ravel() == 0).sum())


def karate() -> tuple[Graph, Int64[np.ndarray, " nodes"], Int64[np.ndarray, " labelled"]]:
    """Zachary's karate club (1977): 34 members, an edge each way between any two who met outside it.

    Returns:
        The graph, without weights; the class of each member; and the four members whose class is given.

    Raises:
        InputError: networkx, which carries it, is not installed.

    >>> graph, classes, labelled = karate()
    >>> graph.nodes, graph.edges, labelled.tolist()
    (34, 156, [0, 4, 8, 24])
    """
    networkx = _networkx()
    one_way = np.array(networkx.karate_club_graph().edges)
    both = np.concatenate([one_way, one_way[:, ::-1]])
    edge_index = torch.from_numpy(both[np.lexsort(both.T[::-1])].T.copy())
    classes = np.array([int(digit) for digit in _KARATE_CLASSES])
    graph = Graph(edge_index, [str(node) for node in range(34)], source="karate")
    return graph, classes, np.array([0, 4, 8, 24])


# -- reading ---------------------------------------------------------------------------------------------------------


def read_graph(
    path: str | Path, *, features: str | Path | None = None, target: str | Path | None = None, nodes: int | None = None
) -> Graph:
    """Reads a graph: its edges, and what is known of its nodes.

    Edges are a table of two columns, source and target, parted by tabs, commas or blanks, with a header or without;
    nodes by number, counted from 0, or by name. Or GraphML, GEXF, GML or Pajek, by the end of the name, through
    networkx; an undirected graph has each edge both ways. All files may be compressed with gzip or zstd. Edges that
    repeat others or lead to where they begin are kept (`Graph.counts` tells of them); a numbered node without edges is
    there if it has a target or features, or a higher number is there.

    Args:
        features: JSON of node to list of the numbers of what it has (MUSAE's layout), or a table of node and numbers;
            nodes that are not there have zeros.
        target: a table of node and number; nodes that are not there have none.
        nodes: how many there are, numbered from 0; an edge to another is refused.

    Raises:
        DataError: not such files, a line of them that cannot be used, nodes that are not there, negative numbers, ones
            far beyond all others, or no edges.
        InputError: networkx is needed and not installed.
    """
    path = require_file(path)
    reader = _NETWORKX.get(Path(path.name.casefold().removesuffix(".gz").removesuffix(".zst")).suffix)
    graph = _from_networkx(path, reader) if reader else _from_table(path, nodes)
    if not graph.edges:
        raise DataError("a graph without edges", expected="at least one", path=path)
    lists = None if features is None else _feature_rows(require_file(features))
    numbers = None if target is None else _target_rows(require_file(target))
    if graph.numbered and nodes is None:
        named = [*({} if lists is None else lists), *({} if numbers is None else numbers)]
        last = max((int(name) for name in named if _is_node(name)), default=0)
        _require_near(last, graph.nodes, path)
        graph = replace(graph, names=[str(node) for node in range(max(graph.nodes, last + 1))])
    return replace(
        graph,
        features=None if lists is None else _features(lists, graph.names, Path(str(features))),
        target=None if numbers is None else _targets(numbers, graph.names, Path(str(target))),
    )


_NETWORKX = {".graphml": "read_graphml", ".gexf": "read_gexf", ".gml": "read_gml", ".net": "read_pajek"}


def _from_networkx(path: Path, reader: str) -> Graph:
    networkx = _networkx()
    try:
        with open_bytes(path) as file:
            read = getattr(networkx, reader)(io.BytesIO(file.read()))
    except (networkx.NetworkXException, ValueError, LookupError, TypeError, SyntaxError, AttributeError) as error:
        raise DataError(f"not a file that {reader} reads ({error})", path=path) from error
    names = [str(node) for node in read.nodes]
    place = {node: number for number, node in enumerate(read.nodes)}
    pairs = [(place[edge[0]], place[edge[1]]) for edge in read.edges]
    if not read.is_directed():
        pairs += [(target, source) for source, target in pairs if source != target]
    edge_index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Graph(edge_index, names, source=str(path))


def _from_table(path: Path, nodes: int | None) -> Graph:
    rows = list(_rows(path))
    pairs = []
    for line, fields in rows:
        if len(fields) < 2 or not (fields[0] and fields[1]):
            got = repr(" ".join(fields)[:60])
            raise DataError("not an edge", expected="a source and a target", got=got, path=path, line=line)
        pairs.append((fields[0], fields[1]))
    if _is_header(pairs):
        rows, pairs = rows[1:], pairs[1:]
    if nodes is not None or all(_is_number(end) for pair in pairs for end in pair):
        return _numbered(pairs, [line for line, _ in rows], path, nodes)
    names: dict[str, int] = {}
    places = [[names.setdefault(end, len(names)) for end in pair] for pair in pairs]
    return Graph(_edge_index(places), list(names), source=str(path))


def _is_header(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether the first row is names of columns: names above numbers, or words that are usual there."""
    first, *others = pairs
    if all(_is_number(end) for pair in others for end in pair):
        return not any(map(_is_number, first)) and (bool(others) or bool(_usual(first)))
    return bool(_usual(first))


def _usual(fields: Sequence[str]) -> set[str]:
    return {field.casefold() for field in fields} & {"source", "target", "id1", "id2", "from", "to"}


def _numbered(pairs: Sequence[tuple[str, str]], lines: Sequence[int], path: Path, nodes: int | None) -> Graph:
    most = MAX_NODES if nodes is None else nodes
    for line, pair in zip(lines, pairs, strict=True):
        for end in pair:
            if not (_is_number(end) and 0 <= _number(end) < most):
                raise DataError(
                    "an edge of a node that cannot be there"
                    if nodes is None
                    else "an edge of a node that is not there",
                    expected=f"numbers from 0 to {most - 1:,}",
                    got=end[:30],
                    hint="" if nodes is not None else "names with a letter in them, where these are no numbers",
                    path=path,
                    line=line,
                )
    edge_index = _edge_index([(int(source), int(target)) for source, target in pairs])
    if nodes is None:
        nodes = int(edge_index.max()) + 1 if len(pairs) else 0
        _require_near(nodes - 1, len(edge_index.unique()), path)
    return Graph(edge_index, [str(node) for node in range(nodes)], source=str(path))


def _edge_index(pairs: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()


def _require_near(last: int, seen: int, path: Path) -> None:
    """Refuses numbers so far beyond how many nodes are seen that they can hardly be counted from 0."""
    if last > 1000 + _SPARSE * seen:
        raise DataError(
            f"a node numbered {last:,}, where {seen:,} are seen",
            expected="nodes counted from 0",
            hint="names with a letter in them, such as n123, where these are no numbers",
            path=path,
        )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is neither blank nor a comment."""
    mark, first = None, True
    for line, text in read_text_lines(path):
        if not text.strip() or text.startswith(("#", "%")):
            continue
        if first:
            mark, first = next((mark for mark in "\t,;" if mark in text), None), False
        try:
            quoted = mark is not None and '"' in text
            fields = next(csv.reader([text], delimiter=mark)) if quoted else text.split(mark)  # pyright: ignore
        except csv.Error as error:
            raise DataError(f"not a row of a table ({error})", path=path, line=line) from error
        yield line, [field.strip() for field in fields]
    if first:
        raise DataError("nothing but blank lines", path=path)


def _target_rows(path: Path) -> dict[str, tuple[int, float]]:
    """The line and the number of each node."""
    found: dict[str, tuple[int, float]] = {}
    for count, (line, fields) in enumerate(_rows(path)):
        value = _finite(fields[1]) if len(fields) == 2 else None
        if value is None and count == 0 and len(fields) == 2:  # a header
            continue
        if value is None:
            got = repr(" ".join(fields)[:60])
            raise DataError("not a node and its target", expected="a node, a number", got=got, path=path, line=line)
        if fields[0] in found:
            raise DataError(f"a second target for node {fields[0]!r}", expected="one a node", path=path, line=line)
        found[fields[0]] = (line, value)
    return found


def _targets(rows: Mapping[str, tuple[int, float]], names: Sequence[str], path: Path) -> np.ndarray:
    place = {name: node for node, name in enumerate(names)}
    made = np.full(len(names), np.nan)
    for name, (line, value) in rows.items():
        if name not in place:
            expected = f"one of the {len(names):,} in the graph"
            raise DataError(f"a target for {name!r}, which is no node", expected=expected, path=path, line=line)
        made[place[name]] = value
    return made


def _feature_rows(path: Path) -> dict[str, list[float]] | dict[str, list[int]]:
    """The features of each node: lists of what it has in JSON, numbers in a table."""
    with open_bytes(path) as file:
        if file.read(1) == b"{":
            return _feature_lists(path)
    found: dict[str, list[float]] = {}
    for count, (line, (name, *fields)) in enumerate(_rows(path)):
        values = [value for field in fields if (value := _finite(field)) is not None]
        if count == 0 and len(values) < len(fields):  # a header
            continue
        width = len(next(iter(found.values()), values))
        if not values or len(values) < len(fields) or len(values) != width or name in found:
            raise DataError(
                "not a node and its features",
                expected=f"a node, once, and {width or 'its'} numbers",
                got=repr(" ".join([name, *fields])[:60]),
                path=path,
                line=line,
            )
        found[name] = values
    return found


def _feature_lists(path: Path) -> dict[str, list[int]]:
    with open_bytes(path) as file:
        try:
            lists = json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON ({error})", path=path) from error
    for name, has in lists.items():
        if not isinstance(has, list) or not all(type(one) is int and 0 <= one < MAX_NODES for one in has):
            raise DataError(
                f"features of {name!r} cannot be used",
                expected="a list of numbers from 0 on",
                got=str(has)[:40],
                path=path,
            )
    return lists


def _features(
    rows: Mapping[str, Sequence[int] | Sequence[float]], names: Sequence[str], path: Path
) -> csr_matrix | np.ndarray:
    place = {name: node for node, name in enumerate(names)}
    if stray := next((name for name in rows if name not in place), None):
        raise DataError(
            f"features for {stray!r}, which is no node", expected=f"one of the {len(names):,} in the graph", path=path
        )
    nodes = [place[name] for name in rows]
    if not all(type(one) is int for has in rows.values() for one in has):
        made = np.zeros((len(names), len(next(iter(rows.values())))))
        made[nodes] = list(rows.values())
        return made
    columns = [int(one) for has in rows.values() for one in has]
    repeated = np.repeat(nodes, [len(has) for has in rows.values()])
    shape = (len(names), max(columns, default=-1) + 1)
    sparse = csr_matrix((np.ones(len(columns)), (repeated, columns)), shape=shape)
    sparse.data[:] = 1
    return sparse


def read_masks(path: str | Path, nodes: int) -> Mapping[str, np.ndarray]:
    """Reads the splits of Geom-GCN (Pei et al. 2020): `train`, `val` and `test`, each splits by nodes.

    Raises:
        DataError: an npz file without them, or of another number of nodes.
    """
    path = Path(path)
    names = {part: f"geomgcn_{part}_mask" for part in ("train", "val", "test")}
    with open_arrays(path) as arrays:
        if not set(names.values()) <= set(arrays):
            raise DataError(
                "not the masks of Geom-GCN", expected=", ".join(names.values()), got=", ".join(arrays), path=path
            )
        masks = {part: arrays[name] for part, name in names.items()}
    for part, mask in masks.items():
        if mask.ndim != 2 or mask.shape[1] != nodes or mask.dtype != bool:
            raise DataError(
                f"the mask {part!r} is of another graph",
                expected=f"true or false, (splits, {nodes})",
                got=f"{mask.dtype} of shape {mask.shape}",
                path=path,
            )
    return masks


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _number(text: str) -> int:
    """The number; of one that is longer than any node's, one that is too large as well."""
    return int(text) if len(text) < _DIGITS else MAX_NODES


def _is_node(name: str) -> bool:
    return name.isdecimal() and _number(name) < MAX_NODES


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _networkx() -> Any:
    try:
        import networkx
    except ImportError as error:
        raise InputError("this takes networkx, which is not installed", hint="pip install 'qkv[graphs]'") from error
    return networkx
