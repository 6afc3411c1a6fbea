import gzip
import json

import numpy as np
import pytest
import torch
from scipy.sparse import issparse

from qkv.data import Graph, find, karate, read_graph, read_masks
from qkv.errors import DataError
from qkv.functional import largest_component, neighbours


def test_the_karate_club():
    graph, classes, labelled = karate()
    assert (graph.nodes, graph.edges) == (34, 156)
    assert graph.counts()["edges to themselves"] == graph.counts()["edges that repeat others"] == 0
    assert neighbours(graph.edge_index, 10, 34).tolist() == [0, 4, 5]
    assert largest_component(graph.edge_index, 34, strong=True).tolist() == list(range(34))
    assert {(b, a) for a, b in graph.edge_index.T.tolist()} == {(a, b) for a, b in graph.edge_index.T.tolist()}
    assert sorted(classes[labelled].tolist()) == [0, 1, 2, 3]


def test_the_club_is_that_of_torch_geometric():
    theirs = pytest.importorskip("torch_geometric.datasets").KarateClub()[0]
    graph, classes, labelled = karate()
    assert torch.equal(graph.edge_index, theirs.edge_index)
    assert classes.tolist() == theirs.y.tolist()
    assert labelled.tolist() == theirs.train_mask.nonzero().flatten().tolist()


# -- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "id1,id2\n0,1\n2,1\n1,1\n",
        "0\t1\n2\t1\n1\t1\n",
        "# a comment\n0 1\n\n2  1 0.5\n1 1",
        "a;b\n0;1\n2;1\n1;1\n",
    ],
)
def test_tables_of_numbered_nodes(tmp_path, text: str):
    (tmp_path / "edges.csv").write_text(text)
    graph = read_graph(tmp_path / "edges.csv")
    assert graph.edge_index.tolist() == [[0, 2, 1], [1, 1, 1]]
    assert graph.names == ["0", "1", "2"]
    assert graph.numbered


@pytest.mark.parametrize("text", ["source,target\nann,bob\ncy,bob\n", "ann\tbob\ncy\tbob\n", '"ann","bob"\n"cy",bob\n'])
def test_tables_of_named_nodes(tmp_path, text: str):
    (tmp_path / "edges.csv.gz").write_bytes(gzip.compress(text.encode()))
    graph = read_graph(tmp_path / "edges.csv.gz")
    assert graph.names == ["ann", "bob", "cy"]
    assert graph.edge_index.tolist() == [[0, 2], [1, 1]]
    assert not graph.numbered


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("ending", ["graphml", "gml", "gexf"])
def test_what_networkx_writes(tmp_path, ending: str, directed: bool):
    networkx = pytest.importorskip("networkx")
    made = (networkx.DiGraph if directed else networkx.Graph)([("ann", "bob"), ("bob", "bob"), ("cy", "ann")])
    getattr(networkx, f"write_{ending}")(made, tmp_path / f"g.{ending}")
    graph = read_graph(tmp_path / f"g.{ending}")
    told = {(graph.names[a], graph.names[b]) for a, b in graph.edge_index.T.tolist()}
    one_way = {("ann", "bob"), ("bob", "bob"), ("cy", "ann")}
    assert told == (one_way if directed else one_way | {("bob", "ann"), ("ann", "cy")})


def test_odd_edges_are_kept_and_counted(tmp_path):
    (tmp_path / "edges.csv").write_text("0,1\n0,1\n1,1\n4,0\n")
    (tmp_path / "target.csv").write_text("id,target\n6,3.5\n0,2\n")
    (tmp_path / "features.json").write_text(json.dumps({"0": [2, 2, 0], "4": []}))
    graph = read_graph(tmp_path / "edges.csv", target=tmp_path / "target.csv", features=tmp_path / "features.json")
    assert graph.counts() == {
        "nodes": 7,
        "edges": 4,
        "edges to themselves": 1,
        "edges that repeat others": 1,
        "nodes without edges": 4,  # 2, 3, 5 and 6
        "nodes without features": 6,
    }
    assert issparse(graph.features)
    assert graph.features.toarray()[0].tolist() == [1, 0, 1]
    assert np.isnan(graph.target).tolist() == [False, *[True] * 5, False]
    assert graph.target[6] == 3.5


def test_features_as_a_table_are_dense(tmp_path):
    (tmp_path / "edges.tsv").write_text("ann\tbob\ncy\tbob\n")
    (tmp_path / "features.csv").write_text("node,height,weight\ncy,1.5,2\nann,3,-4\n")
    graph = read_graph(tmp_path / "edges.tsv", features=tmp_path / "features.csv")
    assert graph.features.tolist() == [[3, -4], [0, 0], [1.5, 2]]


def test_published_sets_are_read(shared_data, monkeypatch):
    monkeypatch.setenv("QKV_DATA", str(shared_data))
    folder = shared_data / "wikipedia-network"
    graph = read_graph(
        find("chameleon"),
        features=folder / "musae_chameleon_features.json.gz",
        target=folder / "musae_chameleon_target.csv",
    )
    assert (graph.nodes, graph.edges, graph.features.shape[1]) == (2277, 36101, 3132)
    assert int(np.isfinite(graph.target).sum()) == 1822
    masks = read_masks(folder / "geomgcn_chameleon_masks.npz", graph.nodes)
    assert {part: mask.shape for part, mask in masks.items()} == dict.fromkeys(("train", "val", "test"), (10, 2277))
    with pytest.raises(DataError, match=r"the mask 'train' is of another graph.*\(splits, 9\)"):
        read_masks(folder / "geomgcn_chameleon_masks.npz", 9)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id1,id2\n0,1\n0,-3\n", r"line 3: an edge of a node that cannot be there.*got -3"),
        ("0,1\n0,99999999999\n", r"line 2: an edge of a node that cannot be there.*got 99999999999"),
        ("0,1\n0," + "9" * 5000 + "\n", r"line 2: an edge of a node that cannot be there.*got 999"),
        ("0,1\n0,4000000\n", r"a node numbered 4,000,000, where 3 are seen"),
        ("0,1\n0\n", "line 2: not an edge.*got '0'"),
        ("0,1\n,2\n", "line 2: not an edge"),
        ("\n\n", "nothing but blank lines"),
        ("id1,id2\n", "a graph without edges"),
        ("source,target\n", "a graph without edges"),
        ("0,1\n\udcff,1\n", "line 2: not text"),
    ],
)
def test_edges_that_cannot_be_used_are_refused(tmp_path, text: str, message: str):
    (tmp_path / "edges.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / "edges.csv")


def test_an_edge_to_a_node_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "edges.csv").write_text("0,1\n0,7\n")
    assert read_graph(tmp_path / "edges.csv", nodes=9).nodes == 9
    with pytest.raises(
        DataError, match=r"line 2: an edge of a node that is not there. Expected numbers from 0 to 6; got 7"
    ):
        read_graph(tmp_path / "edges.csv", nodes=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,target\n0,3\n1,many\n", "line 3: not a node and its target.*got '1 many'"),
        ("0,3\n1,nan\n", "line 2: not a node and its target"),
        ("0,3\n0,4\n", "line 2: a second target for node '0'"),
        ("0,3\nann,4\n", "line 2: a target for 'ann', which is no node"),
        ("0,3\n-1,4\n", "line 2: a target for '-1', which is no node"),
        ("0,3\n30000000,4\n", "a node numbered 30,000,000, where 2 are seen"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(tmp_path, text: str, message: str):
    (tmp_path / "edges.csv").write_text("0,1\n1,0\n")
    (tmp_path / "target.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / "edges.csv", target=tmp_path / "target.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"0": 3}', "features of '0' cannot be used"),
        ('{"0": ["a"]}', "features of '0' cannot be used"),
        ('{"0": [-1]}', "features of '0' cannot be used"),
        ('{"ann": [1]}', "features for 'ann', which is no node"),
        ("0,1,2\n1,3\n", "line 2: not a node and its features.*2 numbers"),
        ("0,1,2\n1,3,inf\n", "line 2: not a node and its features"),
    ],
)
def test_features_that_cannot_be_used_are_refused(tmp_path, text: str, message: str):
    (tmp_path / "edges.csv").write_text("0,1\n1,0\n")
    (tmp_path / "features.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_graph(tmp_path / "edges.csv", features=tmp_path / "features.json")


@pytest.mark.parametrize("ending", ["graphml", "gml", "gexf"])
def test_damaged_files_of_networkx_are_refused(tmp_path, ending: str):
    (tmp_path / f"g.{ending}").write_text("<graph")
    with pytest.raises(DataError, match=f"not a file that read_{ending} reads"):
        read_graph(tmp_path / f"g.{ending}")


def test_other_arrays_are_no_masks(tmp_path):
    np.savez(tmp_path / "masks.npz", geomgcn_train_mask=np.zeros((2, 3)))
    with pytest.raises(DataError, match="not the masks of Geom-GCN"):
        read_masks(tmp_path / "masks.npz", 3)


def test_counts_of_a_graph_without_edges():
    graph = Graph(torch.zeros(2, 0, dtype=torch.int64), ["a", "b"])
    assert graph.counts()["nodes without edges"] == 2
