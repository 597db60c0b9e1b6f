"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28, ten classes.

**Source.** Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE, 1998; files in the layout of ``torchvision.datasets.MNIST(root)``.

**Departures.** None. Pixels in [0, 1] are normalised by mean 0.1307 and standard deviation 0.3081.
"""

from simulator.data.idx import IdxDataset


class Mnist(IdxDataset):
    """MNIST below ``root``/MNIST/raw; arguments as in :class:`simulator.data.idx.IdxDataset`."""

    name = "mnist"
    folder = "MNIST/raw"
    files = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    num_classes = 10

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import MNIST

        MNIST(root, download=True)
