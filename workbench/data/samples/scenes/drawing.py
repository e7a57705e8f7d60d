"""Pictures of a split by index: layout, pixels, captions and record together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.data.samples.sample import Picture
from workbench.data.samples.scenes import captions
from workbench.data.samples.scenes.attributes import COLORS, SHAPES, SIZES, TEXTURES, bits, image_seeds, uniforms
from workbench.data.samples.scenes.captions import PHRASINGS, Thing, class_name
from workbench.data.samples.scenes.rendering import RELATIONS, Layout, lay_out, render

# Object masks as run lengths, and the boxes around them.
#
# Run lengths count pixels row by row from the top left, beginning with zeros: [100, 7, 41, 7, ...] is 100 pixels
# outside, 7 inside, 41 outside... They add up to height times width, and the first may be 0.


def run_lengths(mask_MHW: NDArray[np.bool_]) -> list[list[int]]:
    """The run lengths of each mask."""
    flat_MP = mask_MHW.reshape(len(mask_MHW), -1)
    num, area = flat_MP.shape
    ends_run_MP = np.ones((num, area + 1), np.bool_)  # one column more: every mask ends a run where the next begins
    ends_run_MP[:, 0] = flat_MP[:, 0]
    ends_run_MP[:, 1:-1] = flat_MP[:, 1:] != flat_MP[:, :-1]
    ends = np.flatnonzero(ends_run_MP)
    rows = ends // (area + 1)
    runs = np.diff(ends - rows, prepend=0).tolist()
    stops = np.cumsum(np.bincount(rows, minlength=num)).tolist()
    return [runs[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def mask_of(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [H, W] that has these run lengths; ValueError when they do not add up to its area."""
    if sum(runs) != height * width:
        raise ValueError(
            f"run lengths add up to {sum(runs)} pixels, not {height} x {width}: is this the right picture?"
        )
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


BATCH = 64  # pictures drawn at once: enough for numpy, few enough for the processor's cache
NUM_FULL_CAPTIONS = 3
STARTS_FAR = 0.1  # share of captions that begin with the right or the lower object: people read the other way
SPLITS_OF_MANY_CAPTIONS = ("train", "teacher")


def draw(split: str, start: int, count: int) -> Iterator[Picture]:
    """Pictures `start` to `start + count` of "train", "teacher", "validation" or "test".

    A picture is a function of (split, index) only. "teacher" shows the attribute combinations of "train" in
    other pictures. The record holds

    - captions: in train and teacher three full ones in different phrasings, one without size and texture, and
      one of the two shapes alone; else one full one
    - group: what the full captions mean; they are true of every picture of the same group
    - class: the zero-shot class, an unordered pair of shapes
    - relation: how the first object lies to the second
    - objects: size, colour, texture, shape, box [x0, y0, x1, y1] in pixels (x1 and y1 exclusive) and mask (run
      lengths row by row, beginning with zeros; `mask_of` reads them)

    ValueError when there is no such split.
    """
    for first in range(start, start + count, BATCH):
        yield from _batch(split, first, min(BATCH, start + count - first))


def _batch(split: str, start: int, count: int) -> Iterator[Picture]:
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
            "group": captions.meaning(things[0], relation, things[1]),
            "class": class_name(things[0].shape, things[1].shape),
            "relation": relation,
            "objects": objects,
        }
        yield Picture(f"{split}-{start + row:07d}", Image.fromarray(pixels_NHW3[row]), record)


def _things(layout: Layout, row: int) -> tuple[Thing, Thing]:
    first, second = (
        Thing(
            SIZES[layout.size_N2[row, which]],
            COLORS[layout.color_N2[row, which]],
            TEXTURES[layout.texture_N2[row, which]],
            SHAPES[layout.shape_N2[row, which]],
        )
        for which in range(2)
    )
    return first, second


def _captions(split: str, things: tuple[Thing, Thing], relation: str, draws_U: NDArray[np.float64]) -> list[str]:
    """The captions of one picture: which phrasings and who comes first is drawn, the rest is fixed."""
    phrasings = np.argsort(draws_U[: len(PHRASINGS)], kind="stable").tolist()
    starts_far = draws_U[len(PHRASINGS) :] < STARTS_FAR
    mirrored = (starts_far != (relation in ("right of", "below"))).tolist()
    first, second = things
    if split not in SPLITS_OF_MANY_CAPTIONS:
        return [captions.full(first, relation, second, phrasings[0], mirrored[0])]
    texts = [
        captions.full(first, relation, second, phrasings[place], mirrored[place]) for place in range(NUM_FULL_CAPTIONS)
    ]
    texts.append(captions.without_size_and_texture(first, relation, second, mirrored[-2]))
    shapes = (second.shape, first.shape) if mirrored[-1] else (first.shape, second.shape)
    return [*texts, f"a {captions.shapes_only(*shapes)}"]
