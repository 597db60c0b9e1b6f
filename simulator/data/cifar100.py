"""CIFAR-100: 50,000 training and 10,000 test photographs, 32x32 in colour, a hundred classes.

**Source.** A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; files in the layout of
``torchvision.datasets.CIFAR100(root)``.

**Departures.** None; the twenty coarse labels are not read. Pixels in [0, 1] are normalised by means (0.5071, 0.4865,
0.4409) and standard deviations (0.2673, 0.2564, 0.2762).
"""

from simulator.data.cifar import Cifar


class Cifar100(Cifar):
    """CIFAR-100 below ``root``/cifar-100-python; arguments as in :class:`simulator.data.cifar.Cifar`."""

    name = "cifar100"
    title = "CIFAR-100"
    folder = "cifar-100-python"
    files = ("train", "test")
    label_key = b"fine_labels"
    num_classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    def fetch(self, root: str) -> None:
        """Lets torchvision download and unpack the files."""
        from torchvision.datasets import CIFAR100

        CIFAR100(root, download=True)
