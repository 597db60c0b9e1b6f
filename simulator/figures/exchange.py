"""Pictures of data exchange: what the samples of each node look like on average."""

from pathlib import Path

import numpy as np

from simulator.arrays import FloatArray
from simulator.figures.style import LABEL_SIZE, TITLE_SIZE, new_figure, save

_MAX_NODES = 10
_ROWS = ("dealt", "sent", "held")


def mean_images(sums: FloatArray, path: Path) -> Path | None:
    """The mean image of the samples that every node got, has sent and holds in the end; the first ten nodes.

    Args:
        sums: sums of the images of each of the three sets, [M, 3, channels, height, width]; zeros where a set is empty.
        path: file to write.
    """
    shown = sums[:_MAX_NODES]
    figure = new_figure(1.0 + 1.1 * len(shown), 4.2)
    panels = figure.subplots(3, len(shown), squeeze=False)
    for node, images in enumerate(shown):
        for row, image in enumerate(images):
            axes = panels[row, node]
            axes.set_xticks([])
            axes.set_yticks([])
            peak = image.max()
            picture = np.moveaxis(image / peak, 0, -1) if peak > 0 else np.zeros((*image.shape[1:], 1))
            axes.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray_r", vmin=0.0, vmax=1.0)
        panels[0, node].set_title(f"node {node}", fontsize=LABEL_SIZE)
    for row, name in enumerate(_ROWS):
        panels[row, 0].set_ylabel(name, fontsize=LABEL_SIZE)
    figure.suptitle("Mean images", fontsize=TITLE_SIZE, x=0.01, ha="left")
    return save(figure, path)
