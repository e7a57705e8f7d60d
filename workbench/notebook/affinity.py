"""``AffinityExplorer``: affinity matrices of teacher and students, and their differences."""

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
    mark,
    model_panels,
    panel_at,
    probe_order,
    sharpness_figure,
)
from workbench.models.names import folder_name
from workbench.notebook.controls import ClickableImage, buttons, card, row, scale_slider, set_steps, step_slider
from workbench.notebook.explorer import Explorer, default_runs_dir, nearest, open_run
from workbench.notebook.released import is_model, model_probe
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Probe, read_snapshot_history
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
    flips,
    sharpness,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Source = str | Path | RunDirectory | Sequence[Probe]
SHOWN = ("matrices", "sharpness")
SCALES = tuple(np.geomspace(1, 200, 60).tolist())
WORDS = "red orange yellow green cyan blue purple black"  # colors in the sample scenes

FLAT, ONE_HOT = 0.5, 1.5  # effective number of texts: as a share of all; absolute


class AffinityExplorer(Explorer):
    """Affinity matrices of a run's probe pairs: teacher, student and difference, on one scale and in one order.

    A click on a cell shows both of its items.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, probes (see :func:`probe_of` for embeddings), or the SPEC
            of a model without a run, such as a released student's file.
        others: more students, each with its teacher, at the step nearest to the selected one.
        between: "image-text", "image-image", "text-text", or "all" (the 2P × 2P matrix).
        measure: "affinity" (softmax) or "cosine".
        order: "index", "words" or "cluster" (by the teacher's similarities).
        words: for order "words", pairs are grouped by the first of these words in their captions.
        runs_dir: the runs folder; ``runs`` if not given.
        data: SPEC of the pairs that models without a run encode; by default the first run's validation pairs.
        teacher: SPEC of their teacher; by default the first run's.

    Attributes:
        selection: the selected cell: its two items, and each model's value.
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
        data: str = "",
        teacher: str = "",
    ) -> None:
        super().__init__()
        self._sources, self._runs_dir = (source, *others), runs_dir
        self._data, self._teacher = data, teacher
        self._of_models: dict[str, Probe] = {}  # they do not change while a run is followed
        self._probes: list[list[Probe]] = []
        self._names: list[str] = []
        self._order: list[int] = []
        self._images: list[bytes] = []
        self._chosen = (0, 0)
        self.image = ClickableImage(layout=widgets.Layout(max_width="100%", display="none"))
        self.cards = widgets.HTML()
        self.widget.children = (self.controls, self.image, self.cards, self.note, self.message)
        self._make_controls(between, measure, order, words)
        self.refresh()

    def _make_controls(self, between: Between, measure: Measure, order: Order, words: str) -> None:
        self.show = buttons(SHOWN, SHOWN[0])
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
        self.image.observe(self.guard(self._click), names="clicked")

    def load(self) -> None:
        found: list[tuple[str, list[Probe]]] = []
        for source in self._sources:
            found.append(self._read(source, found[0][1][0].captions if found else ()))
        self._names, self._probes = [name for name, _ in found], [probes for _, probes in found]
        set_steps(self.step, [probe.step for probe in self._probes[0]])
        before = self.since.value
        self.since.options = [(f"step {probe.step:,}", probe.step) for probe in self._probes[0]]
        steps = [step for _, step in self.since.options]
        self.since.value = before if before in steps else steps[0]
        captions = self._probes[0][0].captions
        if any(probe.captions != captions for probes in self._probes for probe in probes):
            raise ValueError("these runs have different probe pairs: choose runs with the same validation data")
        if self.run is not None and not self._images:
            try:
                self._images = probe_images(self.run, captions)
            except (ValueError, OSError) as error:
                self.note.value = f"images not available: {escape(str(error))}"

    def draw(self) -> "Figure":
        self._order = self._ordered()
        self._describe()
        if self.show.value == "sharpness":
            return sharpness_figure(sharpness(self.probe, SCALES), self.earlier)
        return affinity_figure(self._panels(), self.measure.value, self._chosen, self.earlier)

    @property
    def probe(self) -> Probe:
        """The first student's probe at the selected step."""
        return nearest(self._probes[0], self.step.value)

    @property
    def views(self) -> list[AffinityView]:
        """The matrices, one view for each student, in the order of the probe."""
        scale = None if self.own_scale.value else self.scale.value
        probes = [nearest(probes, self.step.value) for probes in self._probes]
        return [affinity_view(probe, self.measure.value, self.between.value, scale, scale) for probe in probes]

    @property
    def flips(self) -> list[Flip]:
        """The first student's pairs with rank 1 at only one of the selected step and the step in "flips since"."""
        self.check()
        return flips(nearest(self._probes[0], self.since.value), self.probe)

    @property
    def selection(self) -> dict[str, Any]:
        """The selected cell: row and column as items ("image 3", "text 7") with captions, and each model's value."""
        self.check()
        views, items = self.views, self._items()
        # Of "all", the matrix has the images first and then the texts.
        at = tuple(number + (kind == "text") * self._has_both * len(self._order) for kind, number in items)
        teacher_PP = views[0].teacher_PP
        return {
            "step": self.probe.step,
            "row": f"{items[0][0]} {items[0][1]}",
            "column": f"{items[1][0]} {items[1][1]}",
            "captions": tuple(self.probe.captions[number] for _, number in items),
            "teacher": None if teacher_PP is None else float(teacher_PP[at]),
            "students": {name: float(view.student_PP[at]) for name, view in zip(self._names, views, strict=True)},
        }

    @property
    def _has_both(self) -> bool:
        """Whether rows and columns are both images and texts."""
        return bool(self.between.value == "all")

    def _items(self) -> list[tuple[str, int]]:
        """Kind and index in the probe of the selected row and column."""
        num_pairs = len(self._order)
        kinds = [("image", "text")] * 2 if self._has_both else [(kind,) for kind in self.between.value.split("-")]
        return [
            (kinds_of[number // num_pairs], self._order[number % num_pairs])
            for kinds_of, number in zip(kinds, self._chosen, strict=True)
        ]

    def choose(self, row: int, column: int) -> None:
        """Select a cell by its row and column in the figure, and show its items.

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
            self.show_figure(self._figure)

    def _read(self, source: Source, captions: Sequence[str]) -> tuple[str, list[Probe]]:
        """A student's name and its probes by step. The first run is followed while it trains.

        Args:
            captions: of the probe pairs before it; none for the first source.
        """
        if not isinstance(source, str | Path | RunDirectory):
            return "student", sorted(source, key=lambda probe: probe.step)
        runs_dir = self._runs_dir or default_runs_dir()
        if not isinstance(source, RunDirectory) and is_model(source, runs_dir):
            name = str(source)
            if name not in self._of_models:
                self._of_models[name] = model_probe(name, self._data, self._teacher, runs_dir, self.run, captions)
            return folder_name(name), [self._of_models[name]]
        run = open_run(source, self._runs_dir)
        self.run = self.run or run
        probes = read_snapshot_history(run, Probe).snapshots
        if not probes:
            raise ValueError(
                f"run {run.id} has no probe pairs: train with validation data and --set evaluate.every_steps=20"
            )
        return run.id, probes

    def _ordered(self) -> list[int]:
        """The order of the pairs, by the outputs at the last step so that it is the same at every step."""
        texts, words = self.between.value == "text-text", self.words.value.lower().split()
        return probe_order(self._probes[0][-1], self.order.value, texts=texts, words=words)

    def _panels(self) -> list[Panel]:
        probes = [nearest(probes, self.step.value) for probes in self._probes]
        names = [f"{name}, step {probe.step:,}" for name, probe in zip(self._names, probes, strict=True)]
        return model_panels(names, probes, self.views, self._order, halves=self._has_both)

    def _click(self) -> None:
        if self._figure is not None and self.show.value == "matrices":
            cell = panel_at(self._figure, *self.image.clicked)
            if cell is not None:
                self.choose(*cell)

    def _show_items(self) -> None:
        """Show both items of the selected cell as cards, and each model's value."""
        chosen, cards = self.selection, []
        for kind, number in self._items():
            image = self._images[number] if self._images and kind == "image" else None
            cards.append(card(f"{kind} {number}", image, self.probe.captions[number]))
        by_model = {"teacher": chosen["teacher"]} | chosen["students"]
        values = ", ".join(f"{escape(name)} {value:.3f}" for name, value in by_model.items() if value is not None)
        self.cards.value = f'<div style="margin:6px 0">{"".join(cards)}</div>{self.measure.value}: {values}'

    def _describe(self) -> None:
        """Show the selected cell, the sharpness of the affinities, and the flips."""
        last = len(self._order) * (1 + self._has_both) - 1
        self._chosen = (min(self._chosen[0], last), min(self._chosen[1], last))
        self._show_items()
        found = flips(nearest(self._probes[0], self.since.value), self.probe)
        lines = [sharpness_line(self.probe, None if self.own_scale.value else self.scale.value)]
        lines += [flip_line("gained since", [flip for flip in found if flip.is_gain])]
        lines += [flip_line("lost since", [flip for flip in found if not flip.is_gain])]
        self.note.value = "<br>".join(line for line in lines if line)


def sharpness_line(probe: Probe, scale: float | None) -> str:
    """The effective number of texts in each model's affinities, at scale 1/τ or at each model's learned scale."""
    parts, num_pairs = [], len(probe.captions)
    for name, model in (("teacher", probe.teacher), ("student", probe.student)):
        if model is not None:
            at = model.scale if scale is None else scale
            num_texts = float(sharpness(Probe(0, probe.captions, model), [at]).student_N[0])
            hint = " (almost one-hot: little more than the label)" if num_texts < ONE_HOT else ""
            hint = " (almost uniform: little information)" if num_texts > FLAT * num_pairs else hint
            parts.append(f"{name} at 1/τ = {at:.3g}: {num_texts:.1f}{hint}")
    return f"effective number of texts in an image's affinity, of {num_pairs}: " + "; ".join(parts)


def flip_line(title: str, found: Sequence[Flip]) -> str:
    """The number of flips as HTML, with the captions of the first three."""
    names = "; ".join(escape(flip.caption) for flip in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{title}: <b>{len(found)}</b>" + (f" ({names}{more})" if found else "")
