"""CIFAR-10: 50,000 training and 10,000 test photographs, 32x32 in colour, ten classes.

**Source.** A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; files in the layout of
``torchvision.datasets.CIFAR10(root)``.

**Departures.** None. Pixels in [0, 1] are normalised by means (0.4914, 0.4822, 0.4465) and standard deviations
(0.2023, 0.1994, 0.2010).
"""

from simulator.data.cifar import Cifar

TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))


class Cifar10(Cifar):
    """CIFAR-10 below ``root``/cifar-10-batches-py; arguments as in :class:`simulator.data.cifar.Cifar`."""

    name = "cifar10"
    title = "CIFAR-10"
    folder = "cifar-10-batches-py"
    files = (*TRAIN_FILES, "test_batch")
    label_key = b"labels"
    num_classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import CIFAR10

        CIFAR10(root, download=True)
