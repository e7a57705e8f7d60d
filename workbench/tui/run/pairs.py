"""What stands around the affinity matrices: the values and captions of a cell, and each model's nearest texts."""

from typing import NamedTuple

import numpy as np
from rich.text import Text

from workbench.errors import visible
from workbench.tui.charts.heat import Grid
from workbench.tui.rows import clipped
from workbench.tui.text import Table, number
from workbench.views.affinity import AffinityView

LEAST_ROWS, LEAST_COLUMNS = 5, 30  # of the items at the cursor
LEAST_FORCED = 18  # columns
MARGIN = 2  # cells left and right of the matrices together
TWO_LISTS = 84  # columns from which the lists of both models stand side by side
VALUE = 6  # cells of a value
MINUS = "\N{MINUS SIGN}"


class Placement(NamedTuple):
    """Where the items at the cursor go: "below" in ``size`` rows, "right" in ``size`` columns, or "" where hidden.

    ``is_forced``: they take their columns from the matrices.
    """

    where: str = ""
    size: int = 0
    is_forced: bool = False


def placement_of(width: int, height: int, grid: Grid, *, are_wanted: bool | None) -> Placement:
    """The placement in a pane of ``width`` × ``height`` cells whose matrices take ``grid``: where most space is left.

    Args:
        are_wanted: whether the user asked for images; True takes space from the matrices if they leave too little.
    """
    below, right = height - grid.rows, width - grid.columns - MARGIN
    places = []
    if below >= LEAST_ROWS:
        places.append((below * width, Placement("below", below)))
    if right >= LEAST_COLUMNS:
        places.append((right * height, Placement("right", right)))
    if places:
        return max(places)[1]
    return Placement("right", max(LEAST_FORCED, width // 3), is_forced=True) if are_wanted else Placement()


def cell_text(view: AffinityView, row: int, column: int, image: int, text: int) -> Text:
    """The values of teacher, student and difference in a cell, and the two captions, with the pairs' numbers."""
    found = Text()
    values = [("teacher", view.teacher_PP), ("student", view.student_PP), ("difference", view.difference_PP)]
    numbers = [f"{name} {number(float(value_PP[row, column]), 3)}" for name, value_PP in values if value_PP is not None]
    found.append("  ".join(numbers) + "\n", "bold")
    found.append(f"image {image}: ", "dim").append(visible(view.captions[row]) + "\n")
    found.append(f"text {text}: ", "dim").append(visible(view.captions[column]))
    return found.append("  (matching pair)" if row == column else "", "dim")


def nearest_text(view: AffinityView, row: int, image: int, width: int, height: int) -> Text:
    """The texts nearest to an image by each model, best first, in ``width`` × ``height`` cells; ● is its own."""
    lists = [("teacher", view.teacher_PP), ("student", view.student_PP)]
    shown = [(name, value_PP[row]) for name, value_PP in lists if value_PP is not None]
    if width >= TWO_LISTS:
        columns = [_ranking(view, name, values_P, row, width // len(shown), height - 1) for name, values_P in shown]
        lines = [Text("").join(parts) for parts in zip(*columns, strict=True)]
    else:
        most = (height - 1) // len(shown)
        lines = [line for name, values_P in shown for line in _ranking(view, name, values_P, row, width, most)]
    return Text("\n").join([Text(f"texts nearest to image {image}", "bold"), *lines][: max(1, height)])


def _ranking(view: AffinityView, name: str, values_P: np.ndarray, row: int, width: int, most: int) -> list[Text]:
    """At most ``most`` lines of exactly ``width`` cells: the model, with the rank of its own text, and its texts."""
    best = np.argsort(-values_P, kind="stable").tolist()
    lines = [Text(clipped(f"{name}: own text at rank {best.index(row) + 1}", width), "italic")]
    for pair in best[: max(0, most - 1)]:
        value = f"{float(values_P[pair]):.3f}".replace("-", MINUS).rjust(VALUE)
        caption = clipped(visible(view.captions[pair]), max(1, width - VALUE - 4))
        lines.append(Text(f"{value} {'●' if pair == row else ' '} {caption} ", "bold" if pair == row else ""))
    return lines


def pairs_table(view: AffinityView | None) -> Table:
    """The data to export or copy: every cell of the matrices."""
    headings = ["step", "measure", "picture", "text", "student", "teacher", "picture_caption", "text_caption"]
    if view is None:
        return headings, []
    rows = [
        [
            *(str(view.step), view.measure, str(image), str(text), repr(float(view.student_PP[image, text]))),
            "" if view.teacher_PP is None else repr(float(view.teacher_PP[image, text])),
            *(view.captions[image], view.captions[text]),
        ]
        for image in range(len(view.captions))
        for text in range(len(view.captions))
    ]
    return headings, rows
