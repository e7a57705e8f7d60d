"""The layout of scenes, and their rendering: background, shadows, textured objects, light, noise, and masks.

Shape letters: N images · M = 2 N objects (first and second of each image, alternating) · H, W pixels of an image ·
P side of an object's window, in pixels: a patch with the object and its shadow. A 2 after N is the first and second
object; the last 2 of a center is x and y.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from workbench.data.samples.scenes import shapes
from workbench.data.samples.scenes.attributes import (
    COLORS,
    RADIUS_PX,
    SHAPES,
    SIZES,
    TONES_RGB,
    bits,
    combinations,
    uniforms,
)
from workbench.data.samples.scenes.shapes import REACH, SIDE_PX, Field, ramps

MARGIN_PX = 0.6  # between an object and the image's edge
GAP_PX = 1.0  # between two objects, at least, along the relation's axis
WANDER_PX = 2.0  # largest distance of a center from the middle of its half
MAX_TILT = 0.11  # tangent of half the largest tilt: 12.6 degrees
SIZE_JITTER = 0.03

RELATIONS = ("left of", "right of", "above", "below")

_REACH = np.array([REACH[shape] for shape in SHAPES])
_RADIUS_PX = np.array(RADIUS_PX)
_NUM_DRAWS = 13

Columns = Iterator[NDArray[np.float64]]


@dataclass(frozen=True)
class Layout:
    """A batch of scenes.

    Attributes are indices into the names in `attributes`; `relation_N` indexes RELATIONS and is that of the first
    object to the second. Centers are in pixels from the top left corner, radii in pixels.
    """

    size_N2: NDArray[np.int64]
    color_N2: NDArray[np.int64]
    texture_N2: NDArray[np.int64]
    shape_N2: NDArray[np.int64]
    relation_N: NDArray[np.int64]
    center_N22: NDArray[np.float64]
    radius_N2: NDArray[np.float64]
    tilt_N2: NDArray[np.float64]  # tangent of half the angle


def lay_out(split: str, seeds_N: NDArray[np.uint64]) -> Layout:
    """The scenes of these seeds: two different objects that do not touch.

    The first object has one of the split's combinations, the second one of training's. So a held-out image has exactly
    one combination that no training image has.
    """
    columns = iter(uniforms(seeds_N, _NUM_DRAWS).T)
    first_N3, second_N3 = (_choose(columns, combinations(of)) for of in (split, "train"))
    triples_N23 = np.stack([first_N3, second_N3], axis=1)
    size_N2 = np.floor(_pair(columns) * len(SIZES)).astype(np.int64)
    identical_N = (triples_N23[:, 0] == triples_N23[:, 1]).all(-1) & (size_N2[:, 0] == size_N2[:, 1])
    size_N2[:, 1] = (size_N2[:, 1] + identical_N) % len(SIZES)

    shape_N2 = triples_N23[..., 2]
    radius_N2 = _RADIUS_PX[size_N2] * (1 + SIZE_JITTER * (2 * _pair(columns) - 1))
    tilt_N2 = MAX_TILT * (2 * _pair(columns) - 1)
    relation_N = np.floor(next(columns) * len(RELATIONS)).astype(np.int64)
    center_N22 = _place(columns, relation_N, _REACH[shape_N2] * radius_N2)
    return Layout(
        size_N2=size_N2,
        color_N2=triples_N23[..., 0],
        texture_N2=triples_N23[..., 1],
        shape_N2=shape_N2,
        relation_N=relation_N,
        center_N22=center_N22,
        radius_N2=radius_N2,
        tilt_N2=tilt_N2,
    )


def _pair(columns: Columns) -> NDArray[np.float64]:
    """The next number for each of the two objects, [N, 2]."""
    return np.stack([next(columns), next(columns)], axis=1)


def _choose(columns: Columns, triples_K3: NDArray[np.int64]) -> NDArray[np.int64]:
    """One of the combinations for each image, [N, 3]."""
    return triples_K3[np.floor(next(columns) * len(triples_K3)).astype(np.int64)]


def _place(columns: Columns, relation_N: NDArray[np.int64], reach_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centers, [N, 2, 2].

    Each object is near the middle of its half of the image and completely inside it, so that a student with a few
    hundred thousand weights can learn relations from a thousand images.
    """
    far_half_N = relation_N % 2 == 1  # right of, below: the first object is in the right or lower half
    sign_N2 = np.where(far_half_N[:, None], [1.0, -1.0], [-1.0, 1.0])
    room_N2 = (SIDE_PX / 2 - GAP_PX / 2 - MARGIN_PX) / 2 - reach_N2
    middle_px = SIDE_PX / 2
    from_middle_N2 = (middle_px + GAP_PX / 2 - MARGIN_PX) / 2 + np.minimum(WANDER_PX, room_N2) * (
        2 * _pair(columns) - 1
    )
    along_N2 = middle_px + sign_N2 * from_middle_N2
    across_N2 = middle_px + WANDER_PX * (2 * _pair(columns) - 1)

    vertical_N = (relation_N >= 2)[:, None]
    x_N2, y_N2 = np.where(vertical_N, across_N2, along_N2), np.where(vertical_N, along_N2, across_N2)
    return np.stack([x_N2, y_N2], axis=-1)


WINDOW_PX = 27
PAD_PX = 8  # largest overhang of a window over the image's edge
SHADOW_PX = 2.0
SHADOW = 0.34  # darkest share taken from the background
TEXTURE_SHIFT_PX = 8.0
TEXTURE_TILT = 0.1  # tangent of half the largest rotation of a texture
COLOR_JITTER = 9.0  # of 255, each channel
LIGHT_FALL = 0.10  # at most, from edge to edge, along x and along y
NOISE_LEVEL = (1.5, 7.0)  # of 255, half the width of the noise

_TONES_K23 = np.array([TONES_RGB[color] for color in COLORS], np.float32)


@dataclass(frozen=True)
class Windows:
    """Distances and colors of the objects in their windows, and the windows' corners on the padded canvas."""

    corner_M2: NDArray[np.int64]  # x, y
    distance_px_MPP: Field
    color_M3PP: Field


def render(layout: Layout, seeds_N: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Renders images, uint8 [N, H, W, 3], and the objects' masks, bool [M, H, W]."""
    num = len(seeds_N)
    draws_NU = uniforms(seeds_N, 15)
    windows = cut_windows(layout, draws_NU[:, :12].reshape(2 * num, 6))
    assert windows.corner_M2.min() >= 0, "an object's window leaves the canvas: raise PAD_PX"
    padded = SIDE_PX + 2 * PAD_PX
    canvas = np.zeros((num, 3, padded, padded), np.float32)
    inner = (..., slice(PAD_PX, PAD_PX + SIDE_PX), slice(PAD_PX, PAD_PX + SIDE_PX))
    shapes.paint(canvas[inner], seeds_N ^ np.uint64(1))
    for which in range(2):
        composite(canvas, windows, which, 2)
    mask = np.zeros((2 * num, padded, padded), np.bool_)
    columns, rows = windows.corner_M2.T
    views = sliding_window_view(mask, (WINDOW_PX, WINDOW_PX), axis=(1, 2), writeable=True)
    views[np.arange(2 * num), rows, columns] = windows.distance_px_MPP <= 0
    return develop(canvas[inner], draws_NU[:, 12:], seeds_N), mask[inner]


def cut_windows(
    layout: Layout, draws_M6: NDArray[np.float64], window_px: int = WINDOW_PX, pad_px: int = PAD_PX
) -> Windows:
    """Signed distances and shaded, textured colors of all objects in their windows, on a canvas padded by ``pad_px``.

    Images may have any number of objects each, as long as all have the same.
    """
    center_M2, tilt_M = layout.center_N22.reshape(-1, 2), layout.tilt_N2.reshape(-1)
    corner_M2 = np.floor(center_M2).astype(np.int64) - window_px // 2
    axes_M2P = (corner_M2 - center_M2 + 0.5)[..., None] + np.arange(window_px)
    radius_M11 = layout.radius_N2.reshape(-1, 1, 1)
    u_MPP, down_MPP = _rotated(axes_M2P / radius_M11, tilt_M)
    v_MPP = -down_MPP
    distance_px_MPP = shapes.distances(layout.shape_N2.reshape(-1), u_MPP, v_MPP)
    distance_px_MPP *= radius_M11.astype(np.float32)

    shifted_M2P = axes_M2P + TEXTURE_SHIFT_PX * draws_M6[:, 1:3, None]
    x_MPP, y_MPP = _rotated(shifted_M2P, TEXTURE_TILT * (2 * draws_M6[:, 0] - 1))
    share_MPP = shapes.accents(layout.texture_N2.reshape(-1), x_MPP, y_MPP)
    jitter_M3 = (COLOR_JITTER * (2 * draws_M6[:, 3:] - 1)).astype(np.float32)
    tone_M23 = _TONES_K23[layout.color_N2.reshape(-1)] + jitter_M3[:, None]
    main_M311, step_M311 = tone_M23[:, 0, :, None, None], (tone_M23[:, 1] - tone_M23[:, 0])[..., None, None]
    rim_MPP = np.clip(1 + distance_px_MPP / 1.6, 0, 1)
    light_MPP = 1 + 0.10 * np.clip(v_MPP - u_MPP, -1, 1) - 0.22 * rim_MPP
    color_M3PP = step_M311 * share_MPP[:, None]
    color_M3PP += main_M311
    color_M3PP *= light_MPP[:, None]
    return Windows(corner_M2 + pad_px, distance_px_MPP, color_M3PP)


def _rotated(axes_M2P: NDArray[np.float64], tilt_M: NDArray[np.float64]) -> tuple[Field, Field]:
    """Coordinates of a window's pixels along rotated axes.

    `tilt` is the tangent of half the angle, which avoids sine and cosine: their last bits differ between machines.
    """
    scale_M = 1 / (1 + tilt_M * tilt_M)
    cos_M11 = ((1 - tilt_M * tilt_M) * scale_M)[:, None, None]
    sin_M11 = (2 * tilt_M * scale_M)[:, None, None]
    cos_M2P, sin_M2P = (cos_M11 * axes_M2P).astype(np.float32), (sin_M11 * axes_M2P).astype(np.float32)
    return (
        cos_M2P[:, 0, None, :] + sin_M2P[:, 1, :, None],
        cos_M2P[:, 1, :, None] - sin_M2P[:, 0, None, :],
    )


def composite(canvas_N3HW: Field, windows: Windows, which: int, num_objects: int) -> None:
    """Draws object ``which`` (from 0) of the ``num_objects`` of each image with its shadow, in place."""
    distance_NPP = windows.distance_px_MPP[which::num_objects]
    cover_NPP = np.clip(0.5 - distance_NPP, 0, 1)[:, None]
    shade_NPP = np.clip(1 - distance_NPP / SHADOW_PX, 0, 1)[:, None]
    shade_NPP = 1 - SHADOW * shade_NPP * shade_NPP
    views = sliding_window_view(canvas_N3HW, distance_NPP.shape[1:], axis=(2, 3), writeable=True)
    x_N, y_N = windows.corner_M2[which::num_objects].T
    windows_N = (np.arange(len(canvas_N3HW)), slice(None), y_N, x_N)
    patch_N3PP = views[windows_N]
    patch_N3PP *= shade_NPP
    change_N3PP = windows.color_M3PP[which::num_objects] - patch_N3PP
    change_N3PP *= cover_NPP
    patch_N3PP += change_N3PP
    views[windows_N] = patch_N3PP


def develop(canvas_N3HW: Field, draws_N3: NDArray[np.float64], seeds_N: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Applies a light gradient and noise, with strengths drawn per image, and rounds; uint8 [N, H, W, 3]."""
    side_px = canvas_N3HW.shape[-1]
    light_NHW = 1 + ramps(LIGHT_FALL * (2 * draws_N3[:, :2] - 1), side_px)
    grain = bits(seeds_N ^ np.uint64(2), side_px * side_px // 8).astype("<u8").view(np.uint8)
    low, high = NOISE_LEVEL
    level_N11 = ((low + (high - low) * draws_N3[:, 2]) / 127.5).astype(np.float32)[:, None, None]
    noise_NHW = (grain.reshape(light_NHW.shape) - 127.5) * level_N11
    canvas_N3HW *= light_NHW[:, None]
    canvas_N3HW += noise_NHW[:, None] + 0.5  # truncation then rounds
    image_NHW3 = np.empty((len(seeds_N), side_px, side_px, 3), np.uint8)
    np.clip(canvas_N3HW, 0, 255, out=image_NHW3.transpose(0, 3, 1, 2), casting="unsafe")
    return image_NHW3
