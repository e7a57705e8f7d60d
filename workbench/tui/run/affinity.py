"""The pane of the probe pairs: three matrices through training, and what the cell at the cursor is about."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import Static

from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe
from workbench.terminal import visible
from workbench.tui.charts.heat import Grid, Heat, grid_of
from workbench.tui.charts.images import Pictures, Pixels, Titled
from workbench.tui.export import Table
from workbench.tui.text import number
from workbench.views.affinity import MEASURES, AffinityView, Measure, affinity_view

if TYPE_CHECKING:
    from workbench.tui.app import Workbench


# The pictures of the probe pairs, and where there is room for them beside the matrices.

MOST_PX = 160  # of a side: no terminal shows more
LEAST_ROWS, LEAST_COLUMNS = 9, 18
MARGIN = 2  # cells left and right of the matrices together


class Placement(NamedTuple):
    """Where the pictures stand, and how many rows or columns they have there; ``where`` is empty for nowhere."""

    where: Literal["", "below", "beside"]
    size: int = 0


def read_images(run: RunDirectory, captions: Sequence[str]) -> list[Pixels]:
    """The pictures that the captions are of, uint8 [H, W, C] each. It may take seconds.

    Raises:
        ValueError: the run's validation data are not there any more, have other captions or are damaged.
        OSError: they cannot be read.
    """
    from workbench.data.images import decode_image
    from workbench.data.probe_images import probe_images

    found = []
    for data in probe_images(run, captions):
        image = decode_image(data)
        image.thumbnail((MOST_PX, MOST_PX))
        found.append(np.asarray(image))
    return found


def placed(width: int, height: int, grid: Grid, *, are_wanted: bool | None) -> Placement:
    """Where the pictures go in a pane of ``width`` × ``height`` cells whose matrices take what ``grid`` says.

    Args:
        are_wanted: whether they were asked for; None shows them where the matrices leave enough room.
    """
    if are_wanted is False:
        return Placement("")
    left_below, left_beside = height - grid.rows, width - grid.columns - MARGIN
    if left_below >= LEAST_ROWS:
        return Placement("below", left_below)
    if left_beside >= LEAST_COLUMNS:
        return Placement("beside", left_beside)
    return Placement("beside", max(LEAST_COLUMNS, min(height, width // 3))) if are_wanted else Placement("")


SAID: dict[Measure, tuple[str, str]] = {
    "affinity": ("affinities", ": softmax of a picture's cosines over the texts"),
    "cosine": ("cosines", ""),
}
NO_PROBES = "no probe pairs yet: they come with every evaluation on validation pairs"


class AffinityPane(Vertical):
    """Follows the newest probe until one scrubs to an earlier one."""

    DEFAULT_CSS = """
    AffinityPane #when { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    AffinityPane #both { height: 1fr; layout: horizontal; }
    AffinityPane #both.-below { layout: vertical; }
    AffinityPane Heat { width: 1fr; }
    AffinityPane Pictures { display: none; height: 100%; width: 100%; }
    AffinityPane #both.-below Pictures, AffinityPane #both.-beside Pictures { display: block; }
    AffinityPane #cell { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    app: "Workbench"

    def __init__(self, run: RunDirectory, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run = run
        self._probes: tuple[Probe, ...] = ()
        self._at: int | None = None  # None follows the newest
        self._measure: Measure = "affinity"
        self._pictures: list[Pixels] = []
        self._captions: tuple[str, ...] = ()  # of the pictures that were last looked for
        self._why_none = ""
        self._are_wanted: bool | None = None

    def compose(self) -> ComposeResult:
        """When it was, the matrices with the pair's pictures, and the cell."""
        yield Static("", id="when", markup=False)
        with Container(id="both"):
            yield Heat(id="heat")
            yield Pictures(id="pictures")
        yield Static("", id="cell", markup=False)

    def show(self, probes: tuple[Probe, ...]) -> None:
        """Draws these probes, in the order of their steps."""
        self._probes = probes
        if probes and probes[-1].captions != self._captions:
            self._captions, self._pictures = probes[-1].captions, []
            self.run_worker(self._fetch_images(), exclusive=True, group="pictures", exit_on_error=False)
        self._draw()

    async def _fetch_images(self) -> None:
        try:
            self._pictures = await asyncio.to_thread(read_images, self._run, self._captions)
        except (OSError, ValueError) as error:
            self._why_none = str(error)
        self._draw()

    def on_resize(self) -> None:
        self._place_images()

    @property
    def probe(self) -> Probe | None:
        """The one that is drawn."""
        if not self._probes:
            return None
        return self._probes[-1 if self._at is None else min(self._at, len(self._probes) - 1)]

    @property
    def has_looked(self) -> bool:
        """Whether the pictures of the probes, if there are any, are here or known to be nowhere."""
        return bool(self._pictures or self._why_none or not self._probes)

    def _draw(self) -> None:
        probe = self.probe
        heat = self.query_one(Heat)
        heat.show(affinity_view(probe, self._measure) if probe else None)
        self._place_images()
        self._draw_cell()

    def _place_images(self) -> None:
        """Where there is room, or where they were asked for; nowhere without any."""
        heat, both, pictures = self.query_one(Heat), self.query_one("#both"), self.query_one(Pictures)
        where, size = "", 0
        if heat.view is not None and self._pictures:
            width, height = both.size
            grid = grid_of(heat.view, width - 2, height)
            where, size = placed(width, height, grid, are_wanted=self._are_wanted)
        both.set_class(where == "below", "-below")
        both.set_class(where == "beside", "-beside")
        pictures.styles.height = size if where == "below" else "100%"
        pictures.styles.width = size if where == "beside" else "100%"

    def _when(self, probe: Probe | None) -> Text:
        if probe is None:
            return Text(NO_PROBES, "italic")
        place = self._probes.index(probe) + 1
        shown, pairs = self.query_one(Heat).grid.num_pairs, len(probe.captions)
        part = f", the first {shown} of {pairs} pairs" if 0 < shown < pairs else ""
        name, said = SAID[self._measure]
        text = Text(f"after step {probe.step:,}", "bold")
        return text.append(f"  {name}, {place} of {len(self._probes)} by < and >{part}{said}", "not bold")

    def _draw_cell(self) -> None:
        heat = self.query_one(Heat)
        picture, text = heat.place
        self.query_one("#when", Static).update(self._when(self.probe), layout=False)
        said = cell_text(heat.view, picture, text) if heat.view else Text()
        self.query_one("#cell", Static).update(said, layout=False)
        if self._pictures and heat.view and heat.view.captions == self._captions:
            shown = [Titled(f"picture {picture + 1}", self._pictures[picture])]
            if picture != text:
                shown.append(Titled(f"of text {text + 1}", self._pictures[text]))
            self.query_one(Pictures).show(*shown)

    def on_heat_moved(self) -> None:
        self._draw_cell()

    def on_heat_scrubbed(self, event: Heat.Scrubbed) -> None:
        """Another time; the newest is followed again once one has come to it."""
        last = len(self._probes) - 1
        now = last if self._at is None else self._at
        self._at = max(0, now + event.by) if event.by and now + event.by < last else None
        self._draw()

    def on_heat_turned(self) -> None:
        self._measure = MEASURES[(MEASURES.index(self._measure) + 1) % len(MEASURES)]
        self._draw()

    def on_heat_images_asked(self) -> None:
        if not self._pictures:
            why = self._why_none or "they are being read"
            self.app.say(f"no pictures: {why}", is_wrong=bool(self._why_none))
            return
        self._are_wanted = not self.query_one(Pictures).display
        self._place_images()

    def table(self) -> Table:
        """For export and copy: every cell of every matrix that is drawn."""
        view = self.query_one(Heat).view
        headings = ["step", "measure", "picture", "text", "student", "teacher", "picture_caption", "text_caption"]
        if view is None:
            return headings, []
        rows = [
            [
                *(str(view.step), view.measure, str(picture), str(text), repr(float(view.student_PP[picture, text]))),
                "" if view.teacher_PP is None else repr(float(view.teacher_PP[picture, text])),
                *(view.captions[picture], view.captions[text]),
            ]
            for picture in range(len(view.captions))
            for text in range(len(view.captions))
        ]
        return headings, rows


def cell_text(view: AffinityView, picture: int, text: int) -> Text:
    """Both numbers of a cell, and the two captions."""
    found = Text()
    values = [("student", view.student_PP), ("teacher", view.teacher_PP), ("difference", view.difference_PP)]
    said = [f"{name} {number(float(of_PP[picture, text]), 3)}" for name, of_PP in values if of_PP is not None]
    found.append("  ".join(said) + "\n", "bold")
    found.append(f"picture {picture + 1}: ", "dim").append(visible(view.captions[picture]) + "\n")
    found.append(f"text {text + 1}: ", "dim").append(visible(view.captions[text]))
    return found.append("  (its own)" if picture == text else "", "dim")
