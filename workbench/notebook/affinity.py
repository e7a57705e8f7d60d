"""``AffinityExplorer``: what teacher and students think belongs together, and where they differ."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.data.probe_images import probe_images
from workbench.figures.affinity import (
    Panel,
    affinity_figure,
    change_panels,
    change_sharpness,
    mark,
    panel_at,
    sharpness_figure,
)
from workbench.notebook.explorer import Explorer, row, scale_slider, set_steps, step_slider
from workbench.notebook.probes import ClickableImage, card, flip_line, nearest, sharpness_line
from workbench.notebook.source import open_run
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe, read_probe_history
from workbench.views.affinity import (
    BETWEEN,
    MEASURES,
    ORDERS,
    AffinityView,
    Between,
    Flip,
    Measure,
    Order,
    affinity_view,
    divergence,
    flips,
    in_order,
    ordered,
    recall_at_1,
    sharpness,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Source = str | Path | RunDirectory | Sequence[Probe]
SHOWN = ("matrices", "sharpness")
SCALES = tuple(np.geomspace(1, 200, 60).tolist())
WORDS = "red orange yellow green cyan blue purple black"  # the colours of the sample scenes


class AffinityExplorer(Explorer):
    """Affinity matrices of a run's probe pairs: teacher, student and difference, on one scale and in one order.

    A click on a cell shows both of its items.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, or probes (see :func:`probe_of` for embeddings).
        others: more students, each compared with its own teacher, at the step nearest to the chosen one.
        between: "image-text", "image-image", "text-text", or "all" (the 2N × 2N view).
        measure: "affinity" (softmax) or "cosine".
        order: "index", "words" or "cluster" (by the teacher's own neighbours).
        words: by which of these words a caption has first, pairs are grouped.
        runs_dir: where one's own runs are; ``runs`` if not given.

    Attributes:
        selection: the chosen cell: its two items, and what each model says of them.
    """

    def __init__(
        self,
        source: Source,
        *others: Source,
        between: Between = "image-text",
        measure: Measure = "affinity",
        order: Order = "cluster",
        words: str = WORDS,
        runs_dir: Path | None = None,
    ) -> None:
        super().__init__()
        self._sources, self._runs_dir = (source, *others), runs_dir
        self._probes: list[list[Probe]] = []
        self._names: list[str] = []
        self._order: list[int] = []
        self._pictures: list[bytes] = []
        self._chosen = (0, 0)
        self.picture = ClickableImage(layout=widgets.Layout(max_width="100%", display="none"))
        self.cards = widgets.HTML()
        self.widget.children = (self.controls, self.picture, self.cards, self.note, self.message)
        self._make_controls(between, measure, order, words)
        self.refresh()

    def _make_controls(self, between: Between, measure: Measure, order: Order, words: str) -> None:
        narrow = {"button_width": "auto"}
        self.show = widgets.ToggleButtons(options=SHOWN, value=SHOWN[0], style=narrow)
        self.between = widgets.Dropdown(options=BETWEEN, value=between, description="between")
        self.measure = widgets.Dropdown(options=MEASURES, value=measure, description="measure")
        self.order = widgets.Dropdown(options=ORDERS, value=order, description="order")
        self.words = widgets.Text(value=words, description="words", continuous_update=False)
        for control in (self.between, self.measure, self.order):
            control.layout.width = "200px"
        self.step = step_slider()
        self.since = widgets.Dropdown(options=[("", 0)], description="flips since")
        self.since.layout.width = "200px"
        self.scale = scale_slider(50, "each model's own")
        self.own_scale = self.scale.own
        self.controls.children = (
            self.show,
            row(self.between, self.measure, self.order, self.words),
            row(self.step, self.step.play, self.since),
            row(self.scale, self.own_scale),
        )
        self.watch(self.show, self.between, self.measure, self.order, self.words, self.step, self.since)
        self.watch_scale(self.scale)
        self.picture.observe(self.guard(self._click), names="clicked")

    def load(self) -> None:
        found = [self._read(source) for source in self._sources]
        self._names, self._probes = [name for name, _ in found], [probes for _, probes in found]
        set_steps(self.step, [probe.step for probe in self._probes[0]])
        before = self.since.value
        self.since.options = [(f"step {probe.step:,}", probe.step) for probe in self._probes[0]]
        self.since.value = (
            before if any(probe.step == before for probe in self._probes[0]) else self.since.options[0][1]
        )
        captions = self._probes[0][0].captions
        if any(probe.captions != captions for probes in self._probes for probe in probes):
            raise ValueError("these runs were probed with different pairs: choose runs with the same validation data")
        if self.run is not None and not self._pictures:
            try:
                self._pictures = probe_images(self.run, captions)
            except (ValueError, OSError) as error:
                self.note.value = f"without pictures: {escape(str(error))}"

    def draw(self) -> "Figure":
        self._order = self._ordered()
        self._describe()
        if self.show.value == "sharpness":
            return sharpness_figure(sharpness(self.probe, SCALES))
        return affinity_figure(self._panels(), self.measure.value, self._chosen)

    def update(self, figure: "Figure") -> bool:
        self._order = self._ordered()
        self._describe()
        if self.show.value == "sharpness":
            return change_sharpness(figure, sharpness(self.probe, SCALES))
        return change_panels(figure, self._panels(), self.measure.value, self._chosen)

    @property
    def probe(self) -> Probe:
        """The first student's probe at the chosen step."""
        return nearest(self._probes[0], self.step.value)

    @property
    def views(self) -> list[AffinityView]:
        """The data of the matrices, one view a student, in the probe's own order."""
        scale = None if self.own_scale.value else self.scale.value
        probes = [nearest(probes, self.step.value) for probes in self._probes]
        return [affinity_view(probe, self.measure.value, self.between.value, scale, scale) for probe in probes]

    @property
    def flips(self) -> list[Flip]:
        """The first student's pairs that were found at the chosen step or at the one in "flips since", not at both."""
        self.check()
        return flips(nearest(self._probes[0], self.since.value), self.probe)

    @property
    def selection(self) -> dict[str, Any]:
        """The chosen cell: row and column as items ("image 3", "text 7") with captions, and each model's value."""
        self.check()
        first, second = self._items()
        views = self.views
        at = tuple(self._place(number) for number in self._chosen)
        teacher_PP = views[0].teacher_PP
        return {
            "step": self.probe.step,
            "row": first,
            "column": second,
            "captions": tuple(self.probe.captions[int(item.split()[1])] for item in (first, second)),
            "teacher": None if teacher_PP is None else float(teacher_PP[at]),
            "students": {name: float(view.student_PP[at]) for name, view in zip(self._names, views, strict=True)},
        }

    def choose(self, row: int, column: int) -> None:
        """Mark a cell, by its place in the picture, and show its items.

        Raises:
            ValueError: there is no such cell.
        """
        side = len(self.views[0].student_PP)
        if not (0 <= row < side and 0 <= column < side):
            raise ValueError(f"the matrix has rows and columns 0 to {side - 1} (got {row} and {column})")
        self._chosen = (row, column)
        self._show_items()
        if self._figure is not None and self.show.value == "matrices":
            mark(self._figure, self._chosen)
            self._show(self._figure)

    def _read(self, source: Source) -> tuple[str, list[Probe]]:
        """A student's name and its probes by step; the first run is the one that is followed."""
        if not isinstance(source, str | Path | RunDirectory):
            return "student", sorted(source, key=lambda probe: probe.step)
        run = open_run(source, self._runs_dir)
        self.run = self.run or run
        probes = read_probe_history(run).probes
        if not probes:
            raise ValueError(
                f"run {run.id} kept no probe pairs: it was never evaluated on validation pairs; train with "
                "--set evaluate.every_steps=20"
            )
        return run.id, probes

    def _ordered(self) -> list[int]:
        """By the teacher's neighbours at the last step, so that the order does not change while one scrubs."""
        last = self._probes[0][-1]
        said = last.teacher or last.student
        part = said.text_PD if self.between.value == "text-text" else said.image_PD
        cosine_PP = part.astype(np.float64) @ part.astype(np.float64).T
        return ordered(last.captions, self.order.value, cosine_PP, self.words.value.lower().split())

    def _panels(self) -> list[Panel]:
        views = self.views
        panels, differences, halves = [], [], self.between.value == "all"
        probes = [nearest(probes, self.step.value) for probes in self._probes]
        if views[0].teacher_PP is not None and probes[0].teacher:
            title = f"teacher   R@1 {recall_at_1(probes[0].teacher):.0%}"
            panels.append(Panel(title, in_order(views[0].teacher_PP, self._order), halves=halves))
        for name, view, probe in zip(self._names, views, probes, strict=True):
            title = f"{name}, step {probe.step:,}   R@1 {recall_at_1(probe.student):.0%}"
            panels.append(Panel(title, in_order(view.student_PP, self._order), halves=halves))
            if view.difference_PP is not None:
                apart = divergence(view)
                title = "student \N{MINUS SIGN} teacher" + ("" if apart is None else f"   KL {apart:.2f} nats")
                differences.append(Panel(title, in_order(view.difference_PP, self._order), True, halves))
        return panels + differences

    def _click(self) -> None:
        if self._figure is not None and self.show.value == "matrices":
            cell = panel_at(self._figure, *self.picture.clicked)
            if cell is not None:
                self.choose(*cell)

    def _place(self, number: int) -> int:
        """Where in the probe's own order a row or column of the picture stands."""
        num_pairs = len(self._order)
        return self._order[number % num_pairs] + (num_pairs if number >= num_pairs else 0)

    def _items(self) -> tuple[str, str]:
        """Such as "image 3", "text 7": what the chosen row and column are, by the probe's own numbers."""
        kinds = ("image", "text") if self.between.value == "all" else ()
        sides = (kinds, kinds) if kinds else tuple((kind,) for kind in self.between.value.split("-"))
        num_pairs = len(self._order)
        row_item, column_item = (
            f"{side[number // num_pairs]} {self._order[number % num_pairs]}"
            for side, number in zip(sides, self._chosen, strict=True)
        )
        return row_item, column_item

    def _show_items(self) -> None:
        """Both items of the chosen cell as cards, and what the models say of them."""
        chosen = self.selection
        cards = [
            card(
                item,
                self._pictures[int(item.split()[1])] if self._pictures and item.startswith("image") else None,
                caption,
            )
            for item, caption in zip((chosen["row"], chosen["column"]), chosen["captions"], strict=True)
        ]
        says = {"teacher": chosen["teacher"]} | chosen["students"]
        values = ", ".join(f"{escape(name)} {value:.3f}" for name, value in says.items() if value is not None)
        self.cards.value = f'<div style="margin:6px 0">{"".join(cards)}</div>{self.measure.value}: {values}'

    def _describe(self) -> None:
        """The cell, how sharp the affinities are, and who flipped."""
        side = len(self._order) * (2 if self.between.value == "all" else 1)
        self._chosen = (min(self._chosen[0], side - 1), min(self._chosen[1], side - 1))
        self._problem = None
        self._show_items()
        found = flips(nearest(self._probes[0], self.since.value), self.probe)
        lines = [sharpness_line(self.probe, None if self.own_scale.value else self.scale.value)]
        lines += [flip_line("found since", [flip for flip in found if flip.is_gain])]
        lines += [flip_line("lost since", [flip for flip in found if not flip.is_gain])]
        self.note.value = "<br>".join(line for line in lines if line)
