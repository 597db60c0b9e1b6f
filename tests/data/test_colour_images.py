"""CIFAR from files in its format; Fashion-MNIST, which differs from MNIST in place and normalisation; black borders."""

import pickle
import struct

import numpy as np
import pytest
import torch

from simulator.data.cifar10 import TRAIN_FILES, Cifar10
from simulator.data.cifar100 import Cifar100
from simulator.data.fashion_mnist import FashionMnist
from simulator.data.loading import load_node_data
from simulator.data.partitions.dirichlet_shift import DirichletShift
from simulator.data.partitions.shared import Shared

CPU = torch.device("cpu")
SHARED = Shared(valid_fraction=0.0, test_fraction=0.0, replacement=True, seed=0)


def cifar(root, **changes):
    return Cifar10(**{"root": str(root), "download": False, "timeout_s": 1.0, "augment": True, **changes})


def write_cifar(root, protocol=2):
    """Six files of two images each; returns images [12, 32, 32, 3] and labels."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 12)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    for position, file in enumerate((*TRAIN_FILES, "test_batch")):
        part = slice(2 * position, 2 * position + 2)
        # A row is the red plane, then green and blue, each row by row; keys are byte strings, as Python 2 wrote them.
        rows = np.stack([np.concatenate([image[..., c].ravel() for c in range(3)]) for image in images[part]])
        content = {
            b"data": rows,
            b"labels": labels[part].tolist(),
            b"batch_label": b"training",
            b"filenames": [b"a", b"b"],
        }
        (folder / file).write_bytes(pickle.dumps(content, protocol=protocol))
    return images, labels


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar10_is_read_plane_by_plane(tmp_path, protocol):
    images, labels = write_cifar(tmp_path, protocol)
    cifar(tmp_path).prepare()
    samples = cifar(tmp_path).load()
    np.testing.assert_array_equal(samples.inputs.numpy(), images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(samples.labels.numpy(), labels)
    assert (samples.num_train, samples.num_classes, samples.inputs.dtype) == (10, 10, torch.uint8)


def test_cifar10_is_normalised_and_its_black_is_black(tmp_path):
    images, _ = write_cifar(tmp_path)
    data = load_node_data(cifar(tmp_path), SHARED, 2, range(1), torch.float64, CPU)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
    expected = (images[10:] / 255 - mean) / std
    np.testing.assert_allclose(data.test.inputs.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert data.augmentation.padding == 4
    np.testing.assert_allclose(data.augmentation.black, -mean / std)
    assert load_node_data(cifar(tmp_path, augment=False), SHARED, 2, range(1), torch.float64, CPU).augmentation is None


def test_padding_with_black_and_shifted_colours_do_not_go_together(tmp_path):
    write_cifar(tmp_path)
    settings = {"alpha": 1.0, "num_label_clusters": None, "sample_fraction": 1.0, "min_samples": 1, "min_std": 0.1}
    further = {"feature_shift": True, "num_shift_clusters": 1, "valid_fraction": 0.0, "test_fraction": 0.0}
    partition = DirichletShift(**settings, **further, test="node", seed=0)
    with pytest.raises(ValueError, match=r"dataset\.augment=true .* partition\.feature_shift=true .* switch one"):
        load_node_data(cifar(tmp_path), partition, 1, range(1), torch.float32, CPU)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        b"",
        pickle.dumps({b"data": [1, 2]}),
        pickle.dumps({b"data": np.zeros((1, 7), np.uint8), b"labels": [0]}),
        pickle.dumps([1]),
        b"cposix\nsystem\n(S'true'\ntR.",
    ],
    ids=["html", "empty", "no_labels", "other_shape", "no_dictionary", "a_command"],
)
def test_broken_and_foreign_files_are_one_error(tmp_path, content):
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_3 is no batch of CIFAR-10 \(.*\); delete it and fetch") as caught:
        cifar(tmp_path).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [[1], [1, 10], [-1, 1]])
def test_labels_that_do_not_fit_are_refused(tmp_path, labels):
    images, _ = write_cifar(tmp_path)
    rows = images[:2].transpose(0, 3, 1, 2).reshape(2, -1)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": rows, b"labels": labels}))
    with pytest.raises(ValueError, match=r"data_batch_1 does not hold one label in 0\.\.9 for every image"):
        cifar(tmp_path).load()


def test_missing_files_are_named_with_the_remedy(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"dataset cifar10: test_batch not found in .*cifar-10-batches-py .*data_root"):
        cifar(tmp_path).prepare()
    with pytest.raises(ValueError, match=r"dataset fashion_mnist: .* not found in .*FashionMNIST/raw .*download=true"):
        FashionMnist(root=str(tmp_path), download=False, timeout_s=1.0).load()


def test_fashion_mnist_has_a_normalisation_of_its_own(tmp_path):
    dataset = FashionMnist(root=str(tmp_path), download=False, timeout_s=1.0)
    dataset.path.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for file, array in zip(dataset.files, (images, np.arange(4, dtype=np.uint8)) * 2, strict=True):
        header = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
        (dataset.path / file).write_bytes(header + array.tobytes())
    data = load_node_data(dataset, SHARED, 1, range(1), torch.float64, CPU)
    np.testing.assert_allclose(data.test.inputs[:, 0].numpy(), (images / 255 - 0.2860) / 0.3530, rtol=1e-12, atol=1e-12)


def test_cifar100_has_fine_labels_and_a_normalisation_of_its_own(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    planes, labels = rng.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8), np.array([99, 0, 41, 7, 60])
    for file, part in (("train", slice(3)), ("test", slice(3, 5))):
        content = {
            b"data": planes[part].reshape(-1, 3072),
            b"fine_labels": labels[part].tolist(),
            b"coarse_labels": [1] * len(labels[part]),
            b"filenames": [b"a"] * len(labels[part]),
        }
        (folder / file).write_bytes(pickle.dumps(content))
    dataset = Cifar100(root=str(tmp_path), download=False, timeout_s=1.0, augment=False)
    dataset.prepare()
    assert (dataset.load().num_train, dataset.load().num_classes) == (3, 100)
    data = load_node_data(dataset, SHARED, 1, range(1), torch.float64, CPU)
    assert sorted(data.train.labels.tolist()) == [0, 41, 99]
    assert data.test.labels.tolist() == [7, 60]
    mean, std = np.array([0.5071, 0.4865, 0.4409]), np.array([0.2673, 0.2564, 0.2762])
    expected = (planes[3:] / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(data.test.inputs.numpy(), expected, rtol=1e-12, atol=1e-12)
    (folder / "test").write_bytes(pickle.dumps({b"data": planes[:1].reshape(1, -1), b"coarse_labels": [1]}))
    with pytest.raises(ValueError, match=r"test is no batch of CIFAR-100 \(.*fine_labels.*\); delete it"):
        dataset.load()


def test_a_black_border_makes_images_larger(tmp_path):
    plain = FashionMnist(root=str(tmp_path), download=False, timeout_s=1.0)
    plain.path.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for file, array in zip(plain.files, (images, np.arange(3, dtype=np.uint8)) * 2, strict=True):
        header = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
        (plain.path / file).write_bytes(header + array.tobytes())
    padded = FashionMnist(root=str(tmp_path), download=False, timeout_s=1.0, pad=2).load().inputs
    np.testing.assert_array_equal(padded.numpy()[:3, 0], np.pad(images, ((0, 0), (2, 2), (2, 2))))
    assert padded.dtype == torch.uint8
    np.testing.assert_array_equal(plain.load().inputs.numpy()[:3, 0], images)
    with pytest.raises(ValueError, match=r"dataset\.pad=-1: expected a number of pixels, at least 0"):
        FashionMnist(root=str(tmp_path), download=False, timeout_s=1.0, pad=-1)
