"""What is known of a node: by hand, beside networkx, and never from its own target."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from qkv.data import Graph, Structure, folds, look_up, shares

NODES = 31


def toy(seed: int = 0, *, features: bool = True) -> Graph:
    """A random graph with loops, edges there and back, and twins: the last ten nodes lead where others do."""
    draw = np.random.default_rng(seed)
    edges = {(int(a), int(b)) for a, b in draw.integers(0, NODES - 10, (90, 2))}
    for node in range(NODES - 10, NODES):
        like = int(draw.integers(0, 7))
        edges |= {(node, target) for source, target in set(edges) if source == like}
    has = csr_matrix((draw.random((NODES, 13)) < 0.3).astype(float)) if features else None
    return Graph(torch.tensor(sorted(edges)).T.contiguous(), [str(node) for node in range(NODES)], has)


def test_twins_and_followers_by_hand():
    # 0 and 1 lead to 2 alone, and back leads an edge to 0: followers alike, twins too, for the way does not count.
    # 3 leads to 2 and to itself: a twin of both, but it follows one more.
    graph = Graph(torch.tensor([[0, 1, 2, 3, 3], [2, 2, 0, 2, 3]]), list("abcd"))
    structure = Structure(graph, components=0)
    assert structure.followers.tolist() == [0, 0, 1, 2]
    assert structure.twins.tolist() == [0, 0, 1, 0]


def test_page_rank_is_that_of_networkx():
    networkx = pytest.importorskip("networkx")
    graph = toy()
    structure = Structure(graph, components=0)
    drawn = networkx.DiGraph([edge for edge in graph.edge_index.T.tolist() if edge[0] != edge[1]])
    drawn.add_nodes_from(range(NODES))
    expected = networkx.pagerank(drawn, tol=1e-12)
    np.testing.assert_allclose(
        np.exp(structure.inputs[:, 3]) / NODES, [expected[node] for node in range(NODES)], rtol=1e-6
    )


def test_known_neighbours_by_hand():
    # Into 0 and out of it lead edges of 1 (known, 6) and 2 (known, 9); 3 is not known. The middle is 7.5.
    graph = Graph(torch.tensor([[1, 0, 0], [0, 2, 3]]), list("abcd"))
    around = Structure(graph, components=0).around(np.array([False, True, True, False]), np.array([0.0, 6, 9, 99]))
    out, out_count, into, into_count, either, either_count = around[0, :6]
    assert (out, into, either) == ((9 + 7.5) / 2, (6 + 7.5) / 2, (6 + 9 + 7.5) / 3)
    assert (out_count, into_count, either_count) == (np.log(2), np.log(2), np.log(3))


@pytest.mark.parametrize("features", [True, False])
def test_no_target_that_is_not_known_is_read(features: bool):
    structure, draw = Structure(toy(features=features), components=3), np.random.default_rng(0)
    target, known = draw.normal(size=NODES), draw.random(NODES) < 0.6
    changed = np.where(known, target, np.nan)
    np.testing.assert_array_equal(structure.around(known, target), structure.around(known, changed))


def test_no_target_comes_back_to_those_asked_with_it():
    """By no loop, no two steps and no twin: in the turn in which a node is asked, nobody knows its target."""
    structure, draw = Structure(toy(), components=3), np.random.default_rng(1)
    target = draw.normal(size=NODES)
    known = draw.random(NODES) < 0.8
    turn = folds(structure.followers, 3, np.random.default_rng(2))
    for node in np.flatnonzero(known):
        others = known & (turn != turn[node])
        moved = target.copy()
        moved[node] += 100
        np.testing.assert_array_equal(structure.around(others, target), structure.around(others, moved))
        # Those asked in other turns may see it: it is not that nothing is read.
    assert not np.array_equal(structure.around(known, target), structure.around(known, target + known * 1.0))


def test_even_where_it_is_known_two_steps_lead_not_back_to_oneself():
    # 0 - 1: from 0 over 1 one comes back to 0 alone, so nothing is known two steps away.
    graph = Graph(torch.tensor([[0, 1], [1, 0]]), list("ab"))
    structure, known = Structure(graph, components=0), np.array([True, True])
    first, second = (structure.around(known, np.array([own, 5.0]))[0] for own in (1.0, 1.0 + 1e-3))
    two_steps = slice(8, 12)
    np.testing.assert_allclose(first[two_steps][[1, 3]], 0, atol=1e-12)
    # Of its own target only the middle of all is left there.
    np.testing.assert_allclose((second - first)[two_steps][[0, 2]], 5e-4, rtol=1e-6)


def test_a_look_up_reads_twins_and_never_the_node_itself():
    group, target = np.array([0, 0, 0, 1, 2, 2]), np.array([1.0, 3, 8, 5, 7, 9])
    known = np.array([True, True, False, True, True, False])
    found = look_up(group, known, target)
    np.testing.assert_array_equal(found, [3, 1, 2, np.nan, np.nan, 7])
    for node in range(6):
        moved = target.copy()
        moved[node] = -50
        again = look_up(group, known, moved)
        assert again[node] == found[node] or (np.isnan(again[node]) and np.isnan(found[node]))


def test_twins_are_asked_together_and_share_one_say():
    group = np.array([3, 3, 0, 1, 3])
    turn = folds(group, 5, np.random.default_rng(0))
    assert len({*turn[[0, 1, 4]].tolist()}) == 1
    assert shares(group, np.array([True, True, True, False, False])).tolist() == [0.5, 0.5, 1, 1, 0.5]


def test_relabelled_nodes_relabel_what_is_known_of_them():
    graph, draw = toy(), np.random.default_rng(3)
    new = draw.permutation(NODES)
    names = [graph.names[node] for node in np.argsort(new)]
    moved = Graph(torch.from_numpy(new)[graph.edge_index], names, graph.features[np.argsort(new)])
    target, known = draw.normal(size=NODES), draw.random(NODES) < 0.6
    one, other = Structure(graph, components=0), Structure(moved, components=0)
    plain = slice(0, 14)  # singular vectors have no sign
    np.testing.assert_allclose(other.inputs[new][:, plain], one.inputs[:, plain], atol=1e-8)
    back = np.argsort(new)
    around = other.around(known[back], target[back])[new]
    np.testing.assert_allclose(around[:, :12], one.around(known, target)[:, :12], atol=1e-8)


def test_features_of_another_graph_lie_in_the_same_directions():
    graph = toy()
    structure = Structure(graph, components=0)
    directions = structure.feature_directions
    again = Structure(graph, components=0, basis=directions)
    np.testing.assert_array_equal(again.inputs, structure.inputs)
    assert Structure(toy(features=False), components=0).inputs.shape[1] == 14


@pytest.mark.parametrize("edges", [torch.zeros(2, 0, dtype=torch.int64), torch.tensor([[1], [1]])])
def test_a_graph_with_hardly_an_edge_has_finite_inputs(edges):
    structure = Structure(Graph(edges, list("abc")), components=2)
    assert np.isfinite(structure.inputs).all()
    assert np.isfinite(structure.around(np.array([True, False, False]), np.array([2.0, 0, 0]))).all()


def test_triangles_are_those_of_networkx():
    networkx = pytest.importorskip("networkx")
    structure = Structure(toy(), components=0)
    drawn = networkx.from_scipy_sparse_array(structure.either)
    expected = networkx.triangles(drawn)
    np.testing.assert_allclose(np.expm1(structure.inputs[:, 8]) / 2, [expected[node] for node in range(NODES)])
