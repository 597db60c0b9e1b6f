"""Rows that begin at lines of the cache: what must not show, and that products make use of it."""

import numpy as np
import pytest
import torch

from simulator import config
from simulator.checkpoint import find, save
from simulator.network.network import Network
from simulator.network.payload import payload_bytes
from simulator.network.weight_matrix import WeightMatrix
from simulator.padding import copy_as, empty_as, is_padded, padded_copy, padded_width, with_padding, zeros_as
from simulator.placement import Placement
from simulator.simulation import Simulation

LINE = 64
WIDTHS = {torch.float32: (650, 656), torch.float64: (650, 656)}  # no multiple of a line, and a multiple


def rows_of(width, dtype, num_rows=5):
    return torch.arange(num_rows * width, dtype=dtype).sin().view(num_rows, width)


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("is_whole", [False, True])
class TestRows:
    def test_every_row_begins_at_a_line_and_holds_the_same_numbers(self, dtype, is_whole):
        plain = rows_of(WIDTHS[dtype][is_whole], dtype)
        padded = padded_copy(plain)
        assert torch.equal(padded, plain)
        assert [row.data_ptr() % LINE for row in padded] == [0] * 5
        assert any(row.data_ptr() % LINE for row in plain) != is_whole
        assert is_padded(padded) != is_whole
        assert padded.nbytes == plain.nbytes
        assert payload_bytes((padded,)) == payload_bytes((plain,))

    def test_new_rows_have_the_padding_of_others(self, dtype, is_whole):
        padded = padded_copy(rows_of(WIDTHS[dtype][is_whole], dtype))
        for made in (empty_as(padded), zeros_as(padded), copy_as(padded), copy_as(padded, padded[::1].clone())):
            assert made.stride() == padded.stride()
            assert is_padded(made) == is_padded(padded)
        assert not zeros_as(padded, 3).any()
        assert zeros_as(padded, 3).shape == (3, padded.shape[1])
        assert torch.equal(copy_as(padded), padded)
        assert not is_padded(empty_as(padded.clone()))

    @pytest.mark.parametrize("density", [1.0, 0.05])
    def test_products_have_the_same_bits_and_keep_the_padding(self, dtype, is_whole, density):
        num_rows = 40
        dense = np.random.default_rng(0).random((num_rows, num_rows))
        dense *= np.random.default_rng(1).random(dense.shape) < density
        row, column = np.nonzero(dense)
        block = WeightMatrix(row, column, dense[row, column], dense.shape)
        plain = rows_of(WIDTHS[dtype][is_whole], dtype, num_rows)
        assert block.is_dense(plain.shape[1] * plain.element_size()) == (density == 1.0)
        padded = padded_copy(plain)
        mixed = block.multiply(padded)
        assert torch.equal(mixed, block.multiply(plain))
        np.testing.assert_allclose(mixed.double(), dense @ plain.double().numpy(), rtol=1e-4, atol=1e-5)
        assert mixed.stride() == padded.stride()

    def test_part_of_the_columns_is_not_taken_for_padding(self, dtype, is_whole):
        whole = padded_copy(rows_of(WIDTHS[dtype][is_whole], dtype))
        part = whole[:, : whole.shape[1] // 2]
        assert not is_padded(part)
        assert with_padding(part) is part


def test_short_rows_take_no_more_memory():
    short = torch.ones(4, 100)
    assert padded_width(100, torch.float32) == 100
    assert padded_copy(short).is_contiguous()


SETTINGS = [
    *("dataset=digits", "problem.batch_size=8", "graph=ring", "num_nodes=4", "device=cpu"),
    *("dtype=float32", "compute=batched", "model=mlp", "model.hidden=[7]"),
]


@pytest.fixture(scope="module")
def simulation():
    return Simulation.build(config.compose(["algorithm=sgp", *SETTINGS]))


def test_checkpoints_hold_the_rows_alone(simulation, tmp_path):
    state = simulation.step(simulation.init(), 0)
    params = state["params"]
    assert is_padded(params)
    meta = {"compute_choices": {}, "compute": "batched", "num_nodes": 4}
    save(tmp_path, 1, state, meta, simulation.network)
    loaded = find(tmp_path).load_rows(range(4))
    assert torch.equal(loaded["params"], params)
    (file,) = (tmp_path / "checkpoint" / "step_00000001").glob("*.pt")
    stored = torch.load(file, weights_only=True)["params"]
    assert stored.untyped_storage().nbytes() == params.nbytes


def test_messages_are_counted_without_padding(simulation):
    network = Network(simulation.network.graph, Placement(4, 1), torch.device("cpu"))
    params = padded_copy(rows_of(650, torch.float32, 4))
    network.mix((params,), 0)
    assert network.ledger.bytes == 8 * 650 * 4  # a ring of four nodes has eight directed edges


def test_a_run_has_the_numbers_of_rows_without_padding(simulation):
    states = [simulation.init(), {name: rows.clone() for name, rows in simulation.init().items()}]
    assert [is_padded(state["params"]) for state in states] == [True, False]
    for step in range(5):
        states = [simulation.step(state, step) for state in states]
    torch.testing.assert_close(states[0]["params"], states[1]["params"], rtol=1e-5, atol=1e-6)
    assert is_padded(states[0]["params"])
