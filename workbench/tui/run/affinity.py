"""The pane of the probe pairs: three matrices through training, and what the cell at the cursor is about."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from workbench.runs.probe_snapshots import Probe
from workbench.tui.charts.heat import Heat
from workbench.tui.export import Table
from workbench.tui.words import number, plain
from workbench.views.affinity import MEASURES, AffinityView, Measure, affinity_view

NO_PROBES = "no probe pairs yet: they come with every evaluation on validation pairs"


class AffinityPane(Vertical):
    """Follows the newest probe until one scrubs to an earlier one."""

    DEFAULT_CSS = """
    AffinityPane #when { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    AffinityPane #cell { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._probes: tuple[Probe, ...] = ()
        self._at: int | None = None  # None follows the newest
        self._measure: Measure = "affinity"

    def compose(self) -> ComposeResult:
        """When it was, the matrices, and the cell."""
        yield Static("", id="when", markup=False)
        yield Heat(id="heat")
        yield Static("", id="cell", markup=False)

    def show(self, probes: tuple[Probe, ...]) -> None:
        """Draws these probes, in the order of their steps."""
        self._probes = probes
        self._draw()

    @property
    def probe(self) -> Probe | None:
        """The one that is drawn."""
        if not self._probes:
            return None
        return self._probes[-1 if self._at is None else min(self._at, len(self._probes) - 1)]

    def _draw(self) -> None:
        probe = self.probe
        heat = self.query_one(Heat)
        heat.show(affinity_view(probe, self._measure) if probe else None)
        self.query_one("#when", Static).update(self._when(probe), layout=False)
        self._draw_cell()

    def _when(self, probe: Probe | None) -> Text:
        if probe is None:
            return Text(NO_PROBES, "italic")
        place = self._probes.index(probe) + 1
        said = "softmax of a picture's cosines over the texts" if self._measure == "affinity" else "cosines"
        text = Text(f"after step {probe.step:,}", "bold")
        return text.append(f"  {place} of {len(self._probes)}, < and > go through them; {said}", "not bold")

    def _draw_cell(self) -> None:
        heat = self.query_one(Heat)
        text = cell_text(heat.view, heat.place.picture, heat.place.text) if heat.view else Text()
        self.query_one("#cell", Static).update(text, layout=False)

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
    found.append(f"picture {picture + 1}: ", "dim").append(plain(view.captions[picture]) + "\n")
    found.append(f"text {text + 1}: ", "dim").append(plain(view.captions[text]))
    return found.append("  (its own)" if picture == text else "", "dim")
