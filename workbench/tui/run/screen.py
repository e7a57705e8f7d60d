"""The screen of one run: its curves, masks, gradients, probe pairs, settings and events."""

import asyncio
import json
import time
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TabPane

from workbench.events import Commanded, RunFinished, Warned
from workbench.runs.directory import RunDirectory
from workbench.runs.suites import modified_ns, read_results
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Plot, plots_table
from workbench.tui.dialogs import KeyFooter
from workbench.tui.follow import SnapshotReader
from workbench.tui.host import is_in_view
from workbench.tui.label import Label
from workbench.tui.run.actions import RunActions
from workbench.tui.run.affinity import AffinityPane
from workbench.tui.run.panes import (
    config_text,
    events_text,
    gradients_text,
    head_text,
    layers_text,
    paper_text,
    suites_text,
)
from workbench.tui.run.plots import (
    loss_plots,
    mask_plots,
    metric_plots,
    note_text,
    share_plot,
    speed_plots,
    step_at,
)
from workbench.tui.tabs import LENS_KEYS, Panes, Reading, pane_keys
from workbench.tui.text import Table

ROOM_FOR_TWO = 30  # rows of the terminal
REFRESH_S = 1.0
CATCH_UP_S = 0.1
SNAPSHOTS_EVERY_S = 5.0
PANES = ("loss", "metrics", "speed", "masks", "gradients", "affinity", "config", "events")
WITH_SNAPSHOTS = ("masks", "gradients", "affinity")


class RunScreen(RunActions):
    """Follows one run, live or ended, while the screen is open."""

    DEFAULT_CSS = """
    RunScreen #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *pane_keys(PANES),
        *LENS_KEYS,
        Binding("p", "paper", "differences from the paper's settings", show=False),
        *RunActions.KEYS,
    ]
    PANES = PANES

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(run)
        self.snapshot_reader = SnapshotReader(run)
        self._drawn: dict[str, object] = {}  # the versions of the data that each pane was drawn from
        self._num_notes = -1  # notes so far; -1 until the log's past has been read: only new notes are notified
        self._snapshots_read_s = 0.0
        self._paper: Text | None = None
        self._state_drawn = ""

    def compose(self) -> ComposeResult:
        yield Label(id="head")
        with Panes(id="panes"):
            with TabPane("1 loss", id="loss"):
                yield Charts(self.lens, classes="-filling", id="loss-charts")
            with TabPane("2 metrics", id="metrics"), Reading(can_focus=False):
                yield Charts(self.lens, id="metrics-charts")
                yield Label(id="suites")
            with TabPane("3 speed", id="speed"), Reading(can_focus=False):
                yield Charts(self.lens, id="speed-charts")
            with TabPane("4 masks", id="masks"), Reading():
                yield Charts(self.lens, id="masks-charts")
                yield Label(id="layers")
            with TabPane("5 grads", id="gradients"), Reading():
                yield Charts(self.lens, id="gradients-charts")
                yield Label(id="cosines")
            with TabPane("6 affinity", id="affinity"):
                yield AffinityPane(self.run_directory, id="pairs")
            with TabPane("7 config", id="config"), Reading():
                yield Label(id="settings")
            with TabPane("8 events", id="events"), Reading():
                yield Label(id="notes")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.apply_preferences()
        self.action_pane(self.app.preferences.pane if self.app.preferences.pane in PANES else PANES[0])
        self.tick()
        self.set_interval(REFRESH_S, self.tick)

    def on_resize(self) -> None:
        self.draw(force=True)

    @property
    def export_name(self) -> str:
        """The stem of exported files."""
        return f"{self.run_directory.id}-{self.pane}"

    def tick(self) -> None:
        """Read new events; if there are many, continue after a short pause in which keys are handled."""
        if self.follower.poll():
            self.set_timer(CATCH_UP_S, self.tick)
        else:
            self._notify_news()
        if is_in_view(self):
            self.draw()

    def _notify_news(self) -> None:
        """Notify of new answers to commands, warnings, and the end of the run."""
        history = self.follower.history
        num_notes = history.num_notes_lost + len(history.notes)
        if 0 <= self._num_notes < num_notes:
            for event in list(history.notes)[self._num_notes - num_notes :]:
                if isinstance(event, Commanded | Warned | RunFinished):
                    text = f"{self.run_directory.id}: {note_text(event)}"
                    self.app.show_notice(text, is_error=isinstance(event, Warned))
        self._num_notes = num_notes

    def draw(self, *, force: bool = False) -> None:
        """Update the header and the active pane; the pane only if its data changed, unless forced."""
        if not self.children:
            return  # the screen is being closed
        head = head_text(self.follower, self.size.width, self.app.theme_variables)
        self.query_one("#head", Label).update(head, layout=False)
        if self._state != self._state_drawn:
            self._state_drawn = self._state
            self.refresh_bindings()
        pane = self.pane
        if pane in WITH_SNAPSHOTS:
            self._read_snapshots()
        readings = self.follower.num_polls, self.snapshot_reader.num_readings, modified_ns(self.run_directory.suites)
        basis = (*readings, self.follower.problem, self._paper)
        if force or self._drawn.get(pane) != basis:
            self._drawn[pane] = basis
            getattr(self, f"_draw_{pane}")()
            self.update_lens_keys()

    def _read_snapshots(self) -> None:
        # In a thread: thousands of snapshots take seconds, in which keys must be handled.
        if time.monotonic() - self._snapshots_read_s > SNAPSHOTS_EVERY_S and self.snapshot_reader.is_stale():
            self._snapshots_read_s = time.monotonic()
            self.run_worker(self._fetch_snapshots(), exclusive=True, group="snapshots", exit_on_error=False)

    async def _fetch_snapshots(self) -> None:
        await asyncio.to_thread(self.snapshot_reader.read)
        self.draw()

    def _show_charts(self, plots: list[Plot]) -> None:
        self.query_one(f"#{self.pane}-charts", Charts).show(plots)

    def _draw_loss(self) -> None:
        plots = loss_plots(self.follower.history)
        self._show_charts(plots if self.size.height >= ROOM_FOR_TWO else plots[:1])

    def _draw_metrics(self) -> None:
        self._show_charts(metric_plots(self.follower.history))
        self._draw_suites()

    def _draw_suites(self) -> None:
        # Their files are written long after the run has ended, by another process.
        shown, text = self.query_one("#suites", Label), suites_text(read_results(self.run_directory.suites))
        shown.display = bool(text)
        shown.update(text)

    def _draw_speed(self) -> None:
        self._show_charts(speed_plots(self.follower.history))

    def _draw_masks(self) -> None:
        self._show_charts(mask_plots(self.follower.history))
        self._draw_layers()

    def _draw_layers(self) -> None:
        step = self.lens.cursor
        if step is not None and self.lens.axis == "time":
            step = step_at(step, self.follower.history)
        layers = self.query_one("#layers", Label)
        layers.update(layers_text(self.snapshot_reader, step, max(20, self.size.width - 4)))

    def _draw_gradients(self) -> None:
        self._show_charts([share_plot(self.snapshot_reader.gradients, self.follower.history)])
        self.query_one("#cosines", Label).update(gradients_text(self.snapshot_reader.gradients))

    def _draw_affinity(self) -> None:
        self.query_one(AffinityPane).show(self.snapshot_reader.probes)

    def _draw_config(self) -> None:
        text = config_text(self.run_directory)
        if self._paper is not None:
            text = Text.assemble(self._paper, "\n", text)
        self.query_one("#settings", Label).update(text)

    def _draw_events(self) -> None:
        self.query_one("#notes", Label).update(events_text(self.follower.history, self.follower.problem))

    def redraw_charts(self) -> None:
        """Draw the charts again, and the layers at the cursor's step."""
        super().redraw_charts()
        if self.pane == "masks":
            self._draw_layers()

    def on_tabbed_content_tab_activated(self) -> None:
        self.app.preferences.pane = self.pane
        self.app.save_preferences()
        self.draw(force=True)

    def table(self) -> Table:
        """The data to export or copy: the points of the charts, or the lines of the pane."""
        if plots := self.plots:
            return plots_table(plots)
        if self.pane == "affinity":
            return self.query_one(AffinityPane).table()
        text = config_text(self.run_directory) if self.pane == "config" else events_text(self.follower.history, "")
        return ["line"], [[line] for line in text.plain.splitlines()]

    def action_paper(self) -> None:
        self.action_pane("config")
        self.app.show_notice("comparing with the paper's settings; this takes a few seconds")
        command = ["runs", "show", str(self.run_directory.path), "--departures", "--json"]
        self.app.run_command(command, self._show_paper)

    def _show_paper(self, answer: str) -> None:
        self._paper = paper_text(json.loads(answer)["departures"])
        self.draw()
