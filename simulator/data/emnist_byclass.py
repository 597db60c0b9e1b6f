"""EMNIST "byclass": 697,932 training and 116,323 test images of digits and letters, 28x28, 62 classes.

**Source.** G. Cohen, S. Afshar, J. Tapson and A. van Schaik, "EMNIST: extending MNIST to handwritten letters",
IJCNN 2017; files in the layout of ``torchvision.datasets.EMNIST(root, split="byclass")``.

**Departures.** The files hold every image column by column; here images are upright. They are normalised by the mean
and standard deviation of MNIST (0.1307, 0.3081), as in the experiments on EMNIST of omarfoq/FedEM.
"""

from simulator.data.idx import IdxDataset


class EmnistByClass(IdxDataset):
    """EMNIST "byclass" below ``root``/EMNIST/raw; arguments as in :class:`simulator.data.idx.IdxDataset`."""

    name = "emnist_byclass"
    folder = "EMNIST/raw"
    files = (
        "emnist-byclass-train-images-idx3-ubyte",
        "emnist-byclass-train-labels-idx1-ubyte",
        "emnist-byclass-test-images-idx3-ubyte",
        "emnist-byclass-test-labels-idx1-ubyte",
    )
    num_classes = 62
    transposed = True

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import EMNIST

        EMNIST(root, split="byclass", download=True)
