"""The pane of the probe pairs: their affinity matrices over training, with the image and text at the cursor."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import Static

from workbench.errors import visible
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe
from workbench.tui.charts.heat import Grid, Heat, Images, Pixels, grid_of
from workbench.tui.host import Host
from workbench.tui.text import Table, number
from workbench.views.affinity import MEASURES, AffinityView, Measure, affinity_view

MOST_PX = 160  # of a thumbnail's side: no terminal shows more
LEAST_ROWS, LEAST_COLUMNS = 9, 18
MARGIN = 2  # cells left and right of the matrices together


def read_images(run: RunDirectory, captions: Sequence[str]) -> list[Pixels]:
    """The thumbnails of the probe pairs, uint8 [H, W, C] each. It may take seconds.

    Raises:
        ValueError: the run's validation data are missing or damaged, or have other captions.
        OSError: they are unreadable.
    """
    from workbench.data.images import decode_image
    from workbench.data.probe_images import probe_images

    found = []
    for data in probe_images(run, captions):
        image = decode_image(data)
        image.thumbnail((MOST_PX, MOST_PX))
        found.append(np.asarray(image))
    return found


def placement_of(width: int, height: int, grid: Grid, *, are_wanted: bool | None) -> tuple[str, int]:
    """Where the images go in a pane of ``width`` × ``height`` cells whose matrices take ``grid``.

    ("below", number of rows), ("right", number of columns), or ("", 0) if they are hidden.

    Args:
        are_wanted: whether the user asked for them; None shows them only where the matrices leave enough space.
    """
    left_below, left_right = height - grid.rows, width - grid.columns - MARGIN
    if are_wanted is not False and left_below >= LEAST_ROWS:
        return "below", left_below
    if are_wanted is not False and left_right >= LEAST_COLUMNS:
        return "right", left_right
    return ("right", max(LEAST_COLUMNS, min(height, width // 3))) if are_wanted else ("", 0)


MEASURE_NAMES: dict[Measure, tuple[str, str]] = {
    "affinity": ("affinities", ": softmax of an image's cosines over the texts"),
    "cosine": ("cosines", ""),
}
NO_PROBES = "no probe pairs yet: they are saved with every evaluation on validation pairs"


class AffinityPane(Vertical):
    """Shows the newest probe, or an earlier one after scrubbing back."""

    DEFAULT_CSS = """
    AffinityPane #heading { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    AffinityPane #both { height: 1fr; layout: horizontal; }
    AffinityPane #both.-below { layout: vertical; }
    AffinityPane Heat { width: 1fr; }
    AffinityPane Images { display: none; height: 100%; width: 100%; }
    AffinityPane #both.-below Images, AffinityPane #both.-right Images { display: block; }
    AffinityPane #cell { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign,comma", "scrub(-1)", "earlier"),
        Binding("greater_than_sign,full_stop", "scrub(1)", "later"),
        Binding("0", "newest", "follow the newest", show=False),
        Binding("v", "measure", "affinity/cosine"),
        Binding("i", "images", "images"),
        Binding("enter", "maximize", "maximize, restore", show=False),
    ]
    app: Host

    def __init__(self, run: RunDirectory, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run = run
        self._probes: tuple[Probe, ...] = ()
        self._at: int | None = None  # None follows the newest
        self._measure: Measure = "affinity"
        self._images: list[Pixels] = []
        self._captions: tuple[str, ...] = ()  # of the images that were read last
        self._no_images_reason = ""
        self._are_wanted: bool | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="heading", markup=False)
        with Container(id="both"):
            yield Heat(id="heat")
            yield Images(id="images")
        yield Static("", id="cell", markup=False)

    def show(self, probes: tuple[Probe, ...]) -> None:
        """Show these probes, ordered by step; read their images if the captions are new."""
        self._probes = probes
        if probes and probes[-1].captions != self._captions:
            self._captions, self._images = probes[-1].captions, []
            self.run_worker(self._fetch_images(), exclusive=True, group="images", exit_on_error=False)
        self._draw()

    async def _fetch_images(self) -> None:
        try:
            self._images = await asyncio.to_thread(read_images, self._run, self._captions)
        except (OSError, ValueError) as error:
            self._no_images_reason = str(error)
        self._draw()

    def on_resize(self) -> None:
        self._place_images()

    @property
    def probe(self) -> Probe | None:
        """The probe shown; None if there is none."""
        if not self._probes:
            return None
        return self._probes[-1 if self._at is None else min(self._at, len(self._probes) - 1)]

    @property
    def has_tried_images(self) -> bool:
        """Whether reading the images has ended, in success or failure, or there are none to read."""
        return bool(self._images or self._no_images_reason or not self._probes)

    def _draw(self) -> None:
        self.query_one(Heat).show(affinity_view(self.probe, self._measure) if self.probe else None)
        self._place_images()
        self._draw_cell()

    def _place_images(self) -> None:
        """Show the images below or to the right of the matrices, or hide them."""
        heat, both, images = self.query_one(Heat), self.query_one("#both"), self.query_one(Images)
        where, size = "", 0
        if heat.view is not None and self._images:
            width, height = both.size
            grid = grid_of(heat.view, width - 2, height)
            where, size = placement_of(width, height, grid, are_wanted=self._are_wanted)
        both.set_class(where == "below", "-below")
        both.set_class(where == "right", "-right")
        images.styles.height = size if where == "below" else "100%"
        images.styles.width = size if where == "right" else "100%"

    def _heading(self) -> Text:
        if (probe := self.probe) is None:
            return Text(NO_PROBES, "italic")
        place = self._probes.index(probe) + 1
        shown, pairs = self.query_one(Heat).grid.num_pairs, len(probe.captions)
        part = f", the first {shown} of {pairs} pairs" if 0 < shown < pairs else ""
        name, definition = MEASURE_NAMES[self._measure]
        text = Text(f"after step {probe.step:,}", "bold")
        return text.append(f"  {name}, {place} of {len(self._probes)} by < and >{part}{definition}", "not bold")

    def _draw_cell(self) -> None:
        heat = self.query_one(Heat)
        image, text = heat.place
        self.query_one("#heading", Static).update(self._heading(), layout=False)
        self.query_one("#cell", Static).update(cell_text(heat.view, image, text) if heat.view else "", layout=False)
        if self._images and heat.view and heat.view.captions == self._captions:
            shown = {f"image {image + 1}": self._images[image]}
            if image != text:
                shown[f"of text {text + 1}"] = self._images[text]
            self.query_one(Images).show(shown)

    def on_heat_moved(self) -> None:
        self._draw_cell()

    def action_scrub(self, by: int) -> None:
        """Show an earlier or later probe. Scrubbing to the newest follows new ones again."""
        last = len(self._probes) - 1
        now = last if self._at is None else self._at
        self._at = max(0, now + by) if now + by < last else None
        self._draw()

    def action_newest(self) -> None:
        self._at = None
        self._draw()

    def action_measure(self) -> None:
        self._measure = MEASURES[(MEASURES.index(self._measure) + 1) % len(MEASURES)]
        self._draw()

    def action_images(self) -> None:
        if not self._images:
            why = self._no_images_reason or "still loading"
            self.app.show_notice(f"no images: {why}", is_error=bool(self._no_images_reason))
            return
        self._are_wanted = not self.query_one(Images).display
        self._place_images()

    def action_maximize(self) -> None:
        self.query_one(Heat).action_toggle_maximize()

    def table(self) -> Table:
        """The data to export or copy: every cell of the matrices."""
        view = self.query_one(Heat).view
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


def cell_text(view: AffinityView, image: int, text: int) -> Text:
    """The values of student, teacher and difference in a cell, and the two captions."""
    found = Text()
    values = [("student", view.student_PP), ("teacher", view.teacher_PP), ("difference", view.difference_PP)]
    numbers = [f"{name} {number(float(value_PP[image, text]), 3)}" for name, value_PP in values if value_PP is not None]
    found.append("  ".join(numbers) + "\n", "bold")
    found.append(f"image {image + 1}: ", "dim").append(visible(view.captions[image]) + "\n")
    found.append(f"text {text + 1}: ", "dim").append(visible(view.captions[text]))
    return found.append("  (matching pair)" if image == text else "", "dim")
