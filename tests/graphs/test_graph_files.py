"""Graphs from files: what is read, and what is said about files that do not fit."""

import numpy as np
import pytest

from simulator.graphs.file import File

METROPOLIS_PATH = np.array([[2, 1, 0], [1, 1, 1], [0, 1, 2]]) / 3
COLUMN = np.array([[0.5, 0, 0.25], [0.5, 0.4, 0], [0, 0.6, 0.75]])


def read(folder, text, *, num_nodes=3, name="graph.txt", **arguments):
    path = folder / name
    path.write_text(text)
    return File(num_nodes=num_nodes, path=str(path), **arguments)


def matrix_of(graph):
    return graph.edges(5).to_matrix(graph.num_nodes)


def test_constructing_reads_nothing(tmp_path):
    graph = File(num_nodes=3, path=str(tmp_path / "later.txt"))
    (tmp_path / "later.txt").write_text("0 1\n1 2\n")
    np.testing.assert_allclose(matrix_of(graph), METROPOLIS_PATH, atol=1e-15)
    assert graph.edges(0) is graph.edges(9)


@pytest.mark.parametrize(
    "text", ["# a path\n0 1\n\n2 1  # the other way round\n", "0,1\n1,2\n", "1 0\n0 1\n1 2\n0 0\n"]
)
def test_edges_without_weights(tmp_path, text):
    graph = read(tmp_path, text)
    np.testing.assert_allclose(matrix_of(graph), METROPOLIS_PATH, atol=1e-15)
    assert graph.stochasticity == "double"
    assert not graph.directed


def test_directed_edges_without_weights(tmp_path):
    graph = read(tmp_path, "0 1\n1 2\n2 0\n0 2\n", directed=True)
    expected = np.array([[1 / 3, 0, 1 / 2], [1 / 3, 1 / 2, 0], [1 / 3, 1 / 2, 1 / 2]])
    np.testing.assert_allclose(matrix_of(graph), expected, atol=1e-15)
    assert graph.stochasticity == "column"
    assert graph.directed


def test_given_weights_are_kept(tmp_path):
    lines = "".join(f"{j} {i} {COLUMN[i, j]}\n" for i in range(3) for j in range(3))
    graph = read(tmp_path, lines, directed=True)
    np.testing.assert_array_equal(matrix_of(graph), COLUMN)
    assert len(graph.edges(0).source) == 6  # zeros are no edges
    assert graph.stochasticity == "column"
    undirected = read(tmp_path, "0 1 0.3\n0 0 0.7\n1 1 0.7\n", num_nodes=2)
    np.testing.assert_array_equal(matrix_of(undirected), [[0.7, 0.3], [0.3, 0.7]])
    assert undirected.stochasticity == "double"


def test_matrices(tmp_path):
    np.save(tmp_path / "w.npy", COLUMN.T)
    graph = File(num_nodes=3, path=str(tmp_path / "w.npy"), directed=True)
    np.testing.assert_array_equal(matrix_of(graph), COLUMN.T)
    assert graph.stochasticity == "row"
    text = "\n".join(",".join(map(repr, row)) for row in METROPOLIS_PATH.tolist())
    np.testing.assert_array_equal(matrix_of(read(tmp_path, text, name="w.csv")), METROPOLIS_PATH)
    np.testing.assert_array_equal(matrix_of(read(tmp_path, text, format="matrix")), METROPOLIS_PATH)
    adjacency = read(tmp_path, "0 1 0\n1 0 1\n0 1 0\n", format="matrix")
    np.testing.assert_allclose(matrix_of(adjacency), METROPOLIS_PATH, atol=1e-15)
    four = read(tmp_path, "0 1 0 1\n1 0 1 0\n0 1 0 1\n1 0 1 0\n", num_nodes=4)
    np.testing.assert_allclose(matrix_of(four)[0], [1 / 3, 1 / 3, 0, 1 / 3], atol=1e-15)
    edges = read(tmp_path, "0,1\n1,2\n", name="e.csv", format="edges")
    np.testing.assert_allclose(matrix_of(edges), METROPOLIS_PATH, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("0 1\n1 zwei\n", {}, "line 2 is '1 zwei'; numbers are needed"),
        ("0 1\n1 2 0.5\n", {}, "line 2 has 3 columns, the lines before have 2"),
        ("# nothing\n\n", {}, "it holds no numbers"),
        ("0 1\n1 3\n", {}, r"edge '1 3': nodes are 0 to 2 \(num_nodes=3\)"),
        ("0 -1\n", {}, "edge '0 -1': nodes are 0 to 2"),
        ("0 1.5\n", {}, "edge '0 1.5'"),
        ("0 nan\n", {}, "edge '0 nan'"),
        ("0 1 0.5\n1 2 0.5\n", {}, r"neither the rows nor the columns .* \(row 0: 0.5\)"),
        ("0 1 0.5\n1 0 0.4\n0 0 0.5\n1 1 0.5\n2 2 1\n", {}, "edge '1 0' has two weights"),
        ("0 0 2\n0 1 -1\n1 1 2\n2 2 1\n", {}, "finite and not negative"),
        ("0 0 inf\n1 1 1\n2 2 1\n", {}, "finite and not negative"),
        ("1 0\n0 1\n", {"format": "matrix"}, "a graph of 2 nodes, but num_nodes=3"),
        ("1 0 0\n0 1 0\n", {"format": "matrix"}, r"a matrix of shape \(2, 3\); it must be square"),
        ("4\n0 1\n1 2\n", {}, "a graph of 4 nodes, but num_nodes=3"),
        ("1 2\n2 3\n", {}, r"edge '2 3': nodes are 0 to 2 \(num_nodes=3\). The file seems to number them from 1."),
        ("0 1 5.5\n1 2 7\n", {}, "such as lengths, set graph.weights=metropolis to have them computed"),
        ("0 1 5.5\n1 2 7\n", {"directed": True}, "such as lengths, set graph.weights=out_degree to have"),
        ("0 1 2 3\n", {"format": "edges"}, "4 columns; an edge is 'source target'"),
        (
            "1 .5 0\n0 .5 0\n0 0 1\n",
            {"format": "matrix"},
            r"\(0, 1\) and \(1, 0\) only one is not 0; set graph.directed=true",
        ),
        ("0.5 0.5\n0.5 0.5", {"num_nodes": 2}, "edge '0.5 0.5'"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, arguments, message):
    graph = read(tmp_path, text, **arguments)
    with pytest.raises(ValueError, match=message) as error:
        graph.edges(0)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_files_that_are_not_there_or_not_numbers(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        File(num_nodes=2, path=str(tmp_path / "none.txt")).edges(0)
    for name, content in (("a.npy", b"rubbish"), ("b.npy", b""), ("c.txt", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not a"):
            File(num_nodes=2, path=str(tmp_path / name)).edges(0)
    np.save(tmp_path / "d.npy", np.zeros(4))
    with pytest.raises(ValueError, match=r"an array of shape \(4,\)"):
        File(num_nodes=2, path=str(tmp_path / "d.npy")).edges(0)
    np.save(tmp_path / "e.npy", np.array([["x"]]))
    with pytest.raises(ValueError, match="not a NumPy array of numbers"):
        File(num_nodes=2, path=str(tmp_path / "e.npy")).edges(0)
    with pytest.raises(ValueError, match="the formats are auto, edges, matrix"):
        File(num_nodes=2, path="x", format="gexf")


def test_a_doubly_stochastic_matrix_that_is_not_symmetric_is_directed(tmp_path):
    """Whatever its support is: methods that need W = W' must not take it."""
    forward = np.roll(np.eye(3), 1, axis=1)
    lopsided = 0.3 * np.eye(3) + 0.5 * forward + 0.2 * forward.T
    for name, matrix, directed in (("lopsided", lopsided, True), ("even", (lopsided + lopsided.T) / 2, False)):
        np.save(tmp_path / f"{name}.npy", matrix.astype(np.float32))
        graph = File(num_nodes=3, path=str(tmp_path / f"{name}.npy"))
        assert (graph.stochasticity, graph.directed) == ("double", directed)


PATH_FILES = {
    "path.gml": 'graph [ node [ id 0 label "A" ] node [ id 1 label "B" ] node [ id 2 label "C" ]\n'
    "edge [ source 2 target 1 ] edge [ source 0 target 1 ] edge [ source 0 target 1 ] ]\n",
    "path.graphml": """<?xml version='1.0' encoding='utf-8'?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">
<node id="west"/><node id="centre"/><node id="east"/>
<edge source="east" target="centre"/><edge source="west" target="centre"/></graph></graphml>""",
    "path.adjlist": "# comment\n2 1\n1 0\n0\n",
    "path.mtx": "%%MatrixMarket matrix coordinate pattern symmetric\n% comment\n3 3 2\n2 1\n3 2\n",
    "counted.txt": "3\n0 1\n1 0\n1 2\n2 1\n",
    "konect.txt": "% sym unweighted\n0 1\n1 2\n",
    "mark.csv": "\ufeff0,1,0\n1,0,1\n0,1,0\n",
    "semicolons.csv": "0;1;0\n1;0;1\n0;1;0\n",
}


@pytest.mark.parametrize("name", PATH_FILES)
def test_the_path_of_three_nodes_in_every_format(tmp_path, name):
    graph = read(tmp_path, PATH_FILES[name], name=name)
    np.testing.assert_allclose(matrix_of(graph), METROPOLIS_PATH, atol=1e-15)
    assert not graph.directed


def test_weights_of_a_graph_file_are_those_of_w(tmp_path):
    lines = "".join(
        f"edge [ source {j} target {i} weight {COLUMN[i, j]} ]\n" for i in range(3) for j in range(3) if COLUMN[i, j]
    )
    nodes = "".join(f"node [ id {i} ]\n" for i in range(3))
    text = f"graph [ directed 1\n{nodes}{lines}]\n"
    graph = read(tmp_path, text, name="w.gml", directed=True)
    np.testing.assert_array_equal(matrix_of(graph), COLUMN)
    with pytest.raises(ValueError, match=r"the graph of the file is directed; set graph\.directed=true"):
        read(tmp_path, text, name="w.gml").edges(0)
    rows = "".join(f"{i + 1} {j + 1} {COLUMN[i, j]}\n" for i in range(3) for j in range(3) if COLUMN[i, j])
    matrix = f"%%MatrixMarket matrix coordinate real general\n3 3 6\n{rows}"
    np.testing.assert_array_equal(matrix_of(read(tmp_path, matrix, name="w.mtx", directed=True)), COLUMN)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.gml", "graph [ node [ id 0 ", r"networkx.read_gml cannot read it \("),
        ("a.graphml", "<graphml>", r"networkx.read_graphml cannot read it \("),
        ("a.mtx", "1 2\n", r"not a MatrixMarket file \("),
        ("b.mtx", "%%MatrixMarket matrix array real general\n2 3\n1\n1\n1\n1\n1\n1\n", "it must be square"),
        (
            "b.gml",
            "graph [ node [ id 0 ] node [ id 1 ] node [ id 2 ] edge [ source 0 target 1 weight 1 ]"
            " edge [ source 1 target 2 ] ]",
            "some edges have a weight and others have none",
        ),
    ],
)
def test_graph_files_that_cannot_be_read(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, text, name=name).edges(0)
    assert "\n" not in str(error.value)
