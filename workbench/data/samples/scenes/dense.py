"""Dense scenes: 128 x 128 images of three to eight objects, small ones too, with exact boxes and masks.

Objects, colors, textures, backgrounds, light and noise are those of the 48-pixel scenes, drawn by the same functions;
relations and captions are left out. Objects of later numbers lie on top, and a mask is what remains visible.

Shape letters: K objects of an image · H, W pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from workbench.data.samples.scenes import shapes
from workbench.data.samples.scenes.attributes import COLORS, SHAPES, TEXTURES, combinations, uniforms
from workbench.data.samples.scenes.drawing import bounding_boxes
from workbench.data.samples.scenes.rendering import MAX_TILT, Layout, composite, cut_windows, develop
from workbench.data.samples.scenes.shapes import REACH
from workbench.randomness import derive_seed

SIDE_PX = 128
NUM_OBJECTS = (3, 8)
RADIUS_PX = (4.0, 20.0)  # half an object's extent; log-uniform, so that small ones are as common as large ones
LEAST_DISTANCE = 0.85  # of two centers, in sums of their radii: a little overlap is allowed
LEAST_VISIBLE_PX = 12  # of an object's mask; a smaller rest is not annotated
NUM_TRIES = 12  # places tried for an object before it is left out
UNSEEN_SHARE = 0.5  # of the objects of a held-out image: those with a combination that no training image has
WINDOW_PX = 51  # an object with its shadow: twice 1.12 radii, and 2 px of shadow on each side
PAD_PX = WINDOW_PX // 2

_REACH = np.array([REACH[shape] for shape in SHAPES])
_PER_OBJECT = 10 + 2 * NUM_TRIES


@dataclass(frozen=True)
class DenseScene:
    """An image with its objects, in drawing order.

    Attributes:
        image_HW3: uint8.
        triples_K3: indices of color, texture and shape.
        boxes_K4: x0, y0, x1, y1 of the visible mask in pixels, the last two exclusive.
        masks_KHW: bool.
    """

    image_HW3: NDArray[np.uint8]
    triples_K3: NDArray[np.int64]
    boxes_K4: NDArray[np.int64]
    masks_KHW: NDArray[np.bool_]


def combination_name(color: int, texture: int, shape: int) -> str:
    """Such as "red striped star", for the indices of a combination."""
    return f"{COLORS[color]} {TEXTURES[texture]} {SHAPES[shape]}"


def draw_dense(split: str, index: int) -> DenseScene:
    """Scene ``index`` of "train", "teacher", "validation" or "test": a function of these two alone.

    Objects of train and teacher have the combinations of training. Of a held-out image, about half of the objects have
    one of its split's own, which no training image has.
    """
    seed = np.array([derive_seed(0, "scenes-dense", split, index)], dtype=np.uint64)
    low, high = NUM_OBJECTS
    draws = uniforms(seed, 4 + high * _PER_OBJECT)[0]
    num = low + int(draws[0] * (high - low + 1))
    draws_KU = draws[4:].reshape(high, _PER_OBJECT)[:num]
    triples_K3 = _choose(split, draws_KU)
    radius_K = RADIUS_PX[0] * (RADIUS_PX[1] / RADIUS_PX[0]) ** draws_KU[:, 2]
    placed, center_K2 = _place(draws_KU[:, 10:], _REACH[triples_K3[:, 2]] * radius_K)
    triples_K3, draws_KU = triples_K3[placed], draws_KU[placed]
    layout = Layout(
        size_N2=np.zeros((1, len(placed)), np.int64),
        color_N2=triples_K3[None, :, 0],
        texture_N2=triples_K3[None, :, 1],
        shape_N2=triples_K3[None, :, 2],
        relation_N=np.zeros(1, np.int64),
        center_N22=center_K2[None],
        radius_N2=radius_K[placed][None],
        tilt_N2=MAX_TILT * (2 * draws_KU[None, :, 3] - 1),
    )
    image_HW3, masks_KHW = _render(layout, draws_KU[:, 4:10], draws[1:4], seed)
    kept = masks_KHW.sum((1, 2)) >= LEAST_VISIBLE_PX
    return DenseScene(image_HW3, triples_K3[kept], bounding_boxes(masks_KHW[kept]), masks_KHW[kept])


def _choose(split: str, draws_KU: NDArray[np.float64]) -> NDArray[np.int64]:
    """A combination for each object, [K, 3]."""
    is_unseen_K = (draws_KU[:, 0] < UNSEEN_SHARE) & (split in ("validation", "test"))
    pools = combinations("train"), combinations(split)
    own, unseen = (pool[np.floor(draws_KU[:, 1] * len(pool)).astype(np.int64)] for pool in pools)
    return np.where(is_unseen_K[:, None], unseen, own)


def _place(tries_KU: NDArray[np.float64], reach_K: NDArray[np.float64]) -> tuple[list[int], NDArray[np.float64]]:
    """The objects for which there is room, and their centers: each takes the first of its places that is free."""
    placed: list[int] = []
    centers: list[NDArray[np.float64]] = []
    for number, (tries, reach) in enumerate(zip(tries_KU, reach_K, strict=True)):
        for center in reach + (SIDE_PX - 2 * reach) * tries.reshape(NUM_TRIES, 2):
            least = [LEAST_DISTANCE * (reach + reach_K[other]) for other in placed]
            if all(np.hypot(*(center - other)) >= limit for other, limit in zip(centers, least, strict=True)):
                placed.append(number)
                centers.append(center)
                break
    return placed, np.array(centers)


def _render(
    layout: Layout, draws_K6: NDArray[np.float64], light_3: NDArray[np.float64], seed: NDArray[np.uint64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The image, uint8 [H, W, 3], and what is visible of each object, bool [K, H, W]."""
    num, padded = len(draws_K6), SIDE_PX + 2 * PAD_PX
    windows = cut_windows(layout, draws_K6, WINDOW_PX, PAD_PX)
    canvas = np.zeros((1, 3, padded, padded), np.float32)
    inner = (..., slice(PAD_PX, PAD_PX + SIDE_PX), slice(PAD_PX, PAD_PX + SIDE_PX))
    shapes.paint(canvas[inner], seed ^ np.uint64(1))
    mask = np.zeros((num, padded, padded), np.bool_)
    views = sliding_window_view(mask, (WINDOW_PX, WINDOW_PX), axis=(1, 2), writeable=True)
    for which, (x, y) in enumerate(windows.corner_M2):
        composite(canvas, windows, which, num)
        inside = windows.distance_px_MPP[which] <= 0
        views[:which, y, x] &= ~inside  # this object covers those below it
        views[which, y, x] = inside
    return develop(canvas[inner], light_3[None], seed)[0], mask[inner]
