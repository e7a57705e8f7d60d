"""Detections of several detectors below the true objects of the same images.

Shape letters: M objects of an image · H, W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.figures.style import INK, OTHERS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_IN = 1.9  # side of an image
COVER = 0.45  # opacity of a mask


@dataclass(frozen=True)
class ShownObjects:
    """Objects of one image to draw.

    Attributes:
        boxes_M4: x0, y0, x1, y1 in pixels.
        names: class of each object.
        scores: of detections; empty for true objects.
        masks_MHW: bool; None without masks.
    """

    boxes_M4: NDArray[np.float64]
    names: Sequence[str]
    scores: Sequence[float] = ()
    masks_MHW: NDArray[np.bool_] | None = field(default=None, repr=False)


def detections_figure(images: Sequence[NDArray[np.uint8]], rows: Mapping[str, Sequence[ShownObjects]]) -> "Figure":
    """One row for each entry, such as the truth and two runs, and one column for each image [H, W, 3].

    A class has the same color everywhere.
    """
    names = sorted({name for shown in rows.values() for one in shown for name in one.names})
    colors = {name: OTHERS[number % len(OTHERS)] for number, name in enumerate(names)}
    with new_figure(CELL_IN * len(images) + 0.3, CELL_IN * len(rows)) as figure:
        grid = figure.subplots(len(rows), len(images), squeeze=False)
        for axes_N, (title, shown) in zip(grid, rows.items(), strict=True):
            for axes, image_HW3, objects in zip(axes_N, images, shown, strict=True):
                _draw(axes, image_HW3, objects, colors)
            axes_N[0].set_ylabel(title)
        return figure


def _draw(axes: "Axes", image_HW3: NDArray[np.uint8], objects: ShownObjects, colors: Mapping[str, str]) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    canvas_HW3 = image_HW3.astype(np.float64) / 255
    for row, name in enumerate(objects.names):
        if objects.masks_MHW is not None:
            inside_HW = objects.masks_MHW[row]
            canvas_HW3[inside_HW] = (1 - COVER) * canvas_HW3[inside_HW] + COVER * np.array(to_rgb(colors[name]))
    axes.imshow(canvas_HW3, interpolation="nearest")
    for row, (name, box_4) in enumerate(zip(objects.names, objects.boxes_M4.tolist(), strict=True)):
        x0, y0, x1, y1 = box_4
        # Pixel 0 is drawn from -0.5 to 0.5.
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colors[name]))
        score = f" {objects.scores[row]:.2f}" if len(objects.scores) else ""
        label = axes.text(
            x0, y0 - 1.5, f"{name}{score}", fontsize=5, color=INK, verticalalignment="bottom", clip_on=True
        )
        label.set_in_layout(False)  # a label at the edge would make room for itself between two images
    axes.set(xticks=[], yticks=[])
