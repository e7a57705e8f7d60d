"""The pane of the probe pairs: their affinity matrices over training, with the items at the cursor."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical

from workbench.figures.affinity import probe_order
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe
from workbench.tui.charts.heat import Heat, grid_of
from workbench.tui.charts.images import Images
from workbench.tui.charts.shades import Pixels
from workbench.tui.host import Host
from workbench.tui.label import Label
from workbench.tui.run.pairs import Placement, cell_text, nearest_text, pairs_table, placement_of
from workbench.tui.text import Table
from workbench.views.affinity import (
    MEASURES,
    AffinityView,
    Measure,
    Order,
    affinity_view,
    divergence,
    in_order,
    recall_at_1,
)

MOST_PX = 160  # of a thumbnail's side: no terminal shows more
IMAGE_ROWS = 14  # of the images above the text; left of it they take all
NEAREST_COLUMNS = 30  # the least for the text
ORDERS: dict[Order, str] = {"cluster": "similar images together", "index": "in the data's order"}
MEASURE_NAMES: dict[Measure, str] = {
    "affinity": "affinities of images (rows) to texts: softmax over each row",
    "cosine": "cosines of images (rows) and texts",
}
NO_PROBES = "no probe pairs yet: they are saved with every evaluation on validation pairs"


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


class AffinityPane(Vertical):
    """Shows the newest probe, or an earlier one after scrubbing back."""

    DEFAULT_CSS = """
    AffinityPane #heading { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    AffinityPane #both { height: 1fr; layout: horizontal; }
    AffinityPane #both.-below { layout: vertical; }
    AffinityPane Heat { width: 1fr; }
    AffinityPane #items { display: none; layout: vertical; }
    AffinityPane #both.-below #items { display: block; layout: horizontal; }
    AffinityPane #both.-right #items { display: block; }
    AffinityPane Images { display: none; }
    AffinityPane #nearest { padding: 0 1; width: 1fr; height: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }
    AffinityPane #cell { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign,comma", "scrub(-1)", "earlier"),
        Binding("greater_than_sign,full_stop", "scrub(1)", "later"),
        Binding("0", "newest", "follow the newest", show=False),
        Binding("v", "measure", "affinity/cosine"),
        Binding("o", "order", "order"),
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
        self._by: Order = "cluster"
        self._orders: dict[Order, list[int]] = {}
        self._images: list[Pixels] = []
        self._captions: tuple[str, ...] = ()  # of the images that were read last
        self._no_images_reason = ""
        self._are_wanted: bool | None = None

    def compose(self) -> ComposeResult:
        yield Label(id="heading")
        with Container(id="both"):
            yield Heat(id="heat")
            with Container(id="items"):
                yield Images(id="images")
                yield Label(id="nearest")
        yield Label(id="cell")

    def show(self, probes: tuple[Probe, ...]) -> None:
        """Show these probes, ordered by step; order their pairs and read their images if the captions are new."""
        self._probes = probes
        if probes and probes[-1].captions != self._captions:
            self._captions, self._images, self._orders = probes[-1].captions, [], {}
            self.run_worker(self._fetch(probes[-1]), exclusive=True, group="images", exit_on_error=False)
        self._draw()

    async def _fetch(self, probe: Probe) -> None:
        # Clustering imports scipy, and images are decoded: both in a thread, the matrices first.
        self._orders = {by: await asyncio.to_thread(probe_order, probe, by) for by in ORDERS}
        self._draw()
        try:
            self._images = await asyncio.to_thread(read_images, self._run, self._captions)
        except (OSError, ValueError) as error:
            self._no_images_reason = str(error)
        self._draw()

    def on_resize(self) -> None:
        self._place()

    @property
    def probe(self) -> Probe | None:
        """The probe shown; None if there is none."""
        if not self._probes:
            return None
        return self._probes[-1 if self._at is None else min(self._at, len(self._probes) - 1)]

    @property
    def order(self) -> list[int]:
        """The pairs of rows and columns, from top to bottom; empty until they are ordered."""
        return self._orders.get(self._by, [])

    @property
    def has_tried_images(self) -> bool:
        """Whether reading the images has ended, in success or failure, or there are none to read."""
        return bool(self._images or self._no_images_reason or not self._probes)

    def _draw(self) -> None:
        heat, probe = self.query_one(Heat), self.probe
        if probe is None or len(self.order) != len(probe.captions):
            heat.show(None)
        else:
            view = affinity_view(probe, self._measure)
            heat.show(reordered(view, self.order), titles(probe, view), self.order)
        self._place()
        self._draw_cell()

    def _place(self) -> None:
        """Place the items at the cursor below or to the right of the matrices, or hide them."""
        heat, both, images = self.query_one(Heat), self.query_one("#both"), self.query_one(Images)
        width, height = both.size
        placed = Placement()
        if heat.view is not None:
            heat.room = width - 2, height
            placed = placement_of(width, height, grid_of(heat.view, *heat.room), are_wanted=self._are_wanted)
            if placed.is_forced:
                heat.room = width - 2 - placed.size, height
        is_below, is_right = placed.where == "below", placed.where == "right"
        both.set_class(is_below, "-below")
        both.set_class(is_right, "-right")
        items = self.query_one("#items")
        items.styles.height = placed.size if is_below else "100%"
        items.styles.width = placed.size if is_right else "100%"
        images.display = bool(self._images and placed.where and self._are_wanted is not False)
        rows = placed.size if is_below else min(IMAGE_ROWS, height // 2)
        # Room for two images side by side, so that the text stays where it is when the cursor leaves the diagonal.
        columns = min(4 * (rows - 1) + 4, width - NEAREST_COLUMNS)
        images.styles.height = "100%" if is_below else rows
        images.styles.width = columns if is_below else "100%"
        if heat.view is not None and placed.where:
            taken = (columns if is_below else rows) if images.display else 0
            room = (width - taken, rows) if is_below else (placed.size, height - taken)
            image = heat.place.image
            text = nearest_text(heat.view, image, self._number(image), room[0] - 2, room[1])
            self.query_one("#nearest", Label).update(text, layout=False)

    def _number(self, place: int) -> int:
        """The number of the pair in a row or column, from 1."""
        return self.order[place] + 1

    def _heading(self) -> Text:
        if (probe := self.probe) is None:
            return Text(NO_PROBES, "italic")
        heat = self.query_one(Heat)
        place = self._probes.index(probe) + 1
        shown, pairs = heat.grid.num_pairs, len(probe.captions)
        first = heat.first.image
        part = f", rows {first + 1} to {first + shown} of {pairs}" if 0 < shown < pairs else ""
        text = Text(f"after step {probe.step:,}", "bold")
        text.append(f" ({place} of {len(self._probes)} by < and >)  {MEASURE_NAMES[self._measure]}", "not bold")
        return text.append(f", {ORDERS[self._by]}{part}", "not bold")

    def _draw_cell(self) -> None:
        heat = self.query_one(Heat)
        self.query_one("#heading", Label).update(self._heading(), layout=False)
        if heat.view is None:
            self.query_one("#cell", Label).update("", layout=False)
            return
        image, text = self._number(heat.place.image), self._number(heat.place.text)
        self.query_one("#cell", Label).update(cell_text(heat.view, *heat.place, image, text), layout=False)
        if self._images and self.probe and self.probe.captions == self._captions:
            shown = {f"image {image}": self._images[image - 1]}
            if image != text:
                shown[f"of text {text}"] = self._images[text - 1]
            self.query_one(Images).show(shown)

    def on_heat_moved(self) -> None:
        self._place()
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

    def action_order(self) -> None:
        """Show the pairs in the next order; the cursor stays at its image and text."""
        heat, before = self.query_one(Heat), self.order
        at = [before[place] for place in heat.place] if before else []
        names = list(ORDERS)
        self._by = names[(names.index(self._by) + 1) % len(names)]
        self._draw()
        if at and self.order:
            heat.move_to(*map(self.order.index, at))

    def action_images(self) -> None:
        if not self._images:
            why = self._no_images_reason or "still loading"
            self.app.show_notice(f"no images: {why}", is_error=bool(self._no_images_reason))
            return
        self._are_wanted = not self.query_one(Images).display
        self._place()

    def action_maximize(self) -> None:
        self.query_one(Heat).action_toggle_maximize()

    def table(self) -> Table:
        """The data to export or copy: every cell of the matrices, by the pairs' places in the data."""
        return pairs_table(None if self.probe is None else affinity_view(self.probe, self._measure))


def reordered(view: AffinityView, order: Sequence[int]) -> AffinityView:
    """The view with its pairs in another order."""
    return replace(
        view,
        captions=tuple(view.captions[pair] for pair in order),
        student_PP=in_order(view.student_PP, order),
        teacher_PP=None if view.teacher_PP is None else in_order(view.teacher_PP, order),
    )


def titles(probe: Probe, view: AffinityView) -> dict[str, str]:
    """The title of every matrix, as in the notebook: R@1 among the probe pairs, and the divergence in nats."""
    kl = divergence(view)
    found = {"difference": "student \N{MINUS SIGN} teacher" + ("" if kl is None else f"  KL {kl:.2f}")}
    for name, outputs in (("teacher", probe.teacher), ("student", probe.student)):
        if outputs is not None:
            found[name] = f"{name}  R@1 {recall_at_1(outputs):.0%} of {len(probe.captions)}"
    return found
