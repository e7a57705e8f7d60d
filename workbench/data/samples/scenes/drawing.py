"""Draws the scenes of a split by index: image, captions, boxes and masks."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.data.samples.scenes import attributes
from workbench.data.samples.scenes.attributes import (
    COLORS,
    PHRASINGS,
    SHAPES,
    SIZES,
    TEXTURES,
    SceneObject,
    bits,
    class_name,
    image_seeds,
    uniforms,
)
from workbench.data.samples.scenes.rendering import RELATIONS, Layout, lay_out, render
from workbench.data.samples.write import DrawnSample

# Masks are stored as run lengths, row by row from the top left, starting with zeros: [100, 7, 41, 7, ...] is 100 pixels
# outside, 7 inside, 41 outside... They add up to height times width; the first may be 0.


def run_lengths(mask_MHW: NDArray[np.bool_]) -> list[list[int]]:
    """The run lengths of each mask."""
    flat_MP = mask_MHW.reshape(len(mask_MHW), -1)
    num, area = flat_MP.shape
    ends_run_MP = np.ones((num, area + 1), np.bool_)  # the extra column ends the last run of each mask
    ends_run_MP[:, 0] = flat_MP[:, 0]
    ends_run_MP[:, 1:-1] = flat_MP[:, 1:] != flat_MP[:, :-1]
    ends = np.flatnonzero(ends_run_MP)
    rows = ends // (area + 1)
    runs = np.diff(ends - rows, prepend=0).tolist()
    stops = np.cumsum(np.bincount(rows, minlength=num)).tolist()
    return [runs[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def mask_of(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [H, W] of these run lengths. Raises ValueError if they do not add up to its area."""
    if sum(runs) != height * width:
        raise ValueError(f"run lengths add up to {sum(runs)} pixels, not {height} x {width}: is this the right image?")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def bounding_boxes(mask_MHW: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The smallest box around each mask, [M, 4]: x0, y0, x1, y1 in pixels, the last two exclusive."""
    columns_MW, rows_MH = np.any(mask_MHW, axis=1), np.any(mask_MHW, axis=2)
    height, width = mask_MHW.shape[1:]
    ends = [
        columns_MW.argmax(1),
        rows_MH.argmax(1),
        width - columns_MW[:, ::-1].argmax(1),
        height - rows_MH[:, ::-1].argmax(1),
    ]
    return np.stack(ends, axis=1)


BATCH = 64  # images drawn at once: enough to vectorize, few enough for the CPU cache
NUM_FULL_CAPTIONS = 3
STARTS_FAR = 0.1  # share of captions that start with the right or lower object; people usually start with the other
SPLITS_OF_MANY_CAPTIONS = ("train", "teacher")


def draw(split: str, start: int, count: int) -> Iterator[DrawnSample]:
    """Samples `start` to `start + count` (exclusive) of "train", "teacher", "validation" or "test".

    A sample is a function of (split, index). "teacher" has the attribute combinations of "train" in other images. The
    record has

    - captions: in train and teacher three full ones in different phrasings, one without size and texture, and
      one of the two shapes alone; else one full one
    - group: the meaning of the full captions, which are true of every image of the same group
    - class: the unordered pair of shapes, a label for linear probes
    - relation: of the first object to the second
    - objects: size, color, texture, shape, box [x0, y0, x1, y1] in pixels (x1 and y1 exclusive) and mask (run
      lengths, which `mask_of` decodes)

    Raises:
        ValueError: unknown split.
    """
    for first in range(start, start + count, BATCH):
        yield from _batch(split, first, min(BATCH, start + count - first))


def _batch(split: str, start: int, count: int) -> Iterator[DrawnSample]:
    layout_seeds_N, look_seeds_N, words_seeds_N = bits(image_seeds(split, start, count), 3).T
    layout = lay_out(split, layout_seeds_N)
    pixels_NHW3, mask_MHW = render(layout, look_seeds_N)
    runs, boxes = run_lengths(mask_MHW), bounding_boxes(mask_MHW).tolist()
    draws_NU = uniforms(words_seeds_N, 2 * len(PHRASINGS))
    for row in range(count):
        things = _things(layout, row)
        relation = RELATIONS[layout.relation_N[row]]
        objects = [
            {**vars(thing), "box": boxes[2 * row + which], "mask": runs[2 * row + which]}
            for which, thing in enumerate(things)
        ]
        record: dict[str, Any] = {
            "captions": _captions(split, things, relation, draws_NU[row]),
            "group": attributes.meaning(things[0], relation, things[1]),
            "class": class_name(things[0].shape, things[1].shape),
            "relation": relation,
            "objects": objects,
        }
        yield DrawnSample(f"{split}-{start + row:07d}", Image.fromarray(pixels_NHW3[row]), record)


def _things(layout: Layout, row: int) -> tuple[SceneObject, SceneObject]:
    first, second = (
        SceneObject(
            SIZES[layout.size_N2[row, which]],
            COLORS[layout.color_N2[row, which]],
            TEXTURES[layout.texture_N2[row, which]],
            SHAPES[layout.shape_N2[row, which]],
        )
        for which in range(2)
    )
    return first, second


def _captions(
    split: str, things: tuple[SceneObject, SceneObject], relation: str, draws_U: NDArray[np.float64]
) -> list[str]:
    """The captions of one image, with random phrasings and a random first object."""
    phrasings = np.argsort(draws_U[: len(PHRASINGS)], kind="stable").tolist()
    starts_far = draws_U[len(PHRASINGS) :] < STARTS_FAR
    mirrored = (starts_far != (relation in ("right of", "below"))).tolist()
    first, second = things
    if split not in SPLITS_OF_MANY_CAPTIONS:
        return [attributes.full(first, relation, second, phrasings[0], mirrored[0])]
    texts = [
        attributes.full(first, relation, second, phrasings[number], mirrored[number])
        for number in range(NUM_FULL_CAPTIONS)
    ]
    texts.append(attributes.without_size_and_texture(first, relation, second, mirrored[-2]))
    shapes = (second.shape, first.shape) if mirrored[-1] else (first.shape, second.shape)
    return [*texts, f"a {attributes.shapes_only(*shapes)}"]
