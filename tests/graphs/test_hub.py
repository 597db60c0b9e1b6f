"""The hub's two rounds."""

import numpy as np

from simulator.graphs.hub import Hub


def test_up_and_down():
    hub = Hub(num_nodes=4)
    assert (hub.period, hub.directed, hub.stochasticity) == (2, True, "row")
    up = np.eye(4)
    up[0] = 0.25
    down = 0.5 * np.eye(4)
    down[:, 0] = 0.5
    down[0, 0] = 1.0
    for step in (0, 1, 2, 7):
        np.testing.assert_array_equal(hub.edges(step).to_matrix(4), (up, down)[step % 2])


def test_a_single_node_is_its_own_hub():
    hub = Hub(num_nodes=1)
    assert not hub.directed
    assert all(hub.edges(step).to_matrix(1) == [[1.0]] for step in (0, 1))
