"""EMNIST "digits": 240,000 training and 40,000 test images of handwritten digits, 28x28, ten classes of equal size.

**Source.** G. Cohen, S. Afshar, J. Tapson and A. van Schaik, "EMNIST: extending MNIST to handwritten letters",
IJCNN 2017; files in the layout of ``torchvision.datasets.EMNIST(root, split="digits")``.

**Departures.** The files hold every image column by column; here images are upright. They are normalised by the mean
and standard deviation of MNIST (0.1307, 0.3081), as in the experiments on EMNIST of omarfoq/FedEM.
"""

from simulator.data.idx import IdxDataset


class EmnistDigits(IdxDataset):
    """EMNIST "digits" below ``root``/EMNIST/raw; arguments as in :class:`simulator.data.idx.IdxDataset`."""

    name = "emnist_digits"
    folder = "EMNIST/raw"
    files = (
        "emnist-digits-train-images-idx3-ubyte",
        "emnist-digits-train-labels-idx1-ubyte",
        "emnist-digits-test-images-idx3-ubyte",
        "emnist-digits-test-labels-idx1-ubyte",
    )
    num_classes = 10
    transposed = True

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import EMNIST

        EMNIST(root, split="digits", download=True)
