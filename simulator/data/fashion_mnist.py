"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28, ten classes.

**Source.** H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms", arXiv 1708.07747; files in the layout of ``torchvision.datasets.FashionMNIST(root)``.

**Departures.** None. Pixels in [0, 1] are normalised by mean 0.2860 and standard deviation 0.3530.
"""

from simulator.data.idx import IdxDataset


class FashionMnist(IdxDataset):
    """Fashion-MNIST below ``root``/FashionMNIST/raw; arguments as in :class:`simulator.data.idx.IdxDataset`."""

    name = "fashion_mnist"
    folder = "FashionMNIST/raw"
    files = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    num_classes = 10
    mean = (0.2860,)
    std = (0.3530,)

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import FashionMNIST

        FashionMNIST(root, download=True)
