"""Datasets: pixels as they should be, errors that name the remedy, and the mixture against a program of its own."""

import socket
import struct

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.utils import shuffle

from simulator.data.digits import Digits
from simulator.data.emnist_digits import EmnistDigits
from simulator.data.idx import read_idx
from simulator.data.mnist import Mnist
from simulator.data.synthetic_mixture import SyntheticMixture

MIXTURE = {
    "num_nodes": 3,
    "dim": 5,
    "num_components": 3,
    "alpha": 0.4,
    "noise": 0.1,
    "num_train": 100,
    "num_valid": 100,
    "num_test": 5000,
    "box": 1.0,
}


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_fake(dataset, train, test):
    """Writes (images, labels) pairs where the dataset looks for them."""
    for file, array in zip(dataset.files, (*train, *test), strict=True):
        write_idx(dataset.path / file, array)


def random_images(seed, count):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count, dtype=np.uint8)


def test_digits_equal_those_of_scikit_learn():
    digits = load_digits()
    samples = Digits(image_size=8).load()
    np.testing.assert_array_equal(samples.inputs.numpy()[:, 0] * 16, digits.images)
    np.testing.assert_array_equal(samples.labels.numpy(), digits.target)
    assert samples.num_train == len(samples.labels) == 1797


def test_digits_are_found_through_scikit_learn_where_its_file_is_elsewhere(monkeypatch):
    expected = Digits(image_size=8).load()
    monkeypatch.setattr("simulator.data.digits.Path.is_file", lambda path: False)
    samples = Digits(image_size=8).load()
    torch.testing.assert_close(samples.inputs, expected.inputs, rtol=0, atol=0)
    torch.testing.assert_close(samples.labels, expected.labels, rtol=0, atol=0)


def test_enlarged_digits_repeat_every_pixel_inside_a_border_of_two():
    small, large = Digits(image_size=8).load().inputs, Digits(image_size=28).load().inputs
    assert large.shape == (1797, 1, 28, 28)
    expected = torch.zeros(1797, 1, 28, 28)
    expected[..., 2:26, 2:26] = torch.kron(small, torch.ones(1, 1, 3, 3))
    torch.testing.assert_close(large, expected, rtol=0, atol=0)


def test_digits_of_another_size_are_refused():
    with pytest.raises(ValueError, match="image_size=32: digits has 8"):
        Digits(image_size=32)


def test_mnist_files_are_read_as_torchvision_reads_them(tmp_path):
    from torchvision.datasets import MNIST

    dataset = Mnist(root=str(tmp_path), download=False, timeout_s=1.0)
    write_fake(dataset, random_images(0, 7), random_images(1, 4))
    dataset.prepare()
    samples = dataset.load()
    oracles = [MNIST(tmp_path, train=train, download=False) for train in (True, False)]
    assert samples.num_train == 7
    torch.testing.assert_close(samples.inputs[:, 0], torch.cat([oracle.data for oracle in oracles]))
    torch.testing.assert_close(samples.labels, torch.cat([oracle.targets for oracle in oracles]))


def test_emnist_images_are_turned_upright(tmp_path):
    stored = np.zeros((1, 28, 28), dtype=np.uint8)
    stored[0, 4, :] = 255  # the files run down the columns: a horizontal line in the file is a vertical stroke
    labels = np.ones(1, dtype=np.uint8)
    dataset = EmnistDigits(root=str(tmp_path), download=False, timeout_s=1.0)
    write_fake(dataset, (stored, labels), (stored, labels))
    image = dataset.load().inputs[0, 0]
    assert (image[:, 4] == 255).all()
    assert image.sum() == 28 * 255


@pytest.mark.parametrize("method", ["prepare", "load"])
def test_missing_files_are_named_with_the_remedy(tmp_path, method):
    dataset = Mnist(root=str(tmp_path), download=False, timeout_s=1.0)
    write_idx(dataset.path / "train-images-idx3-ubyte", random_images(0, 1)[0])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte") as caught:
        getattr(dataset, method)()
    message = str(caught.value)
    assert "train-images" not in message
    for part in (str(tmp_path / "MNIST" / "raw"), "data_root", "download=true"):
        assert part in message
    assert "\n" not in message


def test_a_failing_download_is_one_quiet_error_and_restores_the_timeout(tmp_path, monkeypatch, capfd):
    dataset = Mnist(root=str(tmp_path), download=True, timeout_s=0.25)
    seen = []

    def fail(root):
        print("0%|          | noise")
        seen.append((root, socket.getdefaulttimeout()))
        raise OSError("no route\nto host")

    monkeypatch.setattr(dataset, "fetch", fail)
    before = socket.getdefaulttimeout()
    with pytest.raises(ValueError, match="the download failed: no route to host"):
        dataset.prepare()
    assert seen == [(str(tmp_path), 0.25)]
    assert socket.getdefaulttimeout() == before
    assert capfd.readouterr() == ("", "")


def test_a_download_that_works_is_not_an_error(tmp_path, monkeypatch):
    dataset = Mnist(root=str(tmp_path), download=True, timeout_s=1.0)
    calls = []

    def fetch(root):
        calls.append(root)
        write_fake(dataset, random_images(0, 2), random_images(1, 1))

    monkeypatch.setattr(dataset, "fetch", fetch)
    dataset.prepare()
    dataset.prepare()
    assert len(calls) == 1
    assert dataset.load().num_train == 2


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="17 bytes where its header asks for 18"):
        read_idx(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="not an IDX file"):
        read_idx(path)


def mixture_by_hand(legacy):
    """The data of MIXTURE with seed 1234, one sample at a time; {(node, split): (features, labels)}."""
    rng = np.random.RandomState(1234)
    for _ in range(3):
        rng.lognormal(4, 2)
    weights = [rng.dirichlet([0.4] * 3) for _ in range(3)]
    theta = [rng.uniform(-1, 1, size=5) for _ in range(3)]
    data = {}
    for node in range(3):
        for split, size in (("train", 100), ("valid", 100), ("test", 5000)):
            counts = rng.multinomial(size, weights[node])
            x = rng.uniform(-1, 1, size=(size, 5))
            y = np.zeros(size)
            first = 0
            for k in range(3):
                noise = rng.normal(0, 0.1, size=counts[k])
                for j in range(counts[k]):
                    row = j if legacy else first + j
                    y[row] = 1.0 if sum(x[row] * theta[k]) + noise[j] > 0 else 0.0
                first += counts[k]
            data[node, split] = shuffle(x, y, random_state=rng)
    return data


@pytest.mark.parametrize("legacy", [True, False])
def test_synthetic_mixture_equals_a_program_of_its_own(legacy):
    np.random.seed(5)
    samples = SyntheticMixture(**MIXTURE, legacy_labels=legacy, seed=1234).load()
    assert np.random.randint(10**9) == np.random.RandomState(5).randint(10**9)  # the global generator is left alone
    assert samples.inputs.dtype == torch.float32
    for (node, split), (features, labels) in mixture_by_hand(legacy).items():
        rows = torch.from_numpy(getattr(samples.node_indices[node], split))
        np.testing.assert_array_equal(samples.inputs[rows].numpy(), features.astype(np.float32))
        np.testing.assert_array_equal(samples.labels[rows].numpy(), labels)


def test_synthetic_mixture_has_the_known_positive_rates():
    samples = SyntheticMixture(**MIXTURE, legacy_labels=True, seed=1234).load()
    rates = [samples.labels.numpy()[node.train].mean() for node in samples.node_indices]
    np.testing.assert_allclose(rates, [0.42, 0.33, 0.46], rtol=0, atol=1e-12)
    everything = np.concatenate([np.r_[node.train, node.valid, node.test] for node in samples.node_indices])
    np.testing.assert_array_equal(np.sort(everything), np.arange(3 * 5200))


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("num_train", 0), ("noise", -1.0), ("box", float("nan"))])
def test_synthetic_mixture_refuses_impossible_numbers(name, value):
    with pytest.raises(ValueError, match=f"dataset.{name}="):
        SyntheticMixture(**{**MIXTURE, name: value}, legacy_labels=True, seed=1234)
